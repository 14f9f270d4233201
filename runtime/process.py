"""One stage as one process: it starts, serves its health, stops cleanly on a signal, and reports a failure."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import resource
import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from runtime.health import Health, HealthServer
from runtime.systemd import READY, notify
from runtime.watchdog import LoopWatchdog

log = logging.getLogger(__name__)

SUPERVISED = "FLEETLAKE_SUPERVISED"
"""Environment variable set by a supervisor that holds our standard input open; end of file means that it is gone."""

_DESCRIPTORS = 65_536

Stage = Callable[[asyncio.Event, Health], Awaitable[None]]
"""A stage's main coroutine. It runs until the event is set; an exception ends the process."""


@dataclass(frozen=True, slots=True)
class HealthOptions:
    """Where a stage serves its health, and after how many seconds without progress its process ends (0: never)."""

    host: str = "127.0.0.1"
    port: int = -1
    watchdog_seconds: float = 60.0


DEFAULT_HEALTH = HealthOptions()


def run_stage(name: str, stage: Stage, options: HealthOptions = DEFAULT_HEALTH) -> int:
    """Run a stage until SIGINT, SIGTERM or the end of the supervisor; the exit status: 0 after a clean stop, else 1.

    A second signal ends the process at once, with status 130. A stage whose event loop stands still, or which says
    itself that it is not live, is ended by the watchdog with status 1.
    """
    faulthandler.enable()
    raise_descriptor_limit()
    runner: Any = asyncio.run
    try:
        import uvloop

        runner = uvloop.run
    except ImportError:  # not on Windows
        pass
    return int(runner(_run(name, stage, options)))


async def _run(name: str, stage: Stage, options: HealthOptions) -> int:
    stop = asyncio.Event()
    _stop_on_signals(stop)
    stop_with_supervisor()
    health = Health(name)
    server = HealthServer(health, options.host, options.port)
    try:
        await server.start()
        if server.url:
            log.info("%s: health and metrics at %s", name, server.url)
        with LoopWatchdog(health, options.watchdog_seconds).watching():
            notify(READY)
            await stage(stop, health)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        log.error("%s failed: %s", name, _describe(error), exc_info=log.isEnabledFor(logging.DEBUG))
        return 1
    finally:
        await server.stop()
    return 0


def raise_descriptor_limit() -> None:
    """Allow as many file descriptors as the system lets this process have: the usual 1,024 are few for a server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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
