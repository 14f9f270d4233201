"""From normalised records to records of the output topics, within the size that a topic takes (pure)."""

from __future__ import annotations

from typing import Any

import msgspec

from runtime.kafka_records.packed import OutputColumns
from schemas import wire
from schemas.consumed import Headers, Record
from schemas.envelope import JSON, TRACE_HEADER, message_id
from schemas.timestamps import from_millis
from schemas.topics import DEAD_LETTER, EVENTS, READINGS
from streams.engine.step import MAX_RECORD_BYTES, Output, record_bytes
from streams.normalise.message import Normalised, Options, payload_extract

_SURELY_FITS = MAX_RECORD_BYTES // 2
"""A value so small fits whatever its key and headers are, which came in a record of the same limit."""

_CONTENT_TYPE = ("content-type", JSON.encode())


class OutputCollector:
    """Collects the outputs of one batch, counts them, and knows which raw records gave some."""

    __slots__ = ("_options", "dead_letters", "events_to", "outputs", "readings", "readings_to", "written")

    def __init__(self, options: Options, readings_to: int, events_to: int) -> None:
        self.outputs: list[Output | OutputColumns] = []
        self.written = 0
        """Number of readings' and events' records."""
        self.readings = 0
        """Number of readings, also of those that no topic takes."""
        self.dead_letters = 0
        self.readings_to = readings_to
        """Offset of the last raw record that gave readings."""
        self.events_to = events_to
        """Offset of the last raw record that gave events."""
        self._options = options

    def add(self, result: Normalised, key: bytes, record: Record) -> None:
        """Add the outputs of one raw record. What no topic takes becomes a problem of the dead letter."""
        letter, headers = result.dead_letter, record.headers
        trace = headers[-1:] if headers and headers[-1][0] == TRACE_HEADER else ()  # a connector puts it last
        if (observation := result.observation) is not None:
            self.readings += len(observation.readings)
            output = _output(READINGS, key, observation.id, observation, trace)
            if _fits(output):
                self.outputs.append(output)
                self.written += 1
                self.readings_to = record.offset
            else:
                letter = self._too_large(letter, observation, record, output)
        if (events := result.events) is not None:
            output = _output(EVENTS, key, events.id, events, trace)
            if _fits(output):
                self.outputs.append(output)
                self.written += 1
                self.events_to = record.offset
            else:
                letter = self._too_large(letter, events, record, output)
        if letter is not None:
            self.dead_letters += 1
            self.outputs.append(_bounded_letter(key, letter))

    def add_observations(
        self, keys: list[bytes], values: list[bytes], ids: list[bytes], readings: int, offset: int
    ) -> None:
        """Add observations that surely fit; the last of them was made of the raw record with this offset."""
        self.outputs.append(OutputColumns(READINGS, keys, values, (_CONTENT_TYPE, ("ce_id", ids))))
        self.written += len(keys)
        self.readings += readings
        self.readings_to = offset

    def _too_large(
        self, letter: wire.DeadLetter | None, made: wire.Observation | wire.EventSet, record: Record, output: Output
    ) -> wire.DeadLetter:
        size = len(output.value or b"")
        problem = wire.Problem("", "too_large", f"{size} bytes normalised; the limit is {MAX_RECORD_BYTES}")
        if letter is not None:
            letter.problems.append(problem)
            return letter
        payload, length, digest = payload_extract(record.value or b"", False, self._options)
        return wire.DeadLetter(
            id=made.id,
            stage="normalise",
            received_at=made.received_at,
            problems=[problem],
            payload=payload,
            payload_bytes=length,
            payload_sha256=digest,
            device_id=made.device_id,
            vendor=made.vendor,
            origin=made.origin,
        )


def unreadable(record: Record, vendor: str, reason: str, options: Options) -> wire.DeadLetter:
    """The dead letter of a record that is no envelope; it was received when Kafka got it."""
    value = record.value or b""
    payload, size, digest = payload_extract(value, True, options)
    return wire.DeadLetter(
        id=message_id([record.topic, str(record.partition), str(record.offset), value]),
        stage="normalise",
        received_at=from_millis(record.timestamp),
        problems=[wire.Problem("", "no_envelope", reason)],
        payload=payload,
        payload_bytes=size,
        payload_sha256=digest,
        vendor=vendor,
        origin=wire.Origin(record.topic, record.partition, record.offset),
    )


def _fits(output: Output) -> bool:
    return len(output.value or b"") < _SURELY_FITS or record_bytes(output) <= MAX_RECORD_BYTES


def _output(topic: str, key: bytes, name: str, made: Any, trace: Headers = ()) -> Output:
    return Output(topic, key, wire.encode(made), (_CONTENT_TYPE, ("ce_id", name.encode()), *trace))


def _bounded_letter(key: bytes, letter: wire.DeadLetter) -> Output:
    """A dead letter that fits: without its payload if need be, and with its first problems only."""
    output = _output(DEAD_LETTER, key, letter.id, letter)
    if record_bytes(output) <= MAX_RECORD_BYTES:
        return output
    first = [wire.Problem(p.path[:500], p.reason, p.detail[:500]) for p in letter.problems[:100]]
    name = letter.id if len(letter.id) <= 1000 else message_id([letter.id])
    smaller = msgspec.structs.replace(
        letter, id=name, problems=first, payload="", device_id=letter.device_id and letter.device_id[:1000]
    )
    return _output(DEAD_LETTER, key, name, smaller)
