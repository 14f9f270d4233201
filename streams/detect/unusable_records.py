"""Records of the input that cannot be applied: they become dead letters and never stop a partition (pure)."""

from __future__ import annotations

import logging

import msgspec

from runtime.metrics import DEAD_LETTERS
from schemas import wire
from schemas.consumed import Record
from schemas.envelope import JSON, message_id
from schemas.timestamps import from_millis
from schemas.topics import DEAD_LETTER
from streams.engine.step import Output
from streams.normalise import Options, payload_extract

log = logging.getLogger(__name__)

CONTENT_TYPE = ("content-type", JSON.encode())


class UnusableRecords:
    """Makes dead letters of records that cannot be applied. Each kind of bug is logged once."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._logged: set[str] = set()

    def dead_letter(self, record: Record, error: Exception, vendor: str) -> Output:
        """The dead letter of a record of which applying raised `error`."""
        DEAD_LETTERS.labels("detect", vendor).inc()
        kind = type(error).__name__
        is_broken = isinstance(error, msgspec.MsgspecError | UnicodeDecodeError)
        if not is_broken and kind not in self._logged:
            self._logged.add(kind)
            log.error("a record of %s could not be applied: a bug", record.topic, exc_info=error)
        problem = wire.Problem("", "not_a_record" if is_broken else "internal_error", kind)
        payload, size, digest = payload_extract(record.value or b"", True, self._options)
        letter = wire.DeadLetter(
            id=message_id([record.topic, str(record.partition), str(record.offset)]),
            stage="detect",
            received_at=from_millis(record.timestamp),
            problems=[problem],
            payload=payload,
            payload_bytes=size,
            payload_sha256=digest,
            origin=wire.Origin(record.topic, record.partition, record.offset),
        )
        headers = (CONTENT_TYPE, ("ce_id", letter.id.encode()))
        return Output(DEAD_LETTER, record.key or b"", wire.encode(letter), headers)
