"""Logging as every stage does it: one line a change of state, to standard error."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_LIBRARIES = ("aiokafka", "amqtt", "faust", "kafka", "mode", "paho", "transitions", "websockets")
_SILENT = ("aiokafka.consumer.group_coordinator", "aiohttp.access", "websockets.client", "websockets.server")
"""Say of rebalances and refused handshakes what our own modules say, too."""

_FAUST_SERVICES = ("streams.engine.app", "streams.engine.consumer_thread", "streams.engine.transport")
"""Faust logs the life of its services under the names of the modules they are defined in."""

_AGAIN_SECONDS = 60.0


class LibraryFilter(logging.Filter):
    """Lets libraries speak of errors only, of each once a minute, and without tracebacks.

    aiokafka repeats a lost connection with every attempt, and where in it a connection broke helps nobody at 3 am.
    What matters our own modules say, once. Levels alone would not do: some libraries set their own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be shown."""
        if record.name.partition(".")[0] not in _LIBRARIES:
            return True
        if record.levelno < logging.ERROR or record.name in _SILENT:
            return False
        now, key = self._clock(), (record.name, str(record.msg))
        if now - self._said.get(key, -_AGAIN_SECONDS) < _AGAIN_SECONDS:
            return False
        self._said[key] = now
        record.exc_info = record.exc_text = None
        return True


def configure_logging(level: str) -> None:
    """Set the format and level of the process's log; at level debug libraries say all they have to say."""
    logging.basicConfig(level=level.upper(), format=_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S", force=True)
    for name in (*_FAUST_SERVICES, "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if level.lower() != "debug":
        for handler in logging.getLogger().handlers:
            handler.addFilter(LibraryFilter())
