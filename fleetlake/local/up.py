"""`fleetlake up`: all stages on this machine against a configuration file."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from fleetlake.config import Settings, chosen_vendors, effective_toml
from fleetlake.local.orchestrator import Orchestrator, lock_folder
from fleetlake.local.progress import logging_to
from runtime.private_files import restrict_folders, set_umask

EFFECTIVE = "effective.toml"
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
        orchestrator = Orchestrator(settings, write_effective(settings), console, simulate=simulate)
        try:
            await orchestrator.start(stop)
            await orchestrator.watch(lambda elapsed: stop.is_set() or bool(seconds and elapsed >= seconds), title)
        finally:
            await orchestrator.stop()
            write_effective(settings, masked=True)
    return 0


def write_effective(settings: Settings, *, masked: bool = False) -> Path:
    """The configuration in force as a file for the stages, readable by its owner only: it holds the secrets.

    When the pipeline has stopped, the file is written once more with the secrets `masked`.
    """
    path = settings.pipeline.data / EFFECTIVE
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write("# Written at each start from the configuration file, the environment and the command line.\n")
        file.write(effective_toml(settings, masked=masked))
    return path
