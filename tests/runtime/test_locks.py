"""File locks: who excludes whom, and when they are released."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runtime.locks import FileLock, LockHeldError, exclusive, lowest_free_number


def test_a_held_lock_is_refused_with_its_path_and_content(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    with FileLock(path) as held:
        held.write_text("process 17\n")
        with (
            pytest.raises(LockHeldError, match=r"lock is locked by process 17$") as caught,
            FileLock(path, blocking=False),
        ):
            pass
        assert caught.value.content == "process 17"
        assert not FileLock(path).try_acquire()
    with FileLock(path, blocking=False):
        pass


def test_without_content_the_error_names_another_process(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock"), pytest.raises(LockHeldError, match="by another process"):
        FileLock(tmp_path / "lock", blocking=False).__enter__()


def test_shared_locks_exclude_only_exclusive_ones(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock(path, shared=True), FileLock(path, shared=True, blocking=False):
        assert not FileLock(path).try_acquire()
    with FileLock(path):
        assert not FileLock(path, shared=True).try_acquire()


def test_a_blocking_lock_waits_for_its_holder(tmp_path: Path) -> None:
    path, order = tmp_path / "lock", []
    waiting = threading.Event()

    def wait_for_it() -> None:
        waiting.set()
        with FileLock(path):
            order.append("second")

    thread = threading.Thread(target=wait_for_it)
    with FileLock(path):
        thread.start()
        waiting.wait()
        thread.join(0.1)
        assert thread.is_alive()
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_an_exception_releases_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), FileLock(tmp_path / "lock"):
        raise ZeroDivisionError
    with FileLock(tmp_path / "lock", blocking=False):
        pass


def test_the_content_is_replaced_as_a_whole(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock") as lock:
        lock.write_text("a long content")
        lock.write_text("short")
        assert lock.read_text() == "short"
    with FileLock(tmp_path / "lock") as lock:
        assert lock.read_text() == "short"


def test_only_the_holder_writes_and_nobody_locks_twice(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    with pytest.raises(ValueError, match="not held"):
        lock.write_text("x")
    with lock, pytest.raises(ValueError, match="held already"):
        lock.try_acquire()


def test_without_create_a_missing_file_stays_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "lock", create=False).try_acquire()
    assert not list(tmp_path.iterdir())


def test_without_create_a_read_only_file_can_be_locked(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch(0o444)
    with FileLock(path, shared=True, create=False) as lock:
        assert not FileLock(path, create=False).try_acquire()
        with pytest.raises(OSError, match="Bad file descriptor"):
            lock.write_text("x")


def test_the_kernel_releases_the_lock_of_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = (
        "import sys, pathlib, runtime.locks\n"
        "lock = runtime.locks.FileLock(pathlib.Path(sys.argv[1]))\n"
        "lock.acquire()\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert not FileLock(path).try_acquire()
        process.kill()
        process.wait()
        assert FileLock(path).try_acquire()


async def test_waiting_without_blocking_ends_with_the_lock_or_with_stop(tmp_path: Path) -> None:
    path, stop = tmp_path / "lock", asyncio.Event()
    holder = FileLock(path)
    holder.acquire()
    first = asyncio.create_task(FileLock(path).acquire_when_free(0.01, stop))
    await asyncio.sleep(0)
    stop.set()
    assert await first is False
    second = FileLock(path)
    waiting = asyncio.create_task(second.acquire_when_free(0.01))
    await asyncio.sleep(0)
    assert not waiting.done()
    holder.close()
    assert await waiting is True
    assert not FileLock(path).try_acquire()
    second.close()


async def test_one_holder_of_a_purpose_at_a_time(tmp_path: Path) -> None:
    async with exclusive(tmp_path, "rest/api"):
        assert [file.name for file in tmp_path.iterdir()] == ["rest%2Fapi.lock"]
        assert not FileLock(tmp_path / "rest%2Fapi.lock").try_acquire()
        async with exclusive(tmp_path, "another"):
            pass
    async with asyncio.timeout(1), exclusive(tmp_path, "rest/api"):
        pass


def test_the_lowest_free_number_is_taken(tmp_path: Path) -> None:
    with lowest_free_number(tmp_path, "client") as first:
        with lowest_free_number(tmp_path, "client") as second:
            assert (first, second) == (0, 1)
        with lowest_free_number(tmp_path, "client") as third, lowest_free_number(tmp_path, "other") as other:
            assert (third, other) == (1, 0)
    with lowest_free_number(tmp_path, "client") as successor:
        assert successor == 0
