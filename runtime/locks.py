"""What only one process on a state folder may do or be at a time: held by a file lock, which dies with its holder."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

from schemas.device import quote_id

_RETRY_SECONDS = 2.0


def try_lock(path: Path) -> IO[bytes] | None:
    """The open file that holds the lock until it is closed; None where another process (or file) holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


@asynccontextmanager
async def alone(state_dir: Path, what: str) -> AsyncIterator[None]:
    """Wait until no other process does `what`, and keep the others from it."""
    path = state_dir / f"{quote_id(what)}.lock"
    while (file := try_lock(path)) is None:
        await asyncio.sleep(_RETRY_SECONDS)
    with file:
        yield


@contextmanager
def numbered(state_dir: Path, what: str) -> Iterator[int]:
    """The lowest number from 0 that no other process has taken; whoever comes after a crash takes it again."""
    number = 0
    while (file := try_lock(state_dir / f"{quote_id(what)}-{number}.lock")) is None:
        number += 1
    with file:
        yield number
