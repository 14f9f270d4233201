"""A lake for tests: written by the sinks' own code from records that come from no Kafka, and read back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

import fleetlake
from schemas import wire
from schemas.topics import READINGS
from sinks.delta.lake_writer import LakeWriter
from sinks.delta.location import LakeLocation
from sinks.delta.tables import TABLES
from sinks.settings import DeltaSettings
from sinks.writer import Slice
from tests.support.records import record_of
from tests.support.samples import NOON, observation


def rows(data: Path, table: str) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = DeltaTable(data / "lake" / table).to_pyarrow_table().to_pylist()
    return written


def count(data: Path, table: str) -> int:
    try:
        return int(DeltaTable(data / "lake" / table).count())
    except Exception:
        return 0


class Writing:
    """The lake as the Delta sink would write it, without Kafka."""

    def __init__(self, data: Path) -> None:
        self.lake = LakeWriter(data, DeltaSettings(), {table.topic: "1" for table in TABLES})
        self.lake.open()
        self.next: dict[str, int] = {}

    def write(self, topic: str, *values: Any) -> None:
        first = self.next.get(topic)
        start = first or 0
        records = [
            record_of(wire.encode(v) if v else None, topic=topic, offset=start + i) for i, v in enumerate(values)
        ]
        self.next[topic] = start + len(values)
        self.lake.write(topic, [Slice(0, first, self.next[topic], list(records))])


def ask(data: Path, statement: str) -> list[tuple[Any, ...]]:
    with fleetlake.connect(data) as connection:
        return connection.execute(statement).fetchall()


def number_of(data: Path, table: str) -> int:
    """Rows of a table or view of `fleet.duckdb`."""
    return int(ask(data, f"SELECT count(*) FROM {table}")[0][0])


def filled(data: Path, commits: int = 20, devices: int = 7, days_ago: int = 0) -> LakeLocation:
    """A lake of one row a device and reading in each of many small files, all of one day and vendor."""
    lake = LakeWriter(data, DeltaSettings(sync=False), {table.topic: "1" for table in TABLES})
    lake.open()
    for number in range(commits):
        at = NOON + timedelta(seconds=number)
        received = datetime.now(UTC) - timedelta(days=days_ago)
        observations = [
            observation(number, device=f"karcher:{(number + index) % devices}", at=at, received=received)
            for index in range(devices)
        ]
        records = [record_of(wire.encode(one), offset=number * devices + i) for i, one in enumerate(observations)]
        lake.write(READINGS, [Slice(0, number * devices or None, (number + 1) * devices, list(records))])
    return LakeLocation(str(data / "lake"))
