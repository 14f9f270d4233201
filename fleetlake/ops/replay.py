"""`fleetlake replay`: tables made anew from the raw records with today's normalising, in another lake.

It reads only, as no member of any group, in a process of its own: neither the live lake nor a topic notices. The same
pure step as in the stream does the work, one for each raw partition, and drops the same repeats: it begins to read 24
hours before the time asked for, to know them, and keeps what was made of the records from then on. What Kafka has let
go is taken from the table `raw`, where there is one.

Alarms are detected anew beside it (`fleetlake.ops.replay_alarms`), which needs the raw records from their beginning:
what was open at the time asked for follows from what came before. Registry entries are taken from their topic, and
those it has let go from the live lake. A connector's dead letters are made of no raw record: they are not in the new
lake.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from deltalake.exceptions import TableNotFoundError

from fleetlake.errors import UserError
from fleetlake.ops.replay_alarms import Detection, followed_topics, last_ticks, unknown
from fleetlake.ops.replay_topics import FETCH_RECORDS, Kept, read_whole
from runtime.kafka import KafkaSettings, client_options
from runtime.topic_reader import read_spans, spans_of, spans_since, topic_consumer
from schemas import wire
from schemas.consumed import Record
from schemas.timestamps import to_micros
from schemas.topics import raw_topic
from sinks.delta.lake_writer import LakeWriter
from sinks.delta.location import LakeLocation
from sinks.delta.maintenance.table import maintain
from sinks.delta.tables import ALARM_EVENTS, DEVICES, Table
from sinks.delta.tables import DEAD_LETTERS as DEAD_LETTERS_TABLE
from sinks.delta.tables import EVENTS as EVENTS_TABLE
from sinks.delta.tables import READINGS as READINGS_TABLE
from sinks.settings import DeltaSettings
from sinks.writer import Slice
from streams.normalise.operator import NormaliseStep
from streams.settings import StreamSettings

WARM_UP = timedelta(hours=24)
"""The longest window in which a repeat is recognised."""

TABLES = (READINGS_TABLE, EVENTS_TABLE, DEAD_LETTERS_TABLE, DEVICES)
WRITE_RECORDS = 100_000


@dataclass(slots=True)
class Replayed:
    """What was read of a vendor, and what was made of it since the time asked for."""

    vendor: str
    raw: int = 0
    from_table: int = 0
    records: int = 0
    oldest: datetime | None = None


class Replay:
    """One rebuilding. `live` is the lake whose table `raw` helps out."""

    def __init__(
        self, kafka: KafkaSettings, stream: StreamSettings, live: LakeLocation, into: Path, since: datetime
    ) -> None:
        self._kafka = kafka
        self._stream = stream
        self._live = live
        self._since = since
        self._into = into
        self._tables: tuple[Table, ...] = TABLES
        self._detection: Detection | None = None

    async def run(
        self, vendors: Sequence[str], tell: Callable[[str], None], alarms: bool | None = None
    ) -> list[Replayed]:
        """Rebuild; UserError where the folder holds a lake already. What was written so far stays if it fails.

        `alarms`: whether to make them anew, too; None: if all is there that it takes for them to be as they were.
        """
        if (self._into / "lake").exists():
            raise UserError(f"{self._into / 'lake'} is there already: give a folder without a lake")
        reached = await last_ticks(self._kafka, vendors) if alarms is not False else {}
        if alarms is not False:
            await self._detect(vendors, tell, alarms is True)
        self._open()
        found = []
        for vendor in vendors:
            found.append(await self._vendor(vendor))
            self._write_all()
            tell(f"{vendor}: {found[-1].raw} raw records, {found[-1].records} made of them")
        if self._detection:
            self._keep(self._detection.finish(reached))
            self._write_all()
            tell(f"alarms: {self._next[ALARM_EVENTS.topic]} entries of their timelines")
        tell(f"devices: {await self._devices(vendors)} entries of the registry")
        self._tidy()
        return found

    async def _detect(self, vendors: Sequence[str], tell: Callable[[str], None], anyway: bool) -> None:
        """Set detecting up, if it can be exact or is wanted anyway."""
        followed = await followed_topics(self._kafka)
        reasons = [*[why for vendor in vendors if (why := await self._incomplete(vendor))], *unknown(followed)]
        if reasons:
            said = "alarms may differ from what they were" if anyway else "alarms are not made anew"
            hint = "" if anyway else " (--alarms makes them of what is left)"
            tell(f"{said}: {'; '.join(reasons)}{hint}")
        if anyway or not reasons:
            self._detection = Detection(self._stream.detect_options(), followed)
            self._tables = (*TABLES, ALARM_EVENTS)

    async def _incomplete(self, vendor: str) -> str | None:
        """Where raw records are missing before those that Kafka has; alarms that were open then are not known."""
        topic = raw_topic(vendor)
        async with topic_consumer(client_options(self._kafka), topic) as (consumer, partitions):
            begin = await consumer.beginning_offsets(partitions)
        for p, offset in begin.items():
            if offset and self._held(topic, p.partition, offset) < offset:
                return f"raw records of {vendor} before offset {offset} of partition {p.partition} are gone"
        return None

    def _held(self, topic: str, partition: int, before: int) -> int:
        """How many of the first records of a partition the table `raw` has."""
        try:
            table = self._live.open("raw").to_pyarrow_dataset()
        except TableNotFoundError:
            return 0
        return int(table.count_rows(filter=_before(topic, partition, before)))

    def _open(self) -> None:
        self._made: dict[str, list[Record]] = {table.topic: [] for table in self._tables}
        self._next: dict[str, int] = {table.topic: 0 for table in self._tables}
        ids = {table.topic: "replay" for table in self._tables}
        self._lake = LakeWriter(self._into, DeltaSettings(sync=False), ids, self._tables)
        self._lake.open()

    async def _vendor(self, vendor: str) -> Replayed:
        topic, done = raw_topic(vendor), Replayed(vendor)
        steps: dict[int, NormaliseStep] = {}
        async for records in self._records(topic, done):
            for number in {record.partition for record in records}:
                step = steps.setdefault(
                    number, NormaliseStep(topic, self._stream.options(), self._stream.dedupe_max_ids)
                )
                self._process(step, [record for record in records if record.partition == number], done)
        return done

    def _process(self, step: NormaliseStep, records: list[Record], done: Replayed) -> None:
        since_ms = int(self._since.timestamp() * 1000)
        warming = next((i for i, record in enumerate(records) if record.timestamp >= since_ms), len(records))
        now_us = int(time.time() * 1e6)
        before = step.process(records[:warming], now_us)
        wanted = records[warming:]
        made = step.process(wanted, now_us)
        if self._detection and records:
            self._keep(self._detection.take(records[0].partition, [*before, *made]))
        if not wanted:
            return
        done.raw += len(wanted)
        first = datetime.fromtimestamp(wanted[0].timestamp / 1000, UTC)
        done.oldest = min(done.oldest or first, first)
        for output in made:
            if output.topic in self._made:
                self._add(output.topic, wanted[-1].timestamp, output.key, output.value)
                done.records += 1
        for name, waiting in self._made.items():
            if len(waiting) >= WRITE_RECORDS:
                self._write(name)

    def _keep(self, events: Sequence[wire.AlarmEvent]) -> None:
        for event in events:
            if event.created_at >= self._since:
                stamp = to_micros(event.created_at) // 1000
                self._add(ALARM_EVENTS.topic, stamp, event.alarm.device_id.encode(), wire.encode(event))

    def _add(self, topic: str, stamp: int, key: bytes | None, value: bytes | None) -> None:
        offset = self._next[topic] + len(self._made[topic])
        self._made[topic].append(Kept(topic, 0, offset, stamp, key, value))

    def _write_all(self) -> None:
        for name, made in self._made.items():
            if made:
                self._write(name)

    def _write(self, topic: str) -> None:
        records, first = self._made[topic], self._next[topic]
        self._next[topic] = first + len(records)
        self._lake.write(topic, [Slice(0, first or None, self._next[topic], records)])
        self._made[topic] = []

    def _tidy(self) -> None:
        location = LakeLocation(str((self._into / "lake").resolve()))
        for table in self._tables:
            while maintain(location, table.name, DeltaSettings(compact_files=2), vacuum=False).merged:
                pass

    async def _records(self, topic: str, done: Replayed) -> AsyncIterator[list[Record]]:
        """The raw records from the warm-up on, in order in each partition: of the table first, then Kafka's."""
        async with topic_consumer(client_options(self._kafka), topic) as (consumer, partitions):
            spans = await spans_of(consumer, partitions)
            for records in self._of_table(topic, {tp.partition: span.start for tp, span in spans.items()}):
                done.from_table += len(records)
                yield records
            if not self._detection:
                spans = await spans_since(consumer, spans, self._start_ms)
            async for batch in read_spans(consumer, spans):
                yield batch.records

    @property
    def _start_ms(self) -> int:
        """From when on raw records are read, to know repeats; for alarms from the beginning."""
        return 0 if self._detection else max(0, int((self._since - WARM_UP).timestamp() * 1000))

    async def _devices(self, vendors: Sequence[str]) -> int:
        """The registry's history: as its topic holds it, and what was compacted away there as the live lake does."""
        whole = await read_whole(self._kafka, DEVICES.topic)
        since_ms = int(self._since.timestamp() * 1000)
        count = 0
        for partition, records in whole.records.items():
            there = {record.offset for record in records}
            gone = [record for record in self._registry_entries(partition) if record.offset not in there]
            wanted = [
                record
                for record in sorted([*records, *gone], key=lambda record: record.offset)
                if record.timestamp >= since_ms and (record.key or b"").decode().partition(":")[0] in vendors
            ]
            if wanted:
                self._lake.write(DEVICES.topic, [Slice(partition, None, wanted[-1].offset + 1, wanted)])
            count += len(wanted)
        return count

    def _registry_entries(self, partition: int) -> list[Record]:
        """Those of the live lake, as they stood on the topic."""
        try:
            table = self._live.open(DEVICES.name).to_pyarrow_dataset()
        except TableNotFoundError:
            return []
        rows = table.to_table(filter=ds.field("origin_partition") == partition).to_pylist()
        return [_registry_entry(row) for row in rows]

    def _of_table(self, topic: str, before: dict[int, int]) -> Iterator[list[Record]]:
        """Records that Kafka holds no longer, in batches of one partition."""
        try:
            table = self._live.open("raw").to_pyarrow_dataset()
        except TableNotFoundError:
            return
        earliest = datetime.fromtimestamp(self._start_ms / 1000, UTC).replace(tzinfo=None)
        for partition, offset in before.items():
            gone = _before(topic, partition, offset) & (ds.field("received_at") >= earliest)
            columns = ["origin_offset", "received_at", "device_id", "value", "headers"]
            rows = table.to_table(columns=columns, filter=gone).sort_by("origin_offset")
            for batch in rows.to_batches(max_chunksize=FETCH_RECORDS):
                yield [_of_row(topic, partition, row) for row in batch.to_pylist()]


def _of_row(topic: str, partition: int, row: dict[str, Any]) -> Record:
    stamp = int(row["received_at"].replace(tzinfo=UTC).timestamp() * 1000)
    headers = [(name, None if value is None else value.encode()) for name, value in json.loads(row["headers"])]
    return Kept(topic, partition, row["origin_offset"], stamp, row["device_id"].encode(), row["value"], headers)


def _before(topic: str, partition: int, offset: int) -> ds.Expression:
    return (
        (ds.field("origin_topic") == topic)
        & (ds.field("origin_partition") == partition)
        & (ds.field("origin_offset") < offset)
    )


def _registry_entry(row: dict[str, Any]) -> Record:
    value = (
        None
        if row["deleted"]
        else wire.encode(
            wire.Device(
                device_id=row["device_id"],
                vendor=row["vendor"],
                updated_at=row["updated_at"].replace(tzinfo=UTC),
                registered=row["registered"],
                name=row["name"],
                model=row["model"],
                serial_number=row["serial_number"],
                firmware_version=row["firmware_version"],
                attributes=json.loads(row["attributes"] or "{}"),
            )
        )
    )
    stamp = int(row["received_at"].replace(tzinfo=UTC).timestamp() * 1000)
    return Kept(DEVICES.topic, row["origin_partition"], row["origin_offset"], stamp, row["device_id"].encode(), value)
