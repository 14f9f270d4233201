"""Statements that run for a client: prepared ones, and portals whose rows are being read."""

from __future__ import annotations

from dataclasses import dataclass, field

from sql_server.calls import Described, Fetch, Rows, Run, Started
from sql_server.commands import Command
from sql_server.errors import CANCELED, CHANGED_RESULT, SqlError
from sql_server.processes import Budget, QueryProcess, QueryProcesses
from sql_server.protocol import Column


@dataclass
class Prepared:
    """A statement that a client has parsed. `described` is None for what is no query."""

    query: str
    command: Command
    described: Described | None = None


@dataclass
class Result:
    """The rows of a query, while a process holds them."""

    processes: QueryProcesses
    process: QueryProcess
    budget: Budget
    columns: tuple[Column, ...]
    ended: bool = False

    async def rows(self, most: int) -> Rows:
        """Further rows. SqlError where there are none to be had any more; the process is given back then."""
        answer = await self.budget.call(self.process, Fetch(most))
        if isinstance(answer, SqlError):
            self.close()
            raise answer
        assert isinstance(answer, Rows)
        if answer.done:
            self.close()
        return answer

    def close(self) -> None:
        """Give the process back; rows that were not read are dropped."""
        if not self.ended:
            self.ended = True
            self.processes.give_back(self.process)


async def started(processes: QueryProcesses, run: Run, seconds: float, running: Running) -> Result:
    """Run a query. SqlError where it fails."""
    process = await processes.take()
    running.process = process
    try:
        budget = Budget(seconds)
        answer = await budget.call(process, run)
        if isinstance(answer, Started):
            return Result(processes, process, budget, answer.columns)
        assert isinstance(answer, SqlError)
        raise answer
    except BaseException:
        running.process = None
        processes.give_back(process)
        raise


@dataclass
class Running:
    """What a client's cancel request ends."""

    process: QueryProcess | None = None

    def cancel(self) -> None:
        """End the statement that runs, if one does."""
        if self.process is not None:
            self.process.cancel()


@dataclass
class Portal:
    """A statement with its values, or a cursor: its result runs once rows are asked for."""

    prepared: Prepared
    run: Run
    columns: tuple[Column, ...] | None = None
    """As they were described to the client."""
    result: Result | None = None
    rows_sent: int = 0
    complete: bool = False
    lost: bool = False

    def require(self, columns: tuple[Column, ...]) -> None:
        """SqlError where the rows are not of the columns that the client was told."""
        if self.columns is not None and [c.oid for c in columns] != [c.oid for c in self.columns]:
            raise SqlError(CHANGED_RESULT, "cached plan must not change result type")

    def close(self) -> None:
        """Drop what is left of the result."""
        if self.result is not None:
            self.result.close()

    def lose(self) -> None:
        """Drop the result because its client does not read on."""
        if self.result is not None and not self.result.ended:
            self.lost = True
            self.result.close()

    def require_kept(self) -> None:
        """SqlError where the result was dropped meanwhile."""
        if self.lost:
            raise SqlError(CANCELED, "the rest of the result was not read in time, and was dropped")


@dataclass
class Statements:
    """What a client has prepared and opened, by name."""

    prepared: dict[str, Prepared] = field(default_factory=dict)
    portals: dict[str, Portal] = field(default_factory=dict)
    cursors: dict[str, Portal] = field(default_factory=dict)

    @property
    def holding(self) -> bool:
        """Whether a result that is read in parts holds a process."""
        return any(
            p.result is not None and not p.result.ended for p in (*self.portals.values(), *self.cursors.values())
        )

    def put_portal(self, name: str, portal: Portal) -> None:
        """Keep a portal in place of one of its name."""
        self.close_portal(name)
        self.portals[name] = portal

    def close_portal(self, name: str) -> None:
        """Close a portal; one that is unknown is closed already."""
        if (portal := self.portals.pop(name, None)) is not None:
            portal.close()

    def close_cursor(self, name: str) -> bool:
        """Close a cursor; whether there was one."""
        cursor = self.cursors.pop(name, None)
        if cursor is not None:
            cursor.close()
        return cursor is not None

    def end_transaction(self) -> None:
        """Portals and cursors end with their transaction."""
        for name in list(self.portals):
            self.close_portal(name)
        for name in list(self.cursors):
            self.close_cursor(name)

    def lose_results(self) -> None:
        """Give the processes of all results back: their client is idle."""
        for portal in (*self.portals.values(), *self.cursors.values()):
            portal.lose()
