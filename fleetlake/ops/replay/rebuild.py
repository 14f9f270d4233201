"""Makes the tables anew from the raw records with the current normalisers, in another lake.

A replay only reads, as no member of any group, in a process of its own: neither the live lake nor a topic is affected.
The stream's own pure operators do the work, one for each raw partition, and drop the same duplicates: reading begins 24
hours before the requested time, to know these, and keeps what was made of the records from that time on.

Alarms are detected anew beside it, which needs the raw records from their beginning: alarms that were open at the
requested time follow from earlier records. Registry entries are taken from their topic, and those that were compacted
away there from the live lake. A connector's dead letters are not made of raw records: the new lake does not have them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleetlake.errors import UserError
from fleetlake.ops.replay.alarm_detection import AlarmDetection, last_watermarks, read_side_inputs, why_inexact
from fleetlake.ops.replay.raw_records import RawRecords
from fleetlake.ops.replay.rebuilt_lake import RebuiltLake
from fleetlake.ops.replay.registry import registry_history
from runtime.kafka import KafkaSettings
from schemas import wire
from schemas.consumed import Record
from schemas.timestamps import to_micros
from schemas.topics import raw_topic
from sinks.delta.location import LakeLocation
from sinks.delta.tables import ALARM_EVENTS_TABLE, DEAD_LETTERS_TABLE, DEVICES_TABLE, EVENTS_TABLE, READINGS_TABLE
from streams.engine.step import single_outputs
from streams.normalise.operator import NormaliseOperator
from streams.settings import StreamSettings

WARM_UP = timedelta(hours=24)
"""The longest window in which a duplicate is recognised."""

TABLES = (READINGS_TABLE, EVENTS_TABLE, DEAD_LETTERS_TABLE, DEVICES_TABLE)


@dataclass(slots=True)
class Replayed:
    """What was read of a vendor, and what was made of it since the requested time."""

    vendor: str
    raw: int = 0
    from_table: int = 0
    records: int = 0
    oldest: datetime | None = None


class Replay:
    """One rebuild of the tables since a time, into the data folder `into`. The table `raw` of the lake `live` helps."""

    def __init__(
        self, kafka: KafkaSettings, stream: StreamSettings, live: LakeLocation, into: Path, since: datetime
    ) -> None:
        self._kafka = kafka
        self._stream = stream
        self._live = live
        self._since = since
        self._into = into
        self._raw = RawRecords(kafka, live)

    async def run(
        self, vendors: Sequence[str], report: Callable[[str], None], alarms: bool | None = None
    ) -> list[Replayed]:
        """Rebuild. UserError where the folder holds a lake already. What was written so far stays if it fails.

        `alarms`: whether to make alarms, too. None: only if everything is there that makes them come out as they were.
        """
        if (self._into / "lake").exists():
            raise UserError(f"{self._into / 'lake'} exists already: give a folder without a lake")
        detection, watermarks = None, {}
        if alarms is not False:
            watermarks = await last_watermarks(self._kafka, vendors)
            detection = await self._detection(vendors, report, anyway=alarms is True)
        lake = RebuiltLake(self._into, TABLES if detection is None else (*TABLES, ALARM_EVENTS_TABLE))
        tables = Rebuild(self._stream, self._since, lake, detection)
        done = []
        for vendor in vendors:
            replayed = await self._vendor(vendor, tables)
            done.append(replayed)
            report(f"{vendor}: {replayed.raw} raw records, {replayed.records} records made of them")
        if detection is not None:
            tables.add_alarms(detection.finish(watermarks))
            lake.flush()
            report(f"alarms: {lake.written(ALARM_EVENTS_TABLE.topic)} timeline entries")
        report(f"devices: {await self._devices(vendors, lake)} registry entries")
        lake.merge_files()
        return done

    async def _detection(
        self, vendors: Sequence[str], report: Callable[[str], None], *, anyway: bool
    ) -> AlarmDetection | None:
        """Alarm detection, if it can be exact or is wanted anyway."""
        side_inputs = await read_side_inputs(self._kafka)
        incomplete = [await self._raw.why_incomplete(vendor) for vendor in vendors]
        reasons = [*filter(None, incomplete), *why_inexact(side_inputs)]
        if reasons:
            outcome = "alarms may differ from what they were" if anyway else "alarms are not made anew"
            hint = "" if anyway else " (--alarms makes them from what is left)"
            report(f"{outcome}: {'; '.join(reasons)}{hint}")
        if reasons and not anyway:
            return None
        return AlarmDetection(self._stream.detect_options(), side_inputs)

    async def _vendor(self, vendor: str, tables: Rebuild) -> Replayed:
        replayed = Replayed(vendor)
        operators: dict[int, NormaliseOperator] = {}
        async for batch in self._raw.read(vendor, tables.start_ms):
            if batch.from_table:
                replayed.from_table += len(batch.records)
            for number in {record.partition for record in batch.records}:
                if number not in operators:
                    operators[number] = tables.normaliser(vendor)
                records = [record for record in batch.records if record.partition == number]
                tables.process(operators[number], records, replayed)
        tables.lake.flush()
        return replayed

    async def _devices(self, vendors: Sequence[str], lake: RebuiltLake) -> int:
        """Copy the registry's entries since the requested time; how many."""
        since_ms = int(self._since.timestamp() * 1000)
        count = 0
        async for partition, entries in registry_history(self._kafka, self._live):
            chosen = [
                entry
                for entry in entries
                if entry.timestamp >= since_ms and (entry.key or b"").decode().partition(":")[0] in vendors
            ]
            if chosen:
                lake.add_slice(DEVICES_TABLE.topic, partition, chosen)
            count += len(chosen)
        return count


@dataclass(frozen=True)
class Rebuild:
    """Turns raw records into the rows of the new tables, from `since` on."""

    stream: StreamSettings
    since: datetime
    lake: RebuiltLake
    detection: AlarmDetection | None

    @property
    def start_ms(self) -> int:
        """Where to begin to read, in epoch milliseconds: early enough to know duplicates; for alarms, 0."""
        return 0 if self.detection else max(0, int((self.since - WARM_UP).timestamp() * 1000))

    def normaliser(self, vendor: str) -> NormaliseOperator:
        """A new operator for one raw partition."""
        return NormaliseOperator(raw_topic(vendor), self.stream.options(), self.stream.dedupe_bytes())

    def process(self, operator: NormaliseOperator, records: list[Record], replayed: Replayed) -> None:
        """Normalise records of one partition, and add what was made of those since the requested time."""
        since_ms = int(self.since.timestamp() * 1000)
        warm_up = next((i for i, record in enumerate(records) if record.timestamp >= since_ms), len(records))
        now_us = int(time.time() * 1e6)
        before = single_outputs(operator.process(records[:warm_up], now_us))
        chosen = records[warm_up:]
        outputs = single_outputs(operator.process(chosen, now_us))
        if self.detection and records:
            self.add_alarms(self.detection.process(records[0].partition, [*before, *outputs]))
        if not chosen:
            return
        replayed.raw += len(chosen)
        first = datetime.fromtimestamp(chosen[0].timestamp / 1000, UTC)
        replayed.oldest = min(replayed.oldest or first, first)
        for output in outputs:
            if self.lake.has_table_of(output.topic):
                self.lake.add(output.topic, chosen[-1].timestamp, output.key, output.value)
                replayed.records += 1

    def add_alarms(self, events: Sequence[wire.AlarmEvent]) -> None:
        """Add the alarm events since the requested time."""
        for event in events:
            if event.created_at >= self.since:
                timestamp_ms = to_micros(event.created_at) // 1000
                key = event.alarm.device_id.encode()
                self.lake.add(ALARM_EVENTS_TABLE.topic, timestamp_ms, key, wire.encode(event))
