"""A client that has signed in: its messages in, answers out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sql_server import protocol
from sql_server.calls import Run
from sql_server.commands import Action, command
from sql_server.errors import (
    DUPLICATE_STATEMENT,
    PROTOCOL,
    SYNTAX,
    SqlError,
)
from sql_server.lexer import statements
from sql_server.processes import QueryProcesses
from sql_server.results import Portal, Prepared
from sql_server.runner import StatementRunner
from sql_server.session import Session
from sql_server.wire import Wire

_IDLE_RESULT_SECONDS = 60.0
_NO_FORMATS: tuple[int, ...] = ()


class Client:
    """Answers one client's messages until it leaves. A statement is answered before the next message is read."""

    def __init__(
        self, wire: Wire, session: Session, processes: QueryProcesses, verify: Callable[[], Awaitable[None]]
    ) -> None:
        self._wire, self._session, self._verify = wire, session, verify
        self._runner = StatementRunner(wire, session, processes)
        self.running = self._runner.running
        self._skipping = False
        self._handlers: dict[bytes, Callable[[bytes], Awaitable[None]]] = {
            b"P": self._parse,
            b"B": self._bind,
            b"D": self._describe,
            b"E": self._execute,
            b"C": self._close,
        }

    async def serve(self) -> None:
        """Until the client leaves. SqlError where it has to: its messages cannot be read, or its key was revoked."""
        try:
            while (message := await self._next()) is not None:
                kind, content = message
                if kind == b"X":
                    return
                await self._answer(kind, content)
        finally:
            self._runner.statements.end_transaction()

    async def _next(self) -> tuple[bytes, bytes] | None:
        if not self._runner.statements.holding:
            return await self._wire.read()
        try:
            return await self._wire.read(_IDLE_RESULT_SECONDS)
        except TimeoutError:
            self._runner.statements.lose_results()
            return await self._wire.read()

    async def _answer(self, kind: bytes, content: bytes) -> None:
        if kind == b"Q":
            await self._verify()
            await self._simple(protocol.Reader(content).string())
        elif kind == b"S":
            self._skipping = False
            if self._session.status == "I":
                for name in list(self._runner.statements.portals):
                    self._runner.statements.close_portal(name)
            await self._ready()
        elif kind == b"H":
            await self._wire.flush()
        elif kind in self._handlers:
            if self._skipping:
                return
            try:
                if kind == b"P":
                    await self._verify()
                await self._handlers[kind](content)
            except SqlError as error:
                self._skipping = True
                self._failed(error)
        elif kind in b"dcf":  # rows for a COPY that was refused
            return
        else:
            raise SqlError(PROTOCOL, f"unknown message type {kind!r}")

    async def _ready(self) -> None:
        self._wire.write(protocol.ready(self._session.status))
        await self._wire.flush()

    def _failed(self, error: SqlError) -> None:
        self._session.fail()
        self._wire.write(protocol.error_response(error))

    # Simple protocol

    async def _simple(self, text: str) -> None:
        queries = statements(text)
        if not queries:
            self._wire.write(protocol.EMPTY_QUERY)
        try:
            for statement in queries:
                asked = command(statement)
                self._session.require_usable(asked)
                portal = Portal(Prepared(statement, asked), Run(statement))
                try:
                    await self._runner.perform(portal, 0, describe=True)
                finally:
                    portal.close()
        except SqlError as error:
            self._failed(error)
        await self._ready()

    # Extended protocol

    async def _parse(self, content: bytes) -> None:
        parse = protocol.read_parse(content)
        queries = statements(parse.query)
        if len(queries) > 1:
            raise SqlError(SYNTAX, "cannot insert multiple commands into a prepared statement")
        if parse.name and parse.name in self._runner.statements.prepared:
            raise SqlError(DUPLICATE_STATEMENT, f'prepared statement "{parse.name}" already exists')
        query = queries[0] if queries else ""
        asked = command(query)
        self._session.require_usable(asked)
        described = await self._runner.described(query, parse.oids) if asked.action is Action.QUERY else None
        self._runner.statements.prepared[parse.name] = Prepared(query, asked, described)
        self._wire.write(protocol.PARSE_COMPLETE)

    async def _bind(self, content: bytes) -> None:
        bind = protocol.read_bind(content)
        prepared = self._runner.prepared(bind.statement)
        oids = prepared.described.oids if prepared.described else ()
        if len(oids) != len(bind.values):
            raise SqlError(
                PROTOCOL, f"bind message supplies {len(bind.values)} parameters, but the statement needs {len(oids)}"
            )
        run = Run(prepared.query, oids, bind.formats, bind.values, bind.result_formats)
        self._runner.statements.put_portal(bind.portal, Portal(prepared, run))
        self._wire.write(protocol.BIND_COMPLETE)

    async def _describe(self, content: bytes) -> None:
        kind, name = protocol.read_target(content)
        if kind == "S":
            prepared = self._runner.prepared(name)
            oids = prepared.described.oids if prepared.described else ()
            self._wire.write(protocol.parameter_description(oids))
            columns, formats = self._runner.columns(prepared), _NO_FORMATS
        else:
            portal = self._runner.portal(name)
            if name in self._runner.statements.cursors:
                await self._runner.start(portal)
            else:
                portal.columns = self._runner.columns(portal.prepared)
            columns, formats = portal.columns, portal.run.result_formats
        self._wire.write(protocol.NO_DATA if columns is None else protocol.row_description(columns, formats))

    async def _execute(self, content: bytes) -> None:
        name, most = protocol.read_execute(content)
        portal = self._runner.portal(name)
        self._session.require_usable(portal.prepared.command)
        await self._runner.perform(portal, most, describe=False)

    async def _close(self, content: bytes) -> None:
        kind, name = protocol.read_target(content)
        if kind == "S":
            self._runner.statements.prepared.pop(name, None)
        else:
            self._runner.statements.close_portal(name)
        self._wire.write(protocol.CLOSE_COMPLETE)
