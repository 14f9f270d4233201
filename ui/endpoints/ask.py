"""The page «Ask»: SQL of viewers, and what there is to ask about."""

from __future__ import annotations

from typing import Any

import duckdb
import msgspec
from aiohttp import web

from ui import queries
from ui.answers import json_response, read_body
from ui.backend import Backend
from ui.endpoints.alarms import VIEWER


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """A query. `client` names the open page, so that a new query of the same page ends the one before."""

    sql: str
    client: str = ""


class AskEndpoints:
    """Queries, and the names that they can use."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def ask(self, request: web.Request) -> web.Response:
        """The answer of a query: columns, types and rows, or why there is none (in `error`, with status 200)."""
        question = await read_body(request, Question)
        answer = await self._backend.queries.ask(_client(request, question), question.sql)
        return await json_response(request, answer)

    async def cancel(self, request: web.Request) -> web.Response:
        """End the query of the same page, if one runs."""
        self._backend.queries.cancel(_client(request, await read_body(request, Question)))
        return await json_response(request, {})

    async def schema(self, request: web.Request) -> web.Response:
        """Tables, views and macros with their columns and comments."""
        return await json_response(request, await self._backend.tables.kept("schema", _schema))


def _client(request: web.Request, question: Question) -> str:
    return f"{request[VIEWER].name}\n{question.client[:100]}"


def _schema(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    tables = connection.execute(queries.TABLES).fetchall()
    macros = connection.execute(queries.MACROS).fetchall()
    return {
        "tables": [{"name": name, "comment": comment, "columns": columns} for name, comment, columns in tables],
        "macros": [{"name": n, "parameters": parameters, "comment": c} for n, parameters, c in macros],
    }
