"""Logging of every stage: one line per change of state, to standard error or to the file that its supervisor names."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler

from runtime.log_codes import DETAIL, LIBRARY, code_of

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_LIBRARIES = ("aiokafka", "amqtt", "faust", "kafka", "mode", "paho", "transitions", "websockets")
_SILENT = ("aiokafka.consumer.group_coordinator", "aiohttp.access", "websockets.client", "websockets.server")
"""Loggers that repeat what our own modules log of rebalances and refused handshakes."""

_FAUST_SERVICES = ("streams.engine.app", "streams.engine.consumer_thread", "streams.engine.transport")
"""Faust logs the life cycle of its services under the names of the modules that define them."""

_OURS = (
    "alarm_service",
    "connectors",
    "fleetlake",
    "runtime",
    "schemas",
    "simulators",
    "sinks",
    "sql_server",
    "streams",
    "ui",
)
"""The packages whose lines have codes of their own."""

_REPEAT_SECONDS = 60.0


class LibraryFilter(logging.Filter):
    """Lets libraries log errors only, each once per minute, and without tracebacks.

    aiokafka logs a lost connection with every attempt, and its traceback helps nobody at 3 am. Our own modules log what
    matters, once. Levels alone would not suffice, since some libraries set their own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._logged_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show the record."""
        if record.name.partition(".")[0] not in _LIBRARIES:
            return True
        if record.levelno < logging.ERROR or record.name in _SILENT:
            return False
        now, key = self._clock(), (record.name, str(record.msg))
        if now - self._logged_at.get(key, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            return False
        self._logged_at[key] = now
        record.exc_info = record.exc_text = None
        return True


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How a process logs."""

    level: str = "info"
    format: str = "text"
    """`text`, or `json`: an object per line."""
    file_bytes: int = 20 << 20
    """Size at which a log file is replaced by a new one."""
    files: int = 5
    """How many older files of a log are kept."""


DEFAULT_LOG = LogOptions()

LOG_FILE = "FLEETLAKE_LOG_FILE"
"""Environment variable set by a supervisor: the file in which this process logs, and rotates by itself."""
STAGE_NAME = "FLEETLAKE_STAGE_NAME"
"""Environment variable set by a supervisor: what it calls this process, e.g. `stream-2`."""


class TextFormatter(logging.Formatter):
    """A line per message, its time with the zone."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """The local time with its distance from UTC, by which files of machines in several zones can be merged."""
        return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="seconds")


class JsonFormatter(logging.Formatter):
    """An object per line: time (UTC), level, stage, code, logger, message; with an exception, its traceback."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self._stage = stage

    def format(self, record: logging.LogRecord) -> str:
        """See the class."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "stage": self._stage,
            "code": _code(record),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class StageLogFile(RotatingFileHandler):
    """The log file of a supervised process, bounded in size. Standard output and standard error go there too.

    So what a library prints, and the stacks of a process that ends itself, stand among the lines of the log, whichever
    file that is at the time.
    """

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        for standard in (sys.stdout, sys.stderr):
            standard.flush()
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        return stream


def configure_logging(options: LogOptions = DEFAULT_LOG, stage: str = "") -> None:
    """Set the format and level of the process's log. At level debug, libraries are not filtered."""
    handler: logging.Handler = logging.StreamHandler()
    if path := os.environ.get(LOG_FILE):
        handler = StageLogFile(path, maxBytes=options.file_bytes, backupCount=options.files, encoding="utf-8")
    handler.setFormatter(formatter(options, stage))
    if options.level.lower() != "debug":
        handler.addFilter(LibraryFilter())
    logging.basicConfig(level=options.level.upper(), handlers=[handler], force=True)
    for name in (*_FAUST_SERVICES, "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)


def formatter(options: LogOptions, stage: str = "") -> logging.Formatter:
    """The formatter of the format that is asked for. A supervisor's name for the process precedes `stage`."""
    if options.format == "json":
        return JsonFormatter(os.environ.get(STAGE_NAME) or stage or "fleetlake")
    return TextFormatter(FORMAT)


def _code(record: logging.LogRecord) -> str:
    if (code := code_of(record.msg)) is not None:
        return code
    if record.name.partition(".")[0] not in _OURS:
        return LIBRARY
    return DETAIL if record.levelno <= logging.DEBUG else "other"
