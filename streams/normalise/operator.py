"""The normalise step (see `streams.engine.step.Step` for what a step owes); detecting is `streams.detect`.

`NormaliseStep` turns raw records into observations, events and dead letters, and drops repeats. It is pure but for
counters and a line in the log about a bug.
"""

from __future__ import annotations

import logging
import struct
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from zlib import crc32

import msgspec

from runtime.metrics import DEAD_LETTERS, DUPLICATES, LEFT_OUT, READINGS_OUT, RECORDS_IN, RECORDS_OUT
from schemas import wire
from schemas.consumed import Record
from schemas.envelope import JSON, Envelope, EnvelopeError, dedupe_window_seconds, message_id, read_envelope
from schemas.timestamps import EPOCH, from_millis
from schemas.topics import (
    DEAD_LETTER,
    EVENTS,
    NORMALISE_STATE,
    READINGS,
    vendor_of_raw_topic,
)
from streams.engine.step import MAX_RECORD_BYTES, Output, SourceProgress, Step, record_bytes
from streams.normalise import Normalised, Options, dead_letter, normalise, payload_extract
from streams.normalise.backfill import TwoWays

log = logging.getLogger(__name__)

_SURELY_FITS = MAX_RECORD_BYTES // 2
"""A value so small fits whatever its key and headers are, which came in a record of the same limit."""

_CONTENT_TYPE = ("content-type", JSON.encode())

# -- repeats

_SHORT_SECONDS = 600
_LONG_SECONDS = 24 * 3600
_STORED = "wayscloud.telemetry.log"
_TWO_WAYS = ("wayscloud.publish", _STORED)
"""Message types that may tell the same reading: live, and read back after an outage."""
_HEAD = struct.Struct("<BII")
_VERSION = 1
_TOLD = struct.Struct("<qq")


class SeenIds:
    """Ids of messages seen within a window, as digests of eight bytes; bounded in number.

    Whether an id is a repeat depends on the times of receipt alone, not on how records were batched.
    """

    def __init__(self, window_seconds: int, max_ids: int) -> None:
        self.window_seconds = window_seconds
        self._max_ids = max_ids
        self._last_seen: OrderedDict[int, int] = OrderedDict()
        self._expires = 0
        """Nothing that is remembered expires before."""

    def __len__(self) -> int:
        return len(self._last_seen)

    def is_repeat(self, digest: int, second: int) -> bool:
        """Whether the id was seen within the window before `second`."""
        seen = self._last_seen.get(digest)
        return seen is not None and second - seen <= self.window_seconds

    def add(self, digest: int, second: int) -> None:
        """Remember an id seen at `second`; forgets what has expired, and the oldest if there are too many."""
        seen = self._last_seen
        if digest in seen:
            seen.move_to_end(digest)
        seen[digest] = second
        if second > self._expires or len(seen) > self._max_ids:
            self._forget(second)

    def _forget(self, now: int) -> None:
        seen = self._last_seen
        while len(seen) > self._max_ids or now - next(iter(seen.values())) > self.window_seconds:
            seen.popitem(last=False)
        self._expires = next(iter(seen.values())) + self.window_seconds

    def add_new(self, digest: int, second: int) -> bool:
        """Remember the id unless it is a repeat; whether it was remembered. Both at once for the hot path."""
        seen = self._last_seen.get(digest)
        if seen is not None and second - seen <= self.window_seconds:
            return False
        self.add(digest, second)
        return True


def _message_digest(device: str, name: str) -> int:
    """Eight bytes of the message's id, distinct for each device. Ids are mostly hexadecimal digests already."""
    if len(name) == 32:
        try:
            return int.from_bytes(bytes.fromhex(name[:16]), "little") ^ _device_mark(device)
        except ValueError:
            pass
    return _digest(device, name)


@lru_cache(maxsize=65_536)
def _device_mark(device: str) -> int:
    return crc32(device.encode()) * 0x9E3779B1


def _digest(*parts: str | bytes) -> int:
    found = blake2b(digest_size=8)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        found.update(len(raw).to_bytes(4, "little"))
        found.update(raw)
    return int.from_bytes(found.digest(), "little")


class RepeatFilter:
    """Recognises messages delivered again, and keeps what it needs for that as one packed record a batch.

    Source: contract.md, «Identity and duplicates»; windows of at least 10 minutes and 24 hours.
    """

    def __init__(self, max_ids: int) -> None:
        self._short = SeenIds(_SHORT_SECONDS, max_ids)
        self._long = SeenIds(_LONG_SECONDS, max_ids)
        self._news: tuple[list[int], list[int], list[int], list[int]] = ([], [], [], [])
        self._two_ways = TwoWays(self._long.is_repeat, lambda digest, second: self._remember(digest, second, True))

    def is_repeat(self, envelope: Envelope) -> bool:
        """Whether this message was seen, by its id; it is remembered if not.

        A message put back on purpose (attribute `replay`, whose value names the attempt) is no repeat of the original.
        """
        name = envelope.id
        if envelope.attributes and (attempt := envelope.attributes.get("replay")):
            name = f"{name} {attempt}"
        digest = _message_digest(envelope.device_id, name)
        return self._seen(digest, _second(envelope.received_at), _has_long_window(envelope.type))

    def is_repeated_packet(self, envelope: Envelope) -> bool:
        """Whether a payload without a time is an MQTT packet sent again: DUP is set and the same packet was seen.

        Without DUP, equal payloads are messages of their own. With DUP, the first delivery may never have come: the
        packet's identity (client id and packet identifier, attribute `mqttpacket`) tells it from others of equal
        content, so that it is not taken for one of them. The window is the long one, since a broker sends a packet
        again when the connector is back, however long that was away.
        """
        attributes = envelope.attributes
        packet = attributes.get("mqttpacket", "")
        digest = _digest(envelope.device_id, attributes.get("mqtttopic", ""), packet, envelope.data)
        second = _second(envelope.received_at)
        duplicate = attributes.get("mqttdup", "0").lower() in ("1", "true")
        if duplicate and (self._long if packet else self._short).is_repeat(digest, second):
            return True
        self._remember(digest, second, bool(packet))
        return False

    def not_told_the_other_way(self, readings: list[wire.Reading], envelope: Envelope) -> list[wire.Reading]:
        """The readings of a message that have not been told yet, live or read back (`streams.normalise.backfill`)."""
        second = _second(envelope.received_at)
        if envelope.type == _STORED:
            return self._two_ways.stored(readings, envelope, second)
        return self._two_ways.live(readings, envelope.device_id, second)

    def is_repeated_event(self, event: wire.Event, received_at: datetime) -> bool:
        """Whether the same fact was told by another message; a changed one is a new version of it."""
        return self._seen(_digest(event.event_id, event.data), _second(received_at), True)

    def _seen(self, digest: int, second: int, long: bool) -> bool:
        if not (self._long if long else self._short).add_new(digest, second):
            return True
        self._news[2 if long else 0].append(digest)
        self._news[3 if long else 1].append(second)
        return False

    def _remember(self, digest: int, second: int, long: bool) -> None:
        (self._long if long else self._short).add(digest, second)
        self._news[2 if long else 0].append(digest)
        self._news[3 if long else 1].append(second)

    def pack(self) -> bytes | None:
        """What was remembered since the last call; None if nothing."""
        short, short_at, long, long_at = self._news
        if not short and not long:
            return None
        self._news = ([], [], [], [])
        count = f"<{len(short)}Q{len(short)}I{len(long)}Q{len(long)}I"
        head = _HEAD.pack(_VERSION, len(short), len(long))
        return head + struct.pack(count, *short, *short_at, *long, *long_at)

    def unpack(self, packed: bytes) -> None:
        """Remember what `pack` gave."""
        version, short, long = _HEAD.unpack_from(packed)
        if version != _VERSION:
            raise ValueError(f"state of version {version}; this program reads version {_VERSION}")
        found = struct.unpack_from(f"<{short}Q{short}I{long}Q{long}I", packed, _HEAD.size)
        for digest, second in zip(found[:short], found[short : 2 * short], strict=True):
            self._short.add(digest, second)
        rest = found[2 * short :]
        for digest, second in zip(rest[:long], rest[long:], strict=True):
            self._long.add(digest, second)


@lru_cache(maxsize=1024)
def _has_long_window(message_type: str) -> bool:
    return dedupe_window_seconds(message_type) > _SHORT_SECONDS


def _second(moment: datetime) -> int:
    since = moment - EPOCH
    second = since.days * 86_400 + since.seconds
    return second if 0 <= second < 0xFFFFFFFF else 0


# -- normalise


class NormaliseStep(Step):
    """Normalises one partition of a raw topic.

    Every record gives at most one record on each of readings, events and dead letters; repeats give none. A bug in a
    normaliser costs its record (dead letter `internal_error`), never the partition.
    """

    state_topic = NORMALISE_STATE
    state_window_seconds = _LONG_SECONDS

    def __init__(self, topic: str, options: Options, dedupe_max_ids: int = 250_000) -> None:
        self.vendor = vendor_of_raw_topic(topic)
        self._state_key = topic.encode()
        self._told_key = f"{topic}#told".encode()
        self.told = (-1, -1)
        """Offsets of the last raw records that gave readings, and events: for the clock (`watermark_source`)."""
        self._options = options
        self._repeats = RepeatFilter(dedupe_max_ids)
        self._bugs: set[str] = set()

    @property
    def source_progress(self) -> SourceProgress:
        """See `Step.source_progress`."""
        readings_to, events_to = self.told
        return SourceProgress(self.vendor, {READINGS: readings_to, EVENTS: events_to})

    def restore(self, key: bytes | None, value: bytes | None) -> None:
        """Take the ids one batch remembered, if it was of this input topic."""
        if key == self._state_key and value is not None:
            self._repeats.unpack(value)
        elif key == self._told_key and value is not None:
            self.told = _TOLD.unpack(value)

    def process(self, records: Sequence[Record], now_us: int) -> list[Output]:
        """Normalise the records, in order."""
        outputs: list[Output] = []
        before = self.told
        readings = duplicates = dead = 0
        for record in records:
            found = self._one(record)
            if found is None:
                duplicates += 1
                continue
            result, key = found
            if self._emit(outputs, result, key, record):
                dead += 1
            if result.observation is not None:
                readings += len(result.observation.readings)
        self._count(len(records), len(outputs) - dead, readings, duplicates, dead)
        if (packed := self._repeats.pack()) is not None:
            outputs.append(Output(NORMALISE_STATE, self._state_key, packed))
        if self.told != before:
            outputs.append(Output(NORMALISE_STATE, self._told_key, _TOLD.pack(*self.told)))
        return outputs

    def _one(self, record: Record) -> tuple[Normalised, bytes] | None:
        """The records made of one raw record and their key; None for a repeat."""
        origin = wire.Origin(record.topic, record.partition, record.offset)
        try:
            envelope = read_envelope(record.value, record.headers)
        except EnvelopeError as error:
            return Normalised(dead_letter=self._unreadable(record, origin, str(error))), record.key or b""
        packet = "mqtttopic" in envelope.attributes  # whether it repeats another depends on what it says
        if not packet and self._repeats.is_repeat(envelope):
            return None
        try:
            result = normalise(envelope, origin, self._options)
            timeless = packet and _is_timeless(result)
        except Exception as error:
            result, timeless = Normalised(dead_letter=self._bug(envelope, origin, error)), False
        if packet and (self._repeats.is_repeated_packet if timeless else self._repeats.is_repeat)(envelope):
            return None
        if result.observation is not None and envelope.type in _TWO_WAYS:
            self._leave_out_told(result, result.observation, envelope)
        if (told := result.events) is not None:
            told.events = [e for e in told.events if not self._repeats.is_repeated_event(e, told.received_at)]
            result.events = told if told.events else None
        return result, record.key or envelope.key

    def _leave_out_told(self, result: Normalised, seen: wire.Observation, envelope: Envelope) -> None:
        """Leave out the readings that were told the other way, live or read back."""
        readings = self._repeats.not_told_the_other_way(seen.readings, envelope)
        if len(readings) < len(seen.readings):
            LEFT_OUT.labels("normalise", self.vendor, "told_before").inc(len(seen.readings) - len(readings))
            seen.readings = readings
            result.observation = seen if readings else None

    def _unreadable(self, record: Record, origin: wire.Origin, reason: str) -> wire.DeadLetter:
        """The dead letter of a record that is no envelope; it was received when Kafka got it."""
        value = record.value or b""
        payload, size, digest = payload_extract(value, True, self._options)
        return wire.DeadLetter(
            id=message_id([origin.topic, str(origin.partition), str(origin.offset), value]),
            stage="normalise",
            received_at=from_millis(record.timestamp),
            problems=[wire.Problem("", "no_envelope", reason)],
            payload=payload,
            payload_bytes=size,
            payload_sha256=digest,
            vendor=self.vendor,
            origin=origin,
        )

    def _bug(self, envelope: Envelope, origin: wire.Origin, error: Exception) -> wire.DeadLetter:
        kind = f"{envelope.type}: {type(error).__name__}"
        if kind not in self._bugs:
            self._bugs.add(kind)
            log.error("a message of type %s could not be normalised: a bug", envelope.type, exc_info=error)
        problem = wire.Problem("", "internal_error", type(error).__name__)
        return dead_letter(envelope, self.vendor, origin, [problem], self._options)

    def _emit(self, outputs: list[Output], result: Normalised, key: bytes, record: Record) -> bool:
        """Add the outputs of one record; whether a dead letter is among them.

        What no topic takes becomes a problem of the dead letter.
        """
        letter = result.dead_letter
        if (seen := result.observation) is not None:
            output = _output(READINGS, key, seen.id, seen)
            if _fits(output):
                outputs.append(output)
                self.told = (record.offset, self.told[1])
            else:
                letter = self._too_large(letter, seen, record, output)
        if (told := result.events) is not None:
            output = _output(EVENTS, key, told.id, told)
            if _fits(output):
                outputs.append(output)
                self.told = (self.told[0], record.offset)
            else:
                letter = self._too_large(letter, told, record, output)
        if letter is None:
            return False
        outputs.append(_bounded_letter(key, letter))
        return True

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

    def _count(self, taken: int, out: int, readings: int, duplicates: int, dead: int) -> None:
        labels = ("normalise", self.vendor)
        for counter, number in (
            (RECORDS_IN, taken),
            (RECORDS_OUT, out),
            (READINGS_OUT, readings),
            (DUPLICATES, duplicates),
            (DEAD_LETTERS, dead),
        ):
            if number:
                counter.labels(*labels).inc(number)


def _is_timeless(result: Normalised) -> bool:
    """Whether the vendor's message carried no time of its own."""
    readings = result.observation.readings if result.observation is not None else []
    return all(reading.time_source == "received" for reading in readings)


def _fits(output: Output) -> bool:
    return len(output.value or b"") < _SURELY_FITS or record_bytes(output) <= MAX_RECORD_BYTES


def _output(topic: str, key: bytes, name: str, made: Any) -> Output:
    return Output(topic, key, wire.encode(made), (_CONTENT_TYPE, ("ce_id", name.encode())))


def _bounded_letter(key: bytes, letter: wire.DeadLetter) -> Output:
    """A dead letter that fits: first the payload goes, then all but the first problems."""
    output = _output(DEAD_LETTER, key, letter.id, letter)
    if record_bytes(output) <= MAX_RECORD_BYTES:
        return output
    first = [wire.Problem(p.path[:500], p.reason, p.detail[:500]) for p in letter.problems[:100]]
    name = letter.id if len(letter.id) <= 1000 else message_id([letter.id])
    smaller = msgspec.structs.replace(
        letter, id=name, problems=first, payload="", device_id=letter.device_id and letter.device_id[:1000]
    )
    return _output(DEAD_LETTER, key, name, smaller)
