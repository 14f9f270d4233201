"""`fleetlake replay`: tables made anew from the raw records with today's normalising, in another lake.

It reads only, as no member of any group, in a process of its own: neither the live lake nor a topic notices. The same
pure step as in the stream does the work, one for each raw partition, and drops the same repeats: it begins to read 24
hours before the time asked for, to know them, and keeps what was made of the records from then on. What Kafka has let
go is taken from the table `raw`, where there is one. Alarms and registry entries are not made of raw records, nor are a
connector's dead letters: they are not in the new lake.
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
from runtime.kafka import KafkaSettings
from runtime.reading import read_stretches, reading
from schemas.consumed import Headers, Record
from schemas.topics import raw_topic
from sinks.consumer import Slice
from sinks.delta import Lake
from sinks.location import LakeLocation
from sinks.settings import DeltaSettings
from sinks.tables import DEAD_LETTERS as DEAD_LETTERS_TABLE
from sinks.tables import EVENTS as EVENTS_TABLE
from sinks.tables import READINGS as READINGS_TABLE
from sinks.upkeep import tidy
from streams.settings import StreamSettings
from streams.steps import NormaliseStep

WARM_UP = timedelta(hours=24)
"""The longest window in which a repeat is recognised."""

TABLES = (READINGS_TABLE, EVENTS_TABLE, DEAD_LETTERS_TABLE)
FETCH_RECORDS = 20_000
WRITE_RECORDS = 100_000


@dataclass(frozen=True, slots=True)
class Kept:
    """A raw record as it was, or a record made of one."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


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
        settings = DeltaSettings(sync=False)
        self._lake = Lake(into, settings, {table.topic: "replay" for table in TABLES}, TABLES)
        self._made: dict[str, list[Record]] = {table.topic: [] for table in TABLES}
        self._next: dict[str, int] = {table.topic: 0 for table in TABLES}

    async def run(self, vendors: Sequence[str], tell: Callable[[str], None]) -> list[Replayed]:
        """Rebuild; UserError where the folder holds a lake already. What was written so far stays if it fails."""
        if (self._into / "lake").exists():
            raise UserError(f"{self._into / 'lake'} is there already: give a folder without a lake")
        self._lake.open()
        found = []
        for vendor in vendors:
            found.append(await self._vendor(vendor))
            self._write_all()
            tell(f"{vendor}: {found[-1].raw} raw records, {found[-1].records} made of them")
        self._tidy()
        return found

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
        step.process(records[:warming], now_us)
        wanted = records[warming:]
        if not wanted:
            return
        done.raw += len(wanted)
        first = datetime.fromtimestamp(wanted[0].timestamp / 1000, UTC)
        done.oldest = min(done.oldest or first, first)
        for output in step.process(wanted, now_us):
            if output.topic in self._made:
                offset = self._next[output.topic] + len(self._made[output.topic])
                stamp = wanted[-1].timestamp
                self._made[output.topic].append(Kept(output.topic, 0, offset, stamp, output.key, output.value))
                done.records += 1
        for name, made in self._made.items():
            if len(made) >= WRITE_RECORDS:
                self._write(name)

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
        for table in TABLES:
            while tidy(location, table.name, DeltaSettings(compact_files=2), vacuum=False).merged:
                pass

    async def _records(self, topic: str, done: Replayed) -> AsyncIterator[list[Record]]:
        """The raw records from the warm-up on, in order in each partition: of the table first, then Kafka's."""
        async with reading(self._kafka, topic) as (consumer, partitions):
            begin, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
            for records in self._of_table(topic, {p.partition: begin[p] for p in partitions}):
                done.from_table += len(records)
                yield records
            start_ms = int((self._since - WARM_UP).timestamp() * 1000)
            starts = await consumer.offsets_for_times(dict.fromkeys(partitions, max(0, start_ms)))
            stretches = {p: (starts[p].offset, end[p]) for p in partitions if starts[p]}
            async for _, records in read_stretches(consumer, stretches, FETCH_RECORDS):
                yield records

    def _of_table(self, topic: str, before: dict[int, int]) -> Iterator[list[Record]]:
        """Records that Kafka holds no longer, in batches of one partition."""
        try:
            table = self._live.open("raw").to_pyarrow_dataset()
        except TableNotFoundError:
            return
        earliest = (self._since - WARM_UP).astimezone(UTC).replace(tzinfo=None)
        for partition, offset in before.items():
            gone = (
                (ds.field("origin_topic") == topic)
                & (ds.field("origin_partition") == partition)
                & (ds.field("origin_offset") < offset)
                & (ds.field("received_at") >= earliest)
            )
            columns = ["origin_offset", "received_at", "device_id", "value", "headers"]
            rows = table.to_table(columns=columns, filter=gone).sort_by("origin_offset")
            for batch in rows.to_batches(max_chunksize=FETCH_RECORDS):
                yield [_of_row(topic, partition, row) for row in batch.to_pylist()]


def _of_row(topic: str, partition: int, row: dict[str, Any]) -> Record:
    stamp = int(row["received_at"].replace(tzinfo=UTC).timestamp() * 1000)
    headers = [(name, None if value is None else value.encode()) for name, value in json.loads(row["headers"])]
    return Kept(topic, partition, row["origin_offset"], stamp, row["device_id"].encode(), row["value"], headers)
