"""Sessions, roll-ups of charts, the page's own files, stages."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

import fleetlake
from alarm_service.settings import AlarmsSettings
from runtime.errors import StageError
from runtime.health import Health
from runtime.running import write_stages
from schemas import topics
from schemas.words import KeyRole
from sinks.duckdb.published import PublishedDatabase
from sinks.settings import DuckdbSettings
from tests.support.lake import Writing
from tests.support.paths import ROOT
from tests.support.records import DEVICE
from tests.support.samples import NOON, observation
from ui import queries
from ui.questions import FILE, questions
from ui.service import UiConfig, run_ui
from ui.sessions import Sessions, Viewer
from ui.settings import UiSettings
from ui.stages import Stages

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
STATIC = ROOT / "ui" / "static"


class Keys:
    def __init__(self) -> None:
        self.valid = {"good": Viewer("somebody", KeyRole.READ)}
        self.now = 1000.0

    async def find(self, key: str) -> Viewer | None:
        return self.valid.get(key)

    def clock(self) -> float:
        return self.now


async def test_a_session_ends_after_its_time() -> None:
    keys = Keys()
    sessions = Sessions(keys.find, 100, keys.clock)
    begun = await sessions.begin("good")
    assert begun is not None and await sessions.viewer(begun[0]) == begun[1]
    assert await sessions.begin("bad") is None and await sessions.viewer("") is None
    keys.now += 100
    assert await sessions.viewer(begun[0]) is None


async def test_a_revoked_key_ends_its_sessions() -> None:
    keys = Keys()
    sessions = Sessions(keys.find, 10_000, keys.clock)
    begun = await sessions.begin("good")
    assert begun is not None
    keys.valid.clear()
    assert await sessions.viewer(begun[0]) is not None
    keys.now += 60
    assert await sessions.viewer(begun[0]) is None


@pytest.mark.parametrize(
    ("span", "width"),
    [
        (15 * MINUTE, 0),
        (HOUR, 0),
        (6 * HOUR, MINUTE),
        (DAY, MINUTE),
        (7 * DAY, HOUR),
        (365 * DAY, DAY),
    ],
)
def test_a_chart_reads_the_roll_up_that_fits_its_range(span: int, width: int) -> None:
    chosen = queries.series(0, span, {})
    assert chosen.width == width
    assert span / max(width, 1000) <= 6000  # so many points at most, with one reading per second


@pytest.mark.parametrize(
    ("longest", "width", "next_width"), [(90 * MINUTE, 0, MINUTE), (30 * HOUR, MINUTE, HOUR), (60 * DAY, HOUR, DAY)]
)
def test_a_range_of_just_so_long_is_still_drawn_finely(longest: int, width: int, next_width: int) -> None:
    for since in (0, 20_785 * DAY):
        assert queries.series(since, since + longest, {}).width == width
        assert queries.series(since, since + longest + 1, {}).width == next_width


BUCKETS = "device_id TEXT, metric TEXT, bucket TIMESTAMP, min DOUBLE, max DOUBLE, mean DOUBLE, unit TEXT"
READINGS = "device_id TEXT, metric TEXT, observed_at TIMESTAMP, value_number DOUBLE, unit TEXT"


@pytest.mark.parametrize(
    ("span", "table", "columns", "width", "begins"),
    [
        (HOUR, "recent_readings", READINGS, 0, 0),
        (HOUR, "readings", READINGS, 0, 1),
        (6 * HOUR, "readings_1m", BUCKETS, MINUTE, 0),
        (6 * HOUR, "readings", READINGS, MINUTE, 1),
        (7 * DAY, "readings_1h", BUCKETS, HOUR, 0),
        (7 * DAY, "readings", READINGS, HOUR, 1),
        (365 * DAY, "readings", READINGS, DAY, 0),
    ],
)
def test_a_chart_has_the_numbers_of_one_device_from_its_beginning_until_before_its_end(
    span: int, table: str, columns: str, width: int, begins: int
) -> None:
    """From the full history where the table begins later."""
    since = 20_785 * DAY
    beginnings = {each: since + (begins if each == width else 1) for each in (0, MINUTE, HOUR) if each <= width}
    times = [since - 1, since, since + span - 1, since + span]
    at, numbers = ("bucket", ["min", "max", "mean"]) if columns == BUCKETS else ("observed_at", ["value_number"])
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE {table} ({columns})")
        for device, metric, unit in (("a", "m", "Cel"), ("a", "n", None), ("a", "other", None), ("b", "m", "Cel")):
            for place, time in enumerate([*times, times[1]]):  # the last one has no number
                values = ", ".join(f"{place + k if place < 4 else 'NULL'} AS {name}" for k, name in enumerate(numbers))
                connection.execute(
                    f"INSERT INTO {table} BY NAME SELECT ? AS device_id, ? AS metric, ? AS unit, "
                    f"make_timestamp({time * 1000}) AS {at}, {values}",
                    [device, metric, unit],
                )
        asked = {"device": "a", "metrics": ["n", "m"], "since": since, "until": since + span}
        chosen = queries.series(since, since + span, beginnings)
        rows = connection.execute(chosen.query, asked).fetchall()
    assert chosen.width == width
    ends = [times[1], times[2] // width * width if table == "readings" and width else times[2]]
    more = (1, 2) if columns == BUCKETS else (0, 0)
    assert rows == [
        (metric, end, place, place + more[0], place + more[1], unit)
        for metric, unit in (("m", "Cel"), ("n", None))
        for place, end in enumerate(ends, 1)
    ]


@pytest.mark.parametrize(("span", "width"), [(HOUR, 0), (6 * HOUR, MINUTE), (50 * DAY, HOUR)])
def test_a_chart_of_long_ago_is_not_empty(tmp_path: Path, span: int, width: int) -> None:
    """Somebody zooms in, or asks why an alarm of last month was raised."""
    (tmp_path / "work").mkdir()
    writing, noon = Writing(tmp_path), NOON.replace(microsecond=0)
    for days in (100, 0):
        writing.write(topics.READINGS, observation(days, at=noon - timedelta(days=days)))
    with closing(PublishedDatabase(tmp_path, DuckdbSettings())) as sink:
        sink.publish()
    since = int((noon - timedelta(days=100)).timestamp() * 1000)
    values = {"device": DEVICE, "metrics": ["battery.level"], "since": since, "until": since + span}
    with fleetlake.connect(tmp_path) as connection:
        beginnings = dict(connection.execute(queries.BEGINNINGS, {"device": DEVICE}).fetchall())
        chosen = queries.series(since, since + span, beginnings)
        rows = connection.execute(chosen.query, values).fetchall()
    assert chosen.width == width and [row[1] for row in rows] == [since]


def test_a_table_that_has_all_of_a_device_has_no_beginning() -> None:
    """Otherwise each chart of a new installation would read the lake."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE devices AS SELECT * FROM (VALUES ('old', 5), ('new', 9)) t(device_id, seen)")
        connection.execute("ALTER TABLE devices ADD COLUMN first_seen TIMESTAMP")
        connection.execute("UPDATE devices SET first_seen = make_timestamp(seen * 1000)")
        for table, column, first in (
            ("recent_readings", "received_at", 8),
            ("readings_1m", "bucket", 9),
            ("readings_1h", "bucket", 5),
        ):
            times = f"SELECT make_timestamp((20 - i) * 1000) AS {column} FROM range({21 - first}) t(i)"
            connection.execute(f"CREATE TABLE {table} AS {times}")

        def beginnings(device: str) -> dict[int, int]:
            return dict(connection.execute(queries.BEGINNINGS, {"device": device}).fetchall())

        assert beginnings("old") == {0: 8, MINUTE: 9}
        assert beginnings("new") == beginnings("unheard of") == {}
        connection.execute("DELETE FROM recent_readings")
        assert beginnings("old") == {MINUTE: 9}


def test_the_questions_are_those_of_the_documents() -> None:
    page = (ROOT / "docs" / "queries.md").read_text()
    assert questions(page) == json.loads(FILE.read_text())
    assert len(questions(page)) == 20


def test_the_page_loads_nothing_from_elsewhere() -> None:
    own = (path for path in STATIC.rglob("*") if "vendor" not in path.parts)
    files = [path for path in own if path.suffix in (".html", ".css", ".js")]
    assert len(files) > 10
    for path in files:
        text = path.read_text()
        assert not re.search(r"(?:src|href|from|import\()\s*=?\s*[\"'](?:https?:)?//", text), path
        assert not re.search(r"\bstyle=\"|<script>|\son\w+=\"|innerHTML", text), path


def test_every_library_has_its_licence() -> None:
    for library in ("htm", "preact", "uplot", "leaflet"):
        assert (STATIC / "vendor" / f"LICENSE-{library}.txt").stat().st_size > 500


async def test_without_sign_in_only_loopback_is_served(tmp_path: Path) -> None:
    settings = UiSettings(sign_in=False, host="0.0.0.0", port=0)
    config = UiConfig(settings, AlarmsSettings(), tmp_path, lambda: None, lambda: None, {})  # type: ignore[arg-type,return-value]
    with pytest.raises(StageError, match="loopback"):
        await run_ui(config, asyncio.Event(), Health("ui"))


async def test_stages_that_are_gone_are_shown_as_down(tmp_path: Path, unused_port: Callable[[], int]) -> None:
    assert await Stages(tmp_path).read() == []
    write_stages(tmp_path, [], {"connect": unused_port()})
    [stage] = await Stages(tmp_path).read()
    assert stage["name"] == "connect" and not stage["up"] and stage["problem"]


def test_a_file_of_an_older_version_shows_what_was_seen_for_what_was_heard() -> None:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE latest (device_id TEXT, metric TEXT, value_number DOUBLE, value_text TEXT)")
        connection.execute("ALTER TABLE latest ADD COLUMN value_boolean BOOLEAN")
        connection.execute(
            "CREATE TABLE devices AS SELECT 'x:1' AS device_id, 'x' AS vendor, 'n' AS name, 'm' AS model, "
            "true AS registered, make_timestamp(7000) AS last_seen"
        )
        heard = f"SELECT heard FROM ({queries.FLEET})"
        assert connection.execute(heard).fetchall() == [(7,)]
        connection.execute("ALTER TABLE devices ADD COLUMN heard TIMESTAMP")
        assert connection.execute(heard).fetchall() == [(None,)], "it never spoke"
