"""Roll-ups of `fleet.duckdb` give what aggregating all readings gives, whatever comes late and in whatever order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import wire
from schemas.topics import READINGS
from sinks.duckdb import rollups
from sinks.duckdb.published import PublishedDatabase
from sinks.duckdb.rollups import ROLLUPS
from sinks.settings import DuckdbSettings
from tests.support.lake import Writing, ask
from tests.support.samples import NOON, observation

START = datetime(2026, 11, 1)
FROM_READINGS = """
SELECT device_id, metric, date_trunc('{unit}', observed_at), count(*), min(value_number), max(value_number),
  avg(value_number), min_by(value_number, (observed_at, received_at, origin_offset, value_number)),
  max_by(value_number, (observed_at, received_at, origin_offset, value_number))
FROM {source} WHERE value_number IS NOT NULL AND observed_at >= '{floor}' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
SHOWN = "device_id, metric, bucket, count, min, max, mean, first, last"

Row = tuple[int, int, float]
"""Seconds since the start at which it was observed, seconds until it was received, value."""

rows = st.tuples(
    st.integers(0, 4 * 86_400), st.integers(0, 2 * 86_400), st.floats(-1e6, 1e6, allow_nan=False, width=32)
)


def same(actual: Sequence[tuple[Any, ...]], expected: Sequence[tuple[Any, ...]]) -> None:
    """Equal, the mean (and nothing else) but for rounding."""
    assert [row[:6] + row[7:] for row in actual] == [row[:6] + row[7:] for row in expected]
    assert [row[6] for row in actual] == pytest.approx([row[6] for row in expected], rel=1e-9, abs=1e-9)


@given(batches=st.lists(st.lists(rows, min_size=1, max_size=12), min_size=1, max_size=6))
@settings(max_examples=12, deadline=None)
def test_every_bucket_that_is_held_has_all_its_readings(batches: list[list[Row]]) -> None:
    offset = 0
    with duckdb.connect() as connection:
        connection.execute(rollups.CREATE)
        connection.execute(
            "CREATE TABLE every (device_id VARCHAR, vendor VARCHAR, metric VARCHAR, unit VARCHAR, value_number DOUBLE, "
            "observed_at TIMESTAMP, received_at TIMESTAMP, origin_offset BIGINT); CREATE TABLE fresh AS FROM every"
        )
        for batch in batches:
            connection.execute("DELETE FROM fresh")
            for second, delay, value in batch:
                offset += 1
                at = START + timedelta(seconds=second)
                row = ["v:1", "v", "m", "%", value, at, at + timedelta(seconds=delay), offset]
                connection.execute("INSERT INTO fresh VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute("INSERT INTO every FROM fresh")
            for rollup in ROLLUPS:
                for statement in rollups.fold(rollup, 1.0, 10, "(SELECT max(received_at) FROM every)"):
                    connection.execute(statement)
                [(floor, held)] = connection.execute(
                    f"SELECT floor, (SELECT count(*) FROM {rollup.name}) FROM floors WHERE rollup = ?", [rollup.name]
                ).fetchall()
                assert held <= 10
                from_readings = FROM_READINGS.format(unit=rollup.unit, source="every", floor=floor)
                query = rollups.published(rollup).replace("work.", "")
                actual = connection.execute(f"SELECT {SHOWN} FROM ({query})").fetchall()
                same(actual, connection.execute(from_readings).fetchall())


def test_the_published_rollups_are_those_of_the_history(tmp_path: Path) -> None:
    """Three days reported out of order, with times far in the future, published now and then."""
    choice = random.Random(7)
    (tmp_path / "work").mkdir()
    writing = Writing(tmp_path)
    with closing(PublishedDatabase(tmp_path, DuckdbSettings(minute_days=0.5, hour_days=2))) as sink:
        for step in range(36):
            received = NOON + timedelta(hours=2 * step)
            readings = [
                wire.Reading(
                    metric=choice.choice(["battery.level", "water.fresh"]),
                    observed_at=received
                    - timedelta(seconds=choice.choice([-90_000, 0, 5, 30, 59, 3600, 9000, 90_000])),
                    value_number=choice.uniform(0, 100),
                    unit="%",
                )
                for _ in range(40)
            ]
            writing.write(READINGS, observation(step, at=received, received=received, readings=readings))
            if step % 7 == 0:
                sink.publish()
        sink.publish()
    received = received.replace(tzinfo=None)
    for rollup, days in zip(ROLLUPS, (0.5, 2), strict=True):
        floor = received - timedelta(days=days)
        floor = floor.replace(second=0, microsecond=0, minute=floor.minute if rollup.unit == "minute" else 0)
        from_readings = FROM_READINGS.format(unit=rollup.unit, source="readings", floor=floor)
        actual = ask(tmp_path, f"SELECT {SHOWN} FROM {rollup.name} ORDER BY device_id, metric, bucket")
        same(actual, ask(tmp_path, from_readings))
        assert len(actual) > 20
        every = f"readings_every(INTERVAL 1 {rollup.unit}, '{floor}', '2100-01-01')"
        same(ask(tmp_path, f"SELECT {SHOWN} FROM {every} ORDER BY ALL"), actual)
