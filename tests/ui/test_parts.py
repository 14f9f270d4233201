"""Sessions, roll-ups of charts, the page's own files, stages."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from alarm_service.settings import AlarmsSettings
from runtime.errors import StageError
from runtime.health import Health
from runtime.running import write_stages
from schemas.words import KeyRole
from tests.support.paths import ROOT
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
    chosen = queries.series(0, span)
    assert chosen.width == width
    assert span / max(width, 1000) <= 6000  # so many points at most, with one reading per second


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
