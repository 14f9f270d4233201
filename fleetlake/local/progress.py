"""What the pipeline does while it starts and stops, and its log: on a terminal beside the live status."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from runtime.log import FORMAT, LogOptions, TextFormatter, formatter

_LOG_FILE = "supervisor.log"
_STAGE = "supervisor"


@contextmanager
def step(console: Console, what: str) -> Iterator[None]:
    """Show that something is being done: a spinner with the time on a terminal, a line elsewhere."""
    if not console.is_terminal:
        console.print(f"{what} …", markup=False, highlight=False)
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        shown.add_task(f"{what} …", total=None)
        yield


class ConsoleHandler(logging.Handler):
    """Prints log lines by the console, so that they stand above a live table instead of in it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record."""
        style = "yellow" if record.levelno >= logging.WARNING else ""
        self._console.print(Text(self.format(record), style=style), soft_wrap=True)


@contextmanager
def logging_to(console: Console, folder: Path, options: LogOptions) -> Iterator[None]:
    """Write this process's log to `supervisor.log` in the folder and, by the console, to a terminal."""
    root = logging.getLogger()
    before = root.handlers[:]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _LOG_FILE
    file = RotatingFileHandler(path, maxBytes=options.file_bytes, backupCount=options.files, encoding="utf-8")
    others: list[logging.Handler] = [ConsoleHandler(console)] if console.is_terminal else before
    for handler in (file, *others):
        if handler not in before and before:
            handler.setFormatter(formatter(options, _STAGE) if handler is file else TextFormatter(FORMAT))
            for each in before[0].filters:
                handler.addFilter(each)
    root.handlers = [file, *others]
    try:
        yield
    finally:
        root.handlers = before
        file.close()
