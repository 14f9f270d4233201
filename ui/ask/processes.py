"""A few processes that run queries: whoever takes too long is killed, and the next query has a new process."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from sinks.duckdb.confinement import QueryLimits
from ui.answers import RequestRefused
from ui.ask.worker import QueryAnswer, serve
from ui.tables import Connect

_PROCESSES = 2
_WAIT_SECONDS = 15.0
_GRACE_SECONDS = 5.0
"""Starting a process takes time that is not the query's."""
_MOST_CHARS = 100_000


class _Worker:
    def __init__(self, connect: Connect, data: Path, limits: QueryLimits) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit the page's threads and sockets
        self._pipe: Connection
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=serve, args=(theirs, connect, data, limits), name="fleetlake-query", daemon=True
        )
        self._process.start()
        theirs.close()
        self.alive = True
        self.grace = _GRACE_SECONDS
        """Seconds to allow beyond the query's own; 0 once the process has answered."""

    def ask(self, text: str, seconds: float) -> QueryAnswer | None:
        """Blocks. None where the process was killed, or no answer came in time."""
        try:
            self._pipe.send(text)
            if self._pipe.poll(seconds):
                answer: QueryAnswer = self._pipe.recv()
                self.grace = 0.0
                return answer
        except (EOFError, OSError):
            pass
        self.kill()
        return None

    def kill(self) -> None:
        self.alive = False
        self._process.kill()


class QueryProcesses:
    """Runs queries in processes, at most two at a time and one per viewer."""

    def __init__(self, connect: Connect, data: Path, limits: QueryLimits) -> None:
        self._connect, self._data, self._limits = connect, data, limits
        self._slots = asyncio.Semaphore(_PROCESSES)
        self._idle: list[_Worker] = []
        self._running: dict[str, _Worker] = {}

    async def ask(self, viewer: str, text: str) -> QueryAnswer:
        """The answer. A viewer's new query ends the one before it. RequestRefused where others occupy all processes."""
        if len(text) > _MOST_CHARS:
            raise RequestRefused(413, "payload_too_large", f"A query has at most {_MOST_CHARS} characters")
        self.cancel(viewer)
        async with self._slot(), self._worker() as worker:
            self._running[viewer] = worker
            try:
                answer = await asyncio.to_thread(worker.ask, text, self._limits.seconds + worker.grace)
                cancelled = self._running.get(viewer) is not worker
            finally:
                if self._running.get(viewer) is worker:
                    del self._running[viewer]
        if answer is not None:
            return answer
        limit = f"Stopped: the query took longer than {self._limits.seconds:g} s, or too much memory."
        return QueryAnswer([], [], [], False, self._limits.seconds, "Cancelled." if cancelled else limit)

    def cancel(self, viewer: str) -> None:
        """End the viewer's query, if one runs."""
        worker = self._running.pop(viewer, None)
        if worker is not None:
            worker.kill()

    def close(self) -> None:
        """End all processes."""
        for worker in (*self._idle, *self._running.values()):
            worker.kill()

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(self._slots.acquire(), _WAIT_SECONDS)
        except TimeoutError:
            raise RequestRefused(503, "busy", "Other queries are running; try again in a moment") from None
        try:
            yield
        finally:
            self._slots.release()

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[_Worker]:
        worker = self._idle.pop() if self._idle else await asyncio.to_thread(self._started)
        try:
            yield worker
        finally:
            if worker.alive:
                self._idle.append(worker)

    def _started(self) -> _Worker:
        return _Worker(self._connect, self._data, self._limits)
