"""What a client's statements do: queries, transactions, settings and cursors."""

from __future__ import annotations

from contextlib import suppress

from sql_server import protocol
from sql_server.calls import Describe, Described, Run
from sql_server.commands import Action, Command, command
from sql_server.errors import DUPLICATE_CURSOR, NO_SUCH_CURSOR, NO_SUCH_STATEMENT, NOT_SUPPORTED, SqlError
from sql_server.processes import Budget, QueryProcesses
from sql_server.protocol import Column
from sql_server.results import Portal, Prepared, Running, Statements, started
from sql_server.session import REPORTED, Session
from sql_server.types import TEXT
from sql_server.wire import Wire

_SHOWN = TEXT


class StatementRunner:
    """Carries statements out for one client, and writes their rows and tags."""

    def __init__(self, wire: Wire, session: Session, processes: QueryProcesses) -> None:
        self.running = Running()
        self.statements = Statements()
        self._wire, self._session, self._processes = wire, session, processes

    async def perform(self, portal: Portal, most: int, *, describe: bool) -> None:
        """Carry a statement out: up to `most` rows of it (0: all). `describe`: say the columns first."""
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
                self.statements.end_transaction()
                return self._session.end(asked)
            case Action.SET:
                self._set(asked)
            case Action.DEALLOCATE if asked.name:
                self.prepared(asked.name)
                del self.statements.prepared[asked.name]
            case Action.DEALLOCATE:
                self.statements.prepared.clear()
            case Action.DISCARD:
                self.statements.prepared.clear()
                self.statements.end_transaction()
            case Action.DECLARE:
                self._declare(asked)
            case Action.CLOSE if asked.name:
                if not self.statements.close_cursor(asked.name):
                    raise SqlError(NO_SUCH_CURSOR, f'cursor "{asked.name}" does not exist')
            case Action.CLOSE:
                for name in list(self.statements.cursors):
                    self.statements.close_cursor(name)
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
        if asked.name in self.statements.cursors:
            raise SqlError(DUPLICATE_CURSOR, f'cursor "{asked.name}" already exists')
        inner = command(asked.text)
        if inner.action is not Action.QUERY:
            raise SqlError(NOT_SUPPORTED, "a cursor reads a query")
        self.statements.cursors[asked.name] = Portal(Prepared(asked.text, inner), Run(asked.text))

    async def _fetch(self, asked: Command, *, describe: bool) -> None:
        cursor = self._cursor(asked.name)
        await self.start(cursor)
        assert cursor.result is not None
        if asked.tag == "MOVE":
            describe = False
        elif describe:
            self._wire.write(protocol.row_description(cursor.result.columns, cursor.run.result_formats))
        sent = 0 if cursor.complete else await self._pump(cursor, asked.count, quiet=asked.tag == "MOVE")
        self._wire.write(protocol.command_complete(f"{asked.tag} {sent}"))

    async def _send(self, portal: Portal, most: int, *, describe: bool, tag: str) -> None:
        """The rows of a query, or the next ones."""
        await self.start(portal)
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

    async def start(self, portal: Portal) -> None:
        """Let the query of a portal run, unless it does. SqlError where it fails, or was dropped meanwhile."""
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

    async def described(self, query: str, oids: tuple[int, ...]) -> Described:
        """The types of a query's parameters and result."""
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

    def columns(self, prepared: Prepared) -> tuple[Column, ...] | None:
        """The columns of a statement's rows; None where it has none."""
        if prepared.described is not None:
            return prepared.described.columns
        match prepared.command.action:
            case Action.SHOW:
                return (Column(prepared.command.name, _SHOWN.oid, _SHOWN.size),)
            case Action.FETCH:
                return None if prepared.command.tag == "MOVE" else self._cursor(prepared.command.name).columns
        return None

    def prepared(self, name: str) -> Prepared:
        """A prepared statement by its name. SqlError where there is none."""
        if (prepared := self.statements.prepared.get(name)) is None:
            raise SqlError(NO_SUCH_STATEMENT, f'prepared statement "{name}" does not exist')
        return prepared

    def portal(self, name: str) -> Portal:
        """A portal by its name. SqlError where there is none."""
        portal = self.statements.portals.get(name) or self.statements.cursors.get(name)  # a cursor is a portal
        if portal is None:
            raise SqlError(NO_SUCH_CURSOR, f'portal "{name}" does not exist')
        return portal

    def _cursor(self, name: str) -> Portal:
        if (cursor := self.statements.cursors.get(name)) is None:
            raise SqlError(NO_SUCH_CURSOR, f'cursor "{name}" does not exist')
        return cursor
