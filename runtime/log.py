"""Logging of every stage: one line per change of state, to standard error."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_LIBRARIES = ("aiokafka", "amqtt", "faust", "kafka", "mode", "paho", "transitions", "websockets")
_SILENT = ("aiokafka.consumer.group_coordinator", "aiohttp.access", "websockets.client", "websockets.server")
"""Loggers that repeat what our own modules log of rebalances and refused handshakes."""

_FAUST_SERVICES = ("streams.engine.app", "streams.engine.consumer_thread", "streams.engine.transport")
"""Faust logs the life cycle of its services under the names of the modules that define them."""

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


def configure_logging(level: str) -> None:
    """Set the format and level of the process's log. At level debug, libraries are not filtered."""
    logging.basicConfig(level=level.upper(), format=_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S", force=True)
    for name in (*_FAUST_SERVICES, "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if level.lower() != "debug":
        for handler in logging.getLogger().handlers:
            handler.addFilter(LibraryFilter())
