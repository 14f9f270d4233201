"""A client that has signed in: its messages in, answers out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from sql_server import protocol
from sql_server.calls import Describe, Described, Run
from sql_server.commands import Action, Command, command
from sql_server.errors import (
    DUPLICATE_CURSOR,
    DUPLICATE_STATEMENT,
    NO_SUCH_CURSOR,
    NO_SUCH_STATEMENT,
    NOT_SUPPORTED,
    PROTOCOL,
    SYNTAX,
    SqlError,
)
from sql_server.lexer import statements
from sql_server.processes import Budget, QueryProcesses
from sql_server.protocol import Column
from sql_server.results import Portal, Prepared, Running, Statements, started
from sql_server.session import REPORTED, Session
from sql_server.types import TEXT
from sql_server.wire import Wire

_IDLE_RESULT_SECONDS = 60.0
_SHOWN = TEXT
NO_FORMATS: tuple[int, ...] = ()


class Client:
    """Answers one client's messages until it leaves. A statement is answered before the next message is read."""

    def __init__(
        self, wire: Wire, session: Session, processes: QueryProcesses, verify: Callable[[], Awaitable[None]]
    ) -> None:
        self.running = Running()
        self._wire, self._session, self._processes, self._verify = wire, session, processes, verify
        self._statements = Statements()
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
            self._statements.end_transaction()

    async def _next(self) -> tuple[bytes, bytes] | None:
        if not self._statements.holding:
            return await self._wire.read()
        try:
            return await self._wire.read(_IDLE_RESULT_SECONDS)
        except TimeoutError:
            self._statements.lose_results()
            return await self._wire.read()

    async def _answer(self, kind: bytes, content: bytes) -> None:
        if kind == b"Q":
            await self._verify()
            await self._simple(protocol.Reader(content).string())
        elif kind == b"S":
            self._skipping = False
            if self._session.status == "I":
                for name in list(self._statements.portals):
                    self._statements.close_portal(name)
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
        found = statements(text)
        if not found:
            self._wire.write(protocol.EMPTY_QUERY)
        try:
            for statement in found:
                asked = command(statement)
                self._session.require_usable(asked)
                portal = Portal(Prepared(statement, asked), Run(statement))
                try:
                    await self._perform(portal, 0, describe=True)
                finally:
                    portal.close()
        except SqlError as error:
            self._failed(error)
        await self._ready()

    # Extended protocol

    async def _parse(self, content: bytes) -> None:
        parse = protocol.read_parse(content)
        found = statements(parse.query)
        if len(found) > 1:
            raise SqlError(SYNTAX, "cannot insert multiple commands into a prepared statement")
        if parse.name and parse.name in self._statements.prepared:
            raise SqlError(DUPLICATE_STATEMENT, f'prepared statement "{parse.name}" already exists')
        query = found[0] if found else ""
        asked = command(query)
        self._session.require_usable(asked)
        described = await self._described(query, parse.oids) if asked.action is Action.QUERY else None
        self._statements.prepared[parse.name] = Prepared(query, asked, described)
        self._wire.write(protocol.PARSE_COMPLETE)

    async def _described(self, query: str, oids: tuple[int, ...]) -> Described:
        async with self._processes.process() as process:
            self.running.process = process
            try:
                seconds = self._session.seconds(self._processes.limits.seconds)
                answer = await Budget(seconds).call(process, Describe(query, oids))
            finally:
                self.running.process = None
        if isinstance(answer, SqlError):
            raise answer
        assert isinstance(answer, Described)
        return answer

    async def _bind(self, content: bytes) -> None:
        bind = protocol.read_bind(content)
        prepared = self._prepared(bind.statement)
        oids = prepared.described.oids if prepared.described else ()
        if len(oids) != len(bind.values):
            raise SqlError(
                PROTOCOL, f"bind message supplies {len(bind.values)} parameters, but the statement needs {len(oids)}"
            )
        run = Run(prepared.query, oids, bind.formats, bind.values, bind.result_formats)
        self._statements.put_portal(bind.portal, Portal(prepared, run))
        self._wire.write(protocol.BIND_COMPLETE)

    async def _describe(self, content: bytes) -> None:
        kind, name = protocol.read_target(content)
        if kind == "S":
            prepared = self._prepared(name)
            oids = prepared.described.oids if prepared.described else ()
            self._wire.write(protocol.parameter_description(oids))
            columns, formats = self._columns(prepared), NO_FORMATS
        else:
            portal = self._portal(name)
            if name in self._statements.cursors:
                await self._start(portal)
            else:
                portal.columns = self._columns(portal.prepared)
            columns, formats = portal.columns, portal.run.result_formats
        self._wire.write(protocol.NO_DATA if columns is None else protocol.row_description(columns, formats))

    def _columns(self, prepared: Prepared) -> tuple[Column, ...] | None:
        if prepared.described is not None:
            return prepared.described.columns
        match prepared.command.action:
            case Action.SHOW:
                return (Column(prepared.command.name, _SHOWN.oid, _SHOWN.size),)
            case Action.FETCH:
                return None if prepared.command.tag == "MOVE" else self._cursor(prepared.command.name).columns
        return None

    async def _execute(self, content: bytes) -> None:
        name, most = protocol.read_execute(content)
        portal = self._portal(name)
        self._session.require_usable(portal.prepared.command)
        await self._perform(portal, most, describe=False)

    async def _close(self, content: bytes) -> None:
        kind, name = protocol.read_target(content)
        if kind == "S":
            self._statements.prepared.pop(name, None)
        else:
            self._statements.close_portal(name)
        self._wire.write(protocol.CLOSE_COMPLETE)

    def _prepared(self, name: str) -> Prepared:
        if (found := self._statements.prepared.get(name)) is None:
            raise SqlError(NO_SUCH_STATEMENT, f'prepared statement "{name}" does not exist')
        return found

    def _portal(self, name: str) -> Portal:
        found = self._statements.portals.get(name) or self._statements.cursors.get(name)  # a cursor is a portal
        if found is None:
            raise SqlError(NO_SUCH_CURSOR, f'portal "{name}" does not exist')
        return found

    def _cursor(self, name: str) -> Portal:
        if (found := self._statements.cursors.get(name)) is None:
            raise SqlError(NO_SUCH_CURSOR, f'cursor "{name}" does not exist')
        return found

    # What statements do

    async def _perform(self, portal: Portal, most: int, *, describe: bool) -> None:
        asked = portal.prepared.command
        match asked.action:
            case Action.NOTHING:
                self._wire.write(protocol.EMPTY_QUERY)
            case Action.QUERY:
                await self._send(portal, most, describe=describe, tag="SELECT")
            case Action.FETCH:
                await self._fetch(asked, describe=describe)
            case Action.SHOW:
                self._show(asked, describe=describe)
            case _:
                self._wire.write(protocol.command_complete(self._carried_out(asked)))

    def _carried_out(self, asked: Command) -> str:
        """Do what needs no rows; returns the tag."""
        match asked.action:
            case Action.BEGIN:
                self._session.begin()
            case Action.COMMIT | Action.ROLLBACK:
                self._statements.end_transaction()
                return self._session.end(asked)
            case Action.SET:
                self._set(asked)
            case Action.DEALLOCATE if asked.name:
                self._prepared(asked.name)
                del self._statements.prepared[asked.name]
            case Action.DEALLOCATE:
                self._statements.prepared.clear()
            case Action.DISCARD:
                self._statements.prepared.clear()
                self._statements.end_transaction()
            case Action.DECLARE:
                self._declare(asked)
            case Action.CLOSE if asked.name:
                if not self._statements.close_cursor(asked.name):
                    raise SqlError(NO_SUCH_CURSOR, f'cursor "{asked.name}" does not exist')
            case Action.CLOSE:
                for name in list(self._statements.cursors):
                    self._statements.close_cursor(name)
        return asked.tag

    def _set(self, asked: Command) -> None:
        if remark := self._session.set(asked.name, asked.text):
            self._wire.write(protocol.notice(remark))
        elif asked.name in REPORTED:
            self._wire.write(protocol.parameter_status(asked.name, self._session.settings[asked.name]))

    def _show(self, asked: Command, *, describe: bool) -> None:
        if describe:
            self._wire.write(protocol.row_description([Column(asked.name, _SHOWN.oid, _SHOWN.size)]))
        self._wire.write(protocol.data_row([self._session.settings[asked.name].encode()]))
        self._wire.write(protocol.command_complete("SHOW"))

    def _declare(self, asked: Command) -> None:
        if asked.name in self._statements.cursors:
            raise SqlError(DUPLICATE_CURSOR, f'cursor "{asked.name}" already exists')
        inner = command(asked.text)
        if inner.action is not Action.QUERY:
            raise SqlError(NOT_SUPPORTED, "a cursor reads a query")
        self._statements.cursors[asked.name] = Portal(Prepared(asked.text, inner), Run(asked.text))

    async def _fetch(self, asked: Command, *, describe: bool) -> None:
        cursor = self._cursor(asked.name)
        await self._start(cursor)
        assert cursor.result is not None
        if asked.tag == "MOVE":
            describe = False
        elif describe:
            self._wire.write(protocol.row_description(cursor.result.columns, cursor.run.result_formats))
        sent = 0 if cursor.complete else await self._pump(cursor, asked.count, quiet=asked.tag == "MOVE")
        self._wire.write(protocol.command_complete(f"{asked.tag} {sent}"))

    async def _send(self, portal: Portal, most: int, *, describe: bool, tag: str) -> None:
        """The rows of a query, or the next ones."""
        await self._start(portal)
        assert portal.result is not None
        if describe:
            self._wire.write(protocol.row_description(portal.result.columns, portal.run.result_formats))
        if not portal.complete:
            portal.rows_sent += await self._pump(portal, most)
        if portal.complete:
            self._wire.write(protocol.command_complete(f"{tag} {portal.rows_sent}"))
            portal.rows_sent = 0
        else:
            self._wire.write(protocol.PORTAL_SUSPENDED)

    async def _start(self, portal: Portal) -> None:
        portal.require_kept()
        if portal.result is None:
            seconds = self._session.seconds(self._processes.limits.seconds)
            portal.result = await started(self._processes, portal.run, seconds, self.running)
            portal.require(portal.result.columns)
            portal.columns = portal.result.columns

    async def _pump(self, portal: Portal, most: int, *, quiet: bool = False) -> int:
        """Send up to so many rows (0: all) as they come; returns how many."""
        assert portal.result is not None
        self.running.process = portal.result.process
        sent = 0
        try:
            while not most or sent < most:
                rows = await portal.result.rows(most - sent if most else 0)
                sent += rows.count
                if not quiet:
                    self._wire.write(rows.data)
                    await self._wire.drain()
                if rows.done:
                    portal.complete = True
                    break
        except BaseException:
            with suppress(Exception):
                portal.close()
            raise
        finally:
            self.running.process = None
        return sent
