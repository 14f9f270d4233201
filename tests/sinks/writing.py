"""A lake and a `fleet.duckdb` made by the sinks themselves, from records that come from no Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fleetlake
from schemas import wire
from sinks.consumer import Slice
from sinks.delta.sink import Lake
from sinks.delta.tables import TABLES
from sinks.settings import DeltaSettings
from tests.sinks.harness import Record


class Writing:
    """The lake as the Delta sink would write it, without Kafka."""

    def __init__(self, data: Path) -> None:
        self.lake = Lake(data, DeltaSettings(), {table.topic: "1" for table in TABLES})
        self.lake.open()
        self.next: dict[str, int] = {}

    def write(self, topic: str, *values: Any) -> None:
        first = self.next.get(topic)
        start = first or 0
        records = [Record(wire.encode(v) if v else None, topic=topic, offset=start + i) for i, v in enumerate(values)]
        self.next[topic] = start + len(values)
        self.lake.write(topic, [Slice(0, first, self.next[topic], list(records))])


def ask(data: Path, statement: str) -> list[tuple[Any, ...]]:
    with fleetlake.connect(data) as connection:
        return connection.execute(statement).fetchall()
