"""A few processes that run statements. Whoever takes too long, or is cancelled, is killed and replaced."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from sinks.duckdb.confinement import QueryLimits
from sql_server.calls import Answer, Call
from sql_server.errors import BUSY, CANCELED, SHUTTING_DOWN, SqlError
from sql_server.worker import Connect, serve

_WAIT_SECONDS = 15.0
_START_SECONDS = 15.0
"""Starting a process takes time that is not the query's."""


class QueryProcess:
    """One process, and who may use it: one statement at a time."""

    def __init__(self, connect: Connect, data: Path, limits: QueryLimits, threads: ThreadPoolExecutor) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit the server's threads and sockets
        self._pipe: Connection
        self._pipe, theirs = context.Pipe()
        self._threads = threads
        self._process: BaseProcess = context.Process(
            target=serve, args=(theirs, connect, data, limits), name="fleetlake-sql", daemon=True
        )
        self._process.start()
        theirs.close()
        self.fresh = True
        """Whether it has answered nothing yet."""
        self.alive = True
        self.cancelled = False

    async def call(self, call: Call, seconds: float) -> Answer:
        """The answer. After a time-out, a cancellation or a crash the process is dead, and the answer an SqlError."""
        grace = _START_SECONDS if self.fresh else 0.0
        answer = await asyncio.get_running_loop().run_in_executor(
            self._threads, self._call, call, max(seconds, 0.0) + grace
        )
        self.fresh = False
        if answer is not None:
            return answer
        if self.cancelled:
            return SqlError(CANCELED, "canceling statement due to user request")
        return SqlError(CANCELED, "canceling statement: it took too long, or too much memory")

    def _call(self, call: Call, seconds: float) -> Answer | None:
        """Blocks. None where the process was killed, or no answer came in time."""
        try:
            self._pipe.send(call)
            if self._pipe.poll(seconds):
                answer: Answer = self._pipe.recv()
                return answer
        except (EOFError, OSError):
            pass
        self.kill()
        return None

    def cancel(self) -> None:
        """End the statement that runs, and the process with it."""
        self.cancelled = True
        self.kill()

    def kill(self) -> None:
        """End the process."""
        self.alive = False
        self._process.kill()


class QueryProcesses:
    """At most so many processes; they are started when they are needed, and kept."""

    def __init__(self, connect: Connect, data: Path, limits: QueryLimits, most: int) -> None:
        self._connect, self._data, self.limits = connect, data, limits
        self._slots = asyncio.Semaphore(most)
        self._threads = ThreadPoolExecutor(most + 1, thread_name_prefix="sql")
        self._idle: list[QueryProcess] = []
        self._all: set[QueryProcess] = set()
        self._closed = False

    async def take(self) -> QueryProcess:
        """A process to be given back. SqlError where others occupy all of them."""
        try:
            await asyncio.wait_for(self._slots.acquire(), _WAIT_SECONDS)
        except TimeoutError:
            raise SqlError(BUSY, "other queries are running; try again in a moment") from None
        try:
            process = self._idle.pop() if self._idle else await asyncio.to_thread(self._started)
        except BaseException:
            self._slots.release()
            raise
        if self._closed:
            process.kill()
            raise SqlError(SHUTTING_DOWN, "the server stops")
        return process

    def give_back(self, process: QueryProcess) -> None:
        """Let others use the process; a dead one is forgotten."""
        if process.alive:
            self._idle.append(process)
        else:
            self._all.discard(process)
        self._slots.release()

    @asynccontextmanager
    async def process(self) -> AsyncIterator[QueryProcess]:
        """A process for the length of a block."""
        taken = await self.take()
        try:
            yield taken
        finally:
            self.give_back(taken)

    def close(self) -> None:
        """End all processes."""
        self._closed = True
        for process in self._all:
            process.kill()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _started(self) -> QueryProcess:
        process = QueryProcess(self._connect, self._data, self.limits, self._threads)
        self._all.add(process)
        return process


class Budget:
    """The time that a statement may still take in its process."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    async def call(self, process: QueryProcess, call: Call) -> Answer:
        """The answer; its time is taken off, but for that of a process that had to start."""
        started, starts = time.monotonic(), process.fresh
        answer = await process.call(call, self.left)
        if not starts:
            self.left -= time.monotonic() - started
        return answer
