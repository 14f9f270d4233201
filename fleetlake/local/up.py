"""`fleetlake up`: all stages on this machine against a configuration file."""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack

from rich.console import Console

from fleetlake.config import Settings, chosen_vendors
from fleetlake.local.orchestrator import Orchestrator, lock_folder
from fleetlake.local.progress import logging_to
from fleetlake.local.stage_config import stage_config
from runtime.private_files import restrict_folders, set_umask

_PRIVATE = ("kafka", "lake", "logs", "state", "work")


def run_up(settings: Settings, seconds: int) -> int:
    """Run until Ctrl-C, or for this many seconds if not 0; returns 0 after a clean stop."""
    settings.pipeline.vendors = [*chosen_vendors(settings, [])]
    return asyncio.run(run_pipeline(settings, seconds, "fleetlake", simulate=False))


async def run_pipeline(settings: Settings, seconds: int, title: str, *, simulate: bool) -> int:
    """Start all stages, show the live status, stop in order."""
    data, umask = settings.pipeline.data, settings.pipeline.umask
    set_umask(umask)
    restrict_folders(umask, *(data / name for name in _PRIVATE))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    with ExitStack() as stack:
        lock_folder(data, stack)
        console = Console()
        stack.enter_context(logging_to(console, data / "logs", settings.log_options))
        config = stack.enter_context(stage_config(settings))
        orchestrator = Orchestrator(settings, config, console, simulate=simulate)
        try:
            await orchestrator.start(stop)
            await orchestrator.watch(lambda elapsed: stop.is_set() or bool(seconds and elapsed >= seconds), title)
        finally:
            await orchestrator.stop()
    return 0
