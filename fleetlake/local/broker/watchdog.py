"""Runs one command and ends it when the process that started it is gone. Standard library only, no package import.

Usage: `python watchdog.py PARENT_PID GRACE_SECONDS KEEP_FD COMMAND…`. The parent holds the other end of this process's
standard input: closing it (on purpose, by exiting, or by being killed with SIGKILL) ends the command with SIGTERM, and
with SIGKILL after the grace time. The command's process id goes to standard output, its output to standard error, and
its exit status is this process's. `KEEP_FD` (a held lock) is inherited by the command, so that the lock lives as long.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading

_POLL_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _die_with_watchdog() -> None:
    """On Linux the kernel ends the command even if this process is killed; elsewhere only the parent's end is seen."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(parent: int, grace: float, keep_fd: int, command: list[str]) -> int:
    """Run the command to its end, or end it with its parent; returns its exit status."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # the parent decides when to stop
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        pass_fds=[keep_fd],
        preexec_fn=_prepare_child,  # safe: no thread runs yet
    )
    print(child.pid, flush=True)
    orphaned = threading.Event()
    threading.Thread(target=_await_end_of_input, args=[orphaned], daemon=True).start()
    while child.poll() is None:
        # The parent's id is watched too: a fork of the parent may hold the pipe open after the parent's death.
        if orphaned.wait(_POLL_SECONDS) or os.getppid() != parent:
            return _end(child, grace)
    return child.returncode


def _await_end_of_input(orphaned: threading.Event) -> None:
    sys.stdin.buffer.read()
    orphaned.set()


def _prepare_child() -> None:
    for restored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(restored, signal.SIG_DFL)
    _die_with_watchdog()


def _end(child: "subprocess.Popen[bytes]", grace: float) -> int:
    child.terminate()
    try:
        return child.wait(grace)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


if __name__ == "__main__":
    os._exit(main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]) & 0xFF)
