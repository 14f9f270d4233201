"""Ogmen's cloud is away, in whole or in part: sockets, the API, one endpoint, an answer of no use."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from connectors.common.http_client import RestClient
from connectors.common.publisher import Publisher
from runtime.metrics import GAPS
from schemas.envelope import GAP
from simulators.net import serve
from tests.connectors.ogmen import (
    cloud,
    polled,
    running,
    settings_for,
)
from tests.support.tails import RawTail, Tail
from tests.support.waiting import eventually, passing


async def test_two_hundred_sockets_that_fall_together_do_not_storm_back(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    raw = await raw_tail("ogmen")
    gaps = GAPS.labels("ogmen")._value.get()
    async with cloud(devices=200, rate=0.5, map_cells=4, map_seconds=600) as (ogmen, urls):
        ids = [robot.device_id for robot in ogmen.fleet.robots]
        settings = settings_for(devices=ids, handshakes_per_second=50, socket_url=urls["socket_url"])
        async with running(settings, publisher, tmp_path):
            await eventually(lambda: len(ogmen.sockets.listening) == 200)
            ogmen.refusing = 503
            ogmen.sockets.channels.drop_all()
            dropped = time.monotonic()
            await eventually(lambda: not ogmen.sockets.listening)
            await passing(2, "the pace of the attempts is measured over these seconds")
            ogmen.refusing = None
            await eventually(lambda: len(ogmen.sockets.listening) == 200)
            found = await raw.envelopes(lambda found: sum(e.type == GAP for e in found) >= 200)
    attempts = [at for at in ogmen.sockets.handshakes if at >= dropped]
    for start in attempts:
        assert len([at for at in attempts if start <= at < start + 1]) <= 120, "the pace is kept"
    assert len(attempts) < 200 * 8, "and it slows down"
    assert sorted(e.device_id for e in found if e.type == GAP) == sorted(f"ogmen:{i}" for i in ids), "a gap each"
    body = json.loads(next(e.data for e in found if e.type == GAP))
    assert set(body) == {"from", "to", "reason", "channel"} and body["from"] < body["to"]
    assert GAPS.labels("ogmen")._value.get() - gaps == 200
    lines = [r.getMessage() for r in caplog.records if r.name == "connectors.common.connection_log"]
    down = [line for line in lines if line.startswith("ogmen websocket: no connection to 200 of 200 (")]
    assert len(down) == 1 and "connected again to" in lines[-1], lines
    assert len(lines) < 12, "and not two for each robot"


async def test_an_outage_of_the_api_is_one_line_down_one_up_and_a_gap(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(RestClient, "attempts", 1)
    raw = await raw_tail("ogmen")
    async with cloud(devices=10) as (ogmen, urls):
        ids = [robot.device_id for robot in ogmen.fleet.robots]
        settings = settings_for(
            devices=ids, state_seconds=0.3, log_seconds=0.3, slow_seconds=0.3, api_url=urls["api_url"]
        )
        async with running(settings, publisher, tmp_path):
            await raw.envelopes(lambda found: {e.device_id for e in found} >= {f"ogmen:{i}" for i in ids})
            ogmen.refusing = 503
            await eventually(lambda: any("does not answer" in r.getMessage() for r in caplog.records))
            await passing(0.5, "until what was on its way is answered")
            before = sum(ogmen.requests.values())
            await passing(1, "the pace of the probes is measured over this second")
            probes = sum(ogmen.requests.values()) - before
            ogmen.refusing = None
            found = await raw.envelopes(lambda found: sum(e.type == GAP for e in found) >= 10)
            await polled(ogmen, 2, "location_logs")
            found = await raw.all_envelopes()
    assert 1 <= probes <= 30, "single requests see whether it is back"
    assert {e.device_id for e in found if e.type == GAP} == {f"ogmen:{i}" for i in ids}
    assert {json.loads(e.data)["channel"] for e in found if e.type == GAP} == {"rest"}
    lines = [r.getMessage() for r in caplog.records if "the API at" in r.getMessage()]
    assert lines == [
        "ogmen: the API at 127.0.0.1 does not answer (HTTP 503); trying again",
        "ogmen: the API at 127.0.0.1 answers again",
    ]


async def test_an_endpoint_that_is_missing_stops_no_other(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    raw = await raw_tail("ogmen")
    async with cloud(devices=3) as (ogmen, urls):
        ids = [robot.device_id for robot in ogmen.fleet.robots]
        settings = settings_for(devices=ids, log_seconds=0.2, connectivity_path="/nowhere/{device_id}", **urls)
        async with running(settings, publisher, tmp_path):
            found = await raw.envelopes(
                lambda found: (
                    {(e.device_id, e.type) for e in found if e.type in ("ogmen.location.log", "ogmen.activity.log")}
                    >= {(f"ogmen:{i}", f"ogmen.{kind}.log") for i in ids for kind in ("location", "activity")}
                )
            )
            await polled(ogmen, 2, "location_logs")
            found = await raw.all_envelopes()
    assert {e.device_id for e in found if e.type == "ogmen.location.log"} == {f"ogmen:{i}" for i in ids}
    (line,) = [r.getMessage() for r in caplog.records if "cannot read" in r.getMessage()]
    assert line in [f"ogmen: cannot read connectivity at /nowhere/{i} (HTTP 404); trying again" for i in ids]


async def test_an_answer_that_cannot_be_used_is_a_dead_letter_once(
    publisher: Publisher, dead_tail: Tail, tmp_path: Path
) -> None:
    asked = 0

    async def page(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(text="<html>Log in, John Doe <user@example.com></html>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/{anything:.*}", page)
    async with serve(app, "127.0.0.1", 0) as port:
        settings = settings_for(devices=["r"], state_seconds=0.1, api_url=f"http://127.0.0.1:{port}")
        async with running(settings, publisher, tmp_path):
            await dead_tail.dead_letters(2)
            before = asked
            await eventually(lambda: asked > before + 40)
            await dead_tail.all()
            letters = await dead_tail.dead_letters(2)
    kinds = [letter.message_type for letter in letters]
    assert len(kinds) == len(set(kinds)) and "ogmen.battery.log" in kinds
    assert not [letter for letter in letters if "user@" in letter.payload]
