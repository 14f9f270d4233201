"""Reading `fleet.duckdb`: each query sees the file that was published last.

Each thread of a small pool has a connection of its own, which is opened anew once another file is published.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

Connect = Callable[[], duckdb.DuckDBPyConnection]
"""Opens the published tables read-only. FileNotFoundError where nothing is published yet."""
Stamp = tuple[int, int]
"""What tells one published file from the next."""

_THREADS = 3
_SECONDS = 20.0
_OPEN_TRIES = 3


class NothingPublished(Exception):
    """There is no `fleet.duckdb` yet."""


class TooSlow(Exception):
    """A query was interrupted at its time limit."""


@dataclass
class _Open:
    stamp: Stamp
    connection: duckdb.DuckDBPyConnection


class PublishedTables:
    """Queries on the published tables of a data folder."""

    def __init__(self, connect: Connect, file: Path) -> None:
        self._connect, self._file = connect, file
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tables")
        self._local = threading.local()
        self._kept: dict[str, tuple[Stamp, Any]] = {}
        self._building: dict[str, asyncio.Lock] = {}

    def stamp(self) -> Stamp | None:
        """The published file as it is now; None where there is none."""
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    async def rows(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows of a query. NothingPublished, TooSlow, or duckdb.Error."""
        answer: list[dict[str, Any]] = await self.use(partial(_rows, query, list(values)))
        return answer

    async def use(self, work: Callable[[duckdb.DuckDBPyConnection], Any]) -> Any:
        """What `work` makes of a connection, in a thread; it is interrupted when it takes too long."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)

    async def kept(self, name: str, build: Callable[[duckdb.DuckDBPyConnection], Any]) -> Any:
        """What `build` makes of the published file, computed once per file for all viewers."""
        async with self._building.setdefault(name, asyncio.Lock()):
            stamp = self.stamp()
            if stamp is None:
                raise NothingPublished
            known = self._kept.get(name)
            if known is None or known[0] != stamp:
                self._kept[name] = known = (stamp, await self.use(build))
            return known[1]

    def close(self) -> None:
        """Stop the threads; connections close with them."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, work: Callable[[duckdb.DuckDBPyConnection], Any]) -> Any:
        connection = self._current()
        limit = threading.Timer(_SECONDS, connection.interrupt)
        limit.start()
        try:
            return work(connection)
        except duckdb.InterruptException as error:
            raise TooSlow from error
        finally:
            limit.cancel()

    def _current(self) -> duckdb.DuckDBPyConnection:
        stamp = self.stamp()
        if stamp is None:
            raise NothingPublished
        known: _Open | None = getattr(self._local, "open", None)
        if known is None or known.stamp != stamp:
            if known is not None:
                known.connection.close()
                self._local.open = None
            known = self._local.open = _Open(stamp, self._opened())
        return known.connection

    def _opened(self) -> duckdb.DuckDBPyConnection:
        """A new connection. DuckDB opens the path twice; a file renamed in between fails, and is opened once more."""
        for _ in range(_OPEN_TRIES - 1):
            try:
                return self._connect()
            except FileNotFoundError as error:
                raise NothingPublished from error
            except duckdb.Error:
                continue
        return self._connect()


def _rows(query: str, values: list[Any], connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    result = connection.execute(query, values)
    names = [column[0] for column in result.description or []]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
