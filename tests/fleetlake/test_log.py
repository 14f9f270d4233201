"""Libraries say a thing once a minute; we say what we say."""

from __future__ import annotations

import logging
import sys

from runtime.log import LibraryFilter


def _record(name: str, message: str, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, message, (), None)


def test_a_library_repeats_itself_once_a_minute_only() -> None:
    now = [0.0]
    shown = LibraryFilter(lambda: now[0]).filter
    assert shown(_record("aiokafka.client", "lost %s"))
    assert not shown(_record("aiokafka.client", "lost %s"))
    assert shown(_record("aiokafka.client", "other"))
    assert shown(_record("aiokafka", "lost %s"))
    now[0] = 60.0
    assert shown(_record("aiokafka.client", "lost %s"))


def test_a_library_speaks_of_errors_only_and_without_traceback() -> None:
    shown = LibraryFilter(lambda: 0.0).filter
    assert not shown(_record("amqtt.broker", "refused", logging.WARNING))
    try:
        raise ValueError("deep inside")
    except ValueError:
        record = logging.LogRecord("amqtt.broker", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    assert shown(record)
    assert record.exc_info is None


def test_our_own_lines_are_never_dropped() -> None:
    shown = LibraryFilter(lambda: 0.0).filter
    assert shown(_record("connectors.common.connection_state", "down", logging.WARNING))
    assert shown(_record("connectors.common.connection_state", "down", logging.WARNING))
