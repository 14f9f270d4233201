"""File locks between processes. The kernel releases a lock when its holder ends, however that happens."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from schemas.device import quote_id

_POLL_SECONDS = 2.0


class LockHeldError(RuntimeError):
    """Another process (or another `FileLock` of this process) holds the lock."""

    def __init__(self, path: Path, content: str) -> None:
        super().__init__(f"{path} is locked by {content or 'another process'}")
        self.path = path
        self.content = content
        """What the lock file says, usually about its holder."""


class FileLock:
    """An advisory lock (flock) on a file, which may also hold a few words about the holder.

    `with FileLock(path):` waits for the lock; with `blocking=False` it raises LockHeldError instead. Outside a `with`
    statement, `acquire` or `try_acquire` is paired with `close`. The file stays when the lock is released: removing
    it would let two processes lock two files of the same name.

    `shared` locks exclude only exclusive ones. With `create=False` a missing file raises FileNotFoundError, and the
    file is opened for reading only.
    """

    def __init__(self, path: Path, *, shared: bool = False, blocking: bool = True, create: bool = True) -> None:
        self.path = path
        self._kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._blocking = blocking
        self._create = create
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        if self._blocking:
            self.acquire()
        elif not self.try_acquire():
            raise LockHeldError(self.path, self.read_text().strip())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def acquire(self) -> None:
        """Wait for the lock, blocking the thread."""
        self._lock(0)

    def try_acquire(self) -> bool:
        """Take the lock if it is free; False if it is held elsewhere."""
        try:
            self._lock(fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    async def acquire_when_free(self, poll_seconds: float = _POLL_SECONDS, stop: asyncio.Event | None = None) -> bool:
        """Wait for the lock without blocking the event loop: try every `poll_seconds`; False if `stop` came first."""
        while not (stop is not None and stop.is_set()):
            if self.try_acquire():
                return True
            await asyncio.sleep(poll_seconds)
        return False

    def close(self) -> None:
        """Release the lock. Harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def fileno(self) -> int:
        """The descriptor that holds the lock; a child process that inherits it keeps the lock after our end."""
        if self._descriptor is None:
            raise ValueError(f"{self.path} is not held")
        return self._descriptor

    def read_text(self) -> str:
        """The content of the lock file, by whoever wrote it."""
        return self.path.read_text(encoding="utf-8", errors="replace")

    def write_text(self, text: str) -> None:
        """Replace the content of the lock file, which must be held. Not synced to the disk."""
        descriptor, data = self.fileno(), text.encode()
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))

    def _lock(self, wait: int) -> None:
        if self._descriptor is not None:
            raise ValueError(f"{self.path} is held already")
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, self._kind | wait)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _open(self) -> int:
        if not self._create:
            return os.open(self.path, os.O_RDONLY)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)


@asynccontextmanager
async def exclusive(state_dir: Path, purpose: str) -> AsyncIterator[None]:
    """Wait until no other process on this state folder holds `purpose`, and keep the others from it."""
    lock = FileLock(state_dir / f"{quote_id(purpose)}.lock")
    await lock.acquire_when_free()
    try:
        yield
    finally:
        lock.close()


@contextmanager
def lowest_free_number(state_dir: Path, purpose: str) -> Iterator[int]:
    """Take the lowest number from 0 that no other process on this state folder holds for `purpose`.

    The successor of a crashed process therefore takes the same number.
    """
    number = 0
    while not (lock := FileLock(state_dir / f"{quote_id(purpose)}-{number}.lock")).try_acquire():
        number += 1
    try:
        yield number
    finally:
        lock.close()
