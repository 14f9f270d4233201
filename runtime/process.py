"""One stage as one process: it starts, serves its health, stops cleanly on a signal, and reports a failure."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from runtime.health import Health, HealthServer

log = logging.getLogger(__name__)

SUPERVISED = "FLEETLAKE_SUPERVISED"
"""Environment variable set by a supervisor that holds our standard input open; end of file means that it is gone."""

Stage = Callable[[asyncio.Event, Health], Awaitable[None]]
"""A stage's main coroutine. It runs until the event is set; an exception ends the process."""


def run_stage(name: str, stage: Stage, host: str = "127.0.0.1", port: int = -1) -> int:
    """Run a stage until SIGINT, SIGTERM or the end of the supervisor; the exit status: 0 after a clean stop, else 1.

    A second signal ends the process at once, with status 130.
    """
    runner: Any = asyncio.run
    try:
        import uvloop

        runner = uvloop.run
    except ImportError:  # not on Windows
        pass
    return int(runner(_run(name, stage, host, port)))


async def _run(name: str, stage: Stage, host: str, port: int) -> int:
    stop = asyncio.Event()
    _stop_on_signals(stop)
    stop_with_supervisor()
    health = Health(name)
    server = HealthServer(health, host, port)
    try:
        await server.start()
        if server.url:
            log.info("%s: health and metrics at %s", name, server.url)
        await stage(stop, health)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        log.error("%s failed: %s", name, _describe(error), exc_info=log.isEnabledFor(logging.DEBUG))
        return 1
    finally:
        await server.stop()
    return 0


def _describe(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_describe(e) for e in error.exceptions)
    return f"{error} ({type(error).__name__})" if str(error) else type(error).__name__


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, on_signal)


def stop_with_supervisor() -> None:
    """Send this process SIGTERM when its supervisor is gone, for whatever reason. Without a supervisor, do nothing."""
    if not os.environ.get(SUPERVISED):
        return

    def watch() -> None:
        while os.read(0, 1024):  # not sys.stdin, whose lock a thread must not hold when the interpreter ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="supervisor watch", daemon=True).start()
