"""The normalise operator: raw records in; observations, events and dead letters out, without duplicates.

What an operator owes its pipeline is said by `streams.engine.step.Step`. It is pure but for counters and a line in the
log about a bug.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Sequence

from runtime.kafka_records.fetched import RecordRun
from runtime.kafka_records.packed import OutputColumns
from runtime.metrics import (
    DEAD_LETTERS,
    DEDUPE_CUT,
    DUPLICATES,
    LEFT_OUT,
    NORMALISED,
    READINGS_OUT,
    RECORDS_IN,
    RECORDS_OUT,
)
from schemas import wire
from schemas.consumed import Record
from schemas.envelope import Envelope, EnvelopeError, read_envelope
from schemas.topics import EVENTS, NORMALISE_STATE, POLLED_STATE, READINGS, vendor_of_raw_topic
from schemas.vendors import vendors
from streams.engine.step import Output, SourceProgress, Step
from streams.normalise import Normalised, Options, dead_letter, handler_of, normalise, vendor_of
from streams.normalise.backfill import BackfillFilter
from streams.normalise.columnar.normaliser import ColumnarNormaliser, ColumnarResults, Subject
from streams.normalise.duplicates import LONG_WINDOW_SECONDS, DuplicateFilter, SeenIds
from streams.normalise.outputs import OutputCollector, unreadable
from streams.normalise.polled_states import PolledStateFilter

log = logging.getLogger(__name__)

_EMITTED = struct.Struct("<qq")


class NormaliseOperator(Step):
    """Normalises one partition of a raw topic.

    Every record gives at most one record on each of readings, events and dead letters; duplicates give none. A bug in a
    normaliser costs its record (dead letter `internal_error`), never the partition.
    """

    state_topic = NORMALISE_STATE
    state_window_seconds = LONG_WINDOW_SECONDS
    lasting_state_topic = POLLED_STATE

    def __init__(self, topic: str, options: Options, dedupe_bytes: int = 64 << 20) -> None:
        self.vendor = vendor_of_raw_topic(topic)
        self._ids_key = topic.encode()
        self._emitted_key = f"{topic}#told".encode()
        self._states_prefix = f"{topic}/".encode()
        self._emitted = (-1, -1)  # offsets of the last raw records that gave readings, and events
        self._options = options
        self._duplicates = DuplicateFilter(dedupe_bytes)
        spec = vendors().get(self.vendor)
        self._backfill = BackfillFilter(self._duplicates.long, spec.backfill if spec is not None else None)
        self._states = PolledStateFilter()
        self._bugs: set[str] = set()
        compared = () if spec is None or spec.backfill is None else (spec.backfill.live, spec.backfill.stored)
        self._columnar = ColumnarNormaliser(topic, Subject(self.vendor, handler_of, vendor_of, options, compared))
        self._cut: dict[SeenIds, int] = {self._duplicates.short: 0, self._duplicates.long: 0}

    @property
    def source_progress(self) -> SourceProgress:
        """See `Step.source_progress`."""
        readings_to, events_to = self._emitted
        return SourceProgress(self.vendor, {READINGS: readings_to, EVENTS: events_to})

    def restore(self, key: bytes | None, value: bytes | None) -> None:
        """Take what one batch remembered, if it was of this input topic."""
        if key == self._ids_key and value is not None:
            self._duplicates.unpack(value)
        elif key == self._emitted_key and value is not None:
            self._emitted = _EMITTED.unpack(value)
        elif key is not None and key.startswith(self._states_prefix):
            self._states.restore(key[len(self._states_prefix) :].decode(), value)

    def process(self, records: Sequence[Record], now_us: int) -> list[Output | OutputColumns]:
        """Normalise the records, in order."""
        collector = OutputCollector(self._options, *self._emitted)
        columnar = self._columnar.normalise(records) if isinstance(records, RecordRun) else None
        if columnar is None:
            duplicates = self._process_singly(records, collector)
        else:
            duplicates = self._process_mixed(records, columnar, collector)
        self._count(len(records), duplicates, collector)
        self._count_paths(len(records), 0 if columnar is None else len(columnar.index))
        return [*collector.outputs, *self._changes(collector)]

    def _process_singly(self, records: Iterable[Record], collector: OutputCollector) -> int:
        """Normalise one record after the other; return the number of duplicates."""
        add, normalised, duplicates = collector.add, self._normalised, 0
        for record in records:
            made = normalised(record)
            if made is None:
                duplicates += 1
            else:
                add(made[0], made[1], record)
        return duplicates

    def _process_mixed(self, records: Sequence[Record], columnar: ColumnarResults, collector: OutputCollector) -> int:
        """Put the columnar results and the other records in order; return the number of duplicates."""
        duplicates = at = 0
        for first, last in columnar.runs():
            begin, end = columnar.index[first], columnar.index[last - 1] + 1
            if at < begin:
                duplicates += self._process_singly(records[at:begin], collector)
            duplicates += self._add_columnar(columnar.part(first, last), collector)
            at = end
        if at < len(records):
            duplicates += self._process_singly(records[at:], collector)
        return duplicates

    def _add_columnar(self, part: ColumnarResults, collector: OutputCollector) -> int:
        are_new = self._duplicates.are_new(part.routes[0], part.digests, part.seconds)
        new = part if all(are_new) else part.only(are_new)
        if new.index:
            collector.add_observations(new.keys, new.values, new.ids, sum(new.readings), new.offsets[-1])
        return len(part.index) - len(new.index)

    def _count_paths(self, records: int, columnar: int) -> None:
        for path, number in (("columnar", columnar), ("general", records - columnar)):
            if number:
                NORMALISED.labels(self.vendor, path).inc(number)

    def _changes(self, collector: OutputCollector) -> list[Output]:
        """What a batch changed of the state."""
        changes = []
        if (packed := self._duplicates.pack()) is not None:
            changes.append(Output(NORMALISE_STATE, self._ids_key, packed))
        emitted = (collector.readings_to, collector.events_to)
        if emitted != self._emitted:
            self._emitted = emitted
            changes.append(Output(NORMALISE_STATE, self._emitted_key, _EMITTED.pack(*emitted)))
        for device_id, states in self._states.take_changed():
            changes.append(Output(POLLED_STATE, self._states_prefix + device_id.encode(), states))
        return changes

    def _normalised(self, record: Record) -> tuple[Normalised, bytes] | None:
        """The records made of one raw record and their key; None for a duplicate."""
        origin = wire.Origin(record.topic, record.partition, record.offset)
        try:
            envelope = read_envelope(record.value, record.headers)
        except EnvelopeError as error:
            letter = unreadable(record, self.vendor, str(error), self._options)
            return Normalised(dead_letter=letter), record.key or b""
        packet = envelope.is_mqtt_packet
        if not packet and self._duplicates.is_duplicate(envelope):
            return None
        try:
            result = normalise(envelope, origin, self._options)
            timeless = packet and _is_timeless(result)
        except Exception as error:
            result, timeless = Normalised(dead_letter=self._bug(envelope, origin, error)), False
        if packet and self._is_duplicate_packet(envelope, timeless):
            return None
        if result.events is not None or result.is_polled_state or self._backfill.concerns(envelope):
            self._leave_out_known(result, envelope)
        return result, record.key or envelope.key

    def _is_duplicate_packet(self, envelope: Envelope, timeless: bool) -> bool:
        if timeless:
            return self._duplicates.is_duplicate_packet(envelope)
        return self._duplicates.is_duplicate(envelope)

    def _leave_out_known(self, result: Normalised, envelope: Envelope) -> None:
        """Leave out readings that came live or by a back-fill before, unchanged states, and events reported before."""
        if (observation := result.observation) is not None:
            if result.is_polled_state:
                new = self._states.new_readings(envelope.device_id, envelope.type, observation.readings)
                self._keep_only(new, result, observation, "unchanged")
            elif self._backfill.concerns(envelope):
                new = self._backfill.new_readings(observation.readings, envelope)
                self._keep_only(new, result, observation, "told_before")
        if (events := result.events) is not None:
            at = events.received_at
            events.events = [e for e in events.events if not self._duplicates.is_duplicate_event(e, at)]
            result.events = events if events.events else None

    def _keep_only(
        self, new: list[wire.Reading], result: Normalised, observation: wire.Observation, reason: str
    ) -> None:
        if left_out := len(observation.readings) - len(new):
            LEFT_OUT.labels("normalise", self.vendor, reason).inc(left_out)
            observation.readings = new
            result.observation = observation if new else None

    def _bug(self, envelope: Envelope, origin: wire.Origin, error: Exception) -> wire.DeadLetter:
        kind = f"{envelope.type}: {type(error).__name__}"
        if kind not in self._bugs:
            self._bugs.add(kind)
            log.error("a message of type %s could not be normalised: a bug", envelope.type, exc_info=error)
        problem = wire.Problem("", "internal_error", type(error).__name__)
        return dead_letter(envelope, self.vendor, origin, [problem], self._options)

    def _count(self, taken: int, duplicates: int, collector: OutputCollector) -> None:
        for counter, number in (
            (RECORDS_IN, taken),
            (RECORDS_OUT, collector.written),
            (READINGS_OUT, collector.readings),
            (DUPLICATES, duplicates),
            (DEAD_LETTERS, collector.dead_letters),
        ):
            if number:
                counter.labels("normalise", self.vendor).inc(number)
        for seen, before in self._cut.items():
            if seen.cut > before:
                self._count_cut(seen, before)

    def _count_cut(self, seen: SeenIds, before: int) -> None:
        """Say once that a window of duplicates does not fit into its bound, and count what was forgotten for it."""
        self._cut[seen] = seen.cut
        DEDUPE_CUT.labels(self.vendor).inc(seen.cut - before)
        if not before:
            log.warning(
                "%s: duplicates are recognised for %d s only, not for %d s: more ids do not fit into `[stream] "
                "dedupe_max_bytes` (reported once)",
                self.vendor,
                seen.reach_seconds,
                seen.window_seconds,
            )


def _is_timeless(result: Normalised) -> bool:
    """Whether the vendor's message carried no time of its own."""
    readings = result.observation.readings if result.observation is not None else []
    return all(reading.time_source == "received" for reading in readings)
