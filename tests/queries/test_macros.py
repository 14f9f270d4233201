"""Macros and views against equivalent queries. docs/queries.md shows that their values are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fleetlake

PAIRS = {
    "value_at takes columns, and gives what an as-of join gives": (
        "SELECT c.event_id, value_at(c.device_id, 'battery.level', c.finished_at) FROM cleaning_sessions c",
        "SELECT c.event_id, s.value FROM cleaning_sessions c ASOF JOIN series('battery.level') s "
        "ON s.device_id = c.device_id AND s.observed_at <= c.finished_at",
    ),
    "fleet_at the end is what latest shows": (
        "SELECT device_id, metric, value_number, value_text, observed_at FROM fleet_at(fleet_now(), INTERVAL 9 DAY)",
        "SELECT device_id, metric, value_number, value_text, observed_at FROM latest",
    ),
    "aligned is an as-of join of two series": (
        "SELECT device_id, observed_at, value, other_value FROM aligned('water.fresh', 'battery.level')",
        "SELECT w.device_id, w.observed_at, w.value, b.value FROM series('water.fresh') w ASOF LEFT JOIN "
        "series('battery.level') b ON w.device_id = b.device_id AND w.observed_at >= b.observed_at",
    ),
    "events_with names each event once": (
        "SELECT event_id, data, value FROM events_with('cleaning_report', 'battery.level')",
        "SELECT event_id, data, value_at(device_id, 'battery.level', occurred_at) FROM events "
        "WHERE type = 'cleaning_report'",
    ),
    "state periods have no holes": (
        "SELECT device_id, sum(minutes), count_if(ended IS NULL) FROM state_periods('robot.status') GROUP BY device_id",
        "SELECT device_id, epoch(max(began) - min(began)) / 60, 1 FROM state_periods('robot.status') GROUP BY 1",
    ),
    "battery history adds up": (
        "SELECT round(sum(change), 6) FROM battery_history('karcher:1.454-500.0/002005')",
        "SELECT round(last(level ORDER BY observed_at) - first(level ORDER BY observed_at), 6) "
        "FROM battery_history('karcher:1.454-500.0/002005')",
    ),
    "hours are made of minutes": (
        "SELECT device_id, metric, date_trunc('hour', bucket) AS hour, sum(count), min(min), max(max) FROM "
        "readings_every(INTERVAL 1 MINUTE, '2026-11-16', '2026-11-19') GROUP BY ALL",
        "SELECT device_id, metric, bucket, count, min, max FROM readings_1h",
    ),
    "a device is up or down all the time": (
        "SELECT device_id, round(24 * 60 * uptime / 100 + down_minutes, 3) "
        "FROM device_uptime('2026-11-17', '2026-11-18') WHERE name <> 'Spare'",
        "SELECT device_id, 24 * 60 FROM devices WHERE name <> 'Spare'",
    ),
}


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS.keys())
def test_two_ways_give_the_same(one: str, other: str, fleet: Path) -> None:
    def ask(query: str) -> list[tuple[Any, ...]]:
        return sorted(connection.execute(query).fetchall(), key=repr)

    with fleetlake.connect(fleet) as connection:
        answer = ask(one)
        assert answer and answer == ask(other)


def test_a_device_is_counted_from_its_first_sign_of_life(fleet: Path) -> None:
    with fleetlake.connect(fleet) as connection:
        uptime = "SELECT uptime, gaps FROM device_uptime('2026-11-10', '2026-11-17', {}) WHERE name = 'Lobby'"
        half_hourly = [connection.execute(uptime.format(f"INTERVAL {n} MINUTE")).fetchall() for n in (29, 30)]
        assert half_hourly == [[(0.0, 48)], [(100.0, 0)]]
        before = connection.execute("FROM device_uptime('2026-11-01', '2026-11-02')").fetchall()
        assert {name for _, _, name, *_ in before} == {"Spare"}  # registered, never heard: down since for ever
