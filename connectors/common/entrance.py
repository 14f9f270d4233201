"""The entrance of vendors' messages: whatever reading one raises becomes its dead letter, and the next message flows.

An outage is what the transport says, never what a payload caused. So each connector reads messages through `admit`,
and only errors of connections reach its loops.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import cache
from typing import Protocol

from prometheus_client import Histogram

from connectors.common.dead_letters import MessageSource, dead_letter
from connectors.common.read_message import ReadMessage
from runtime.metrics import READ_SECONDS
from schemas.json_reading import NotJson
from schemas.topics import MAX_MESSAGE_BYTES
from schemas.wire import DeadLetter, Problem

_log = logging.getLogger(__name__)

_SLOW_SECONDS = 5.0
_logged: set[str] = set()


class Refusal(Protocol):
    """Makes the dead letter of a message that cannot be read."""

    def __call__(self, payload: bytes, source: MessageSource, problem: Problem) -> DeadLetter:
        """Make the dead letter."""


def admit(
    payload: bytes, source: MessageSource, read: Callable[[], ReadMessage], refuse: Refusal = dead_letter
) -> ReadMessage:
    """Read a message. Where that raises, or the message is longer than Kafka takes, the outcome is a dead letter.

    The time that reading takes is measured (`fleetlake_read_seconds`).
    """
    started = time.perf_counter()
    try:
        if len(payload) > MAX_MESSAGE_BYTES:
            raise NotJson("too_large", f"{len(payload)} bytes; the limit is {MAX_MESSAGE_BYTES}")
        return read()
    except Exception as error:  # whatever it is, it concerns this message only
        return ReadMessage(dead_letters=[refuse(payload, source, problem_of(error, source.message_type))])
    finally:
        _measure(source, time.perf_counter() - started)


def problem_of(error: Exception, message_type: str) -> Problem:
    """What was wrong with a message, by what reading it raised. The kind of an unexpected error is logged once.

    The text of an unexpected error may quote the message, so neither the problem nor the log has it.
    """
    if isinstance(error, NotJson):
        return Problem(path="", reason=error.reason, detail=str(error))
    kind = type(error).__name__
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_name}, line {place.tb_lineno}" if place is not None else "unknown"
    _log_once("a message of type %s cannot be read: a bug (%s in %s)", message_type, kind, where)
    return Problem(path="", reason="internal_error", detail=kind)


def _measure(source: MessageSource, seconds: float) -> None:
    _read_seconds(source.vendor).observe(seconds)
    if seconds > _SLOW_SECONDS:
        _log_once("a message of type %s took more than %g s to read", source.message_type, _SLOW_SECONDS)


def _log_once(template: str, *arguments: object) -> None:
    text = template % arguments
    if text not in _logged and len(_logged) < 1000:
        _logged.add(text)
        _log.error(template, *arguments)


@cache
def _read_seconds(vendor: str) -> Histogram:
    histogram: Histogram = READ_SECONDS.labels(vendor)
    return histogram
