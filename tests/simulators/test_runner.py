"""All simulators together."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from schemas.vendors import vendor_names
from simulators.net import serve
from simulators.runner import run_simulators
from simulators.settings import ClimaSenseSimulator, OgmenSimulator, SimulatorSettings, WaysCloudSimulator
from tests.support.waiting import eventually, passing


async def test_all_of_them_serve_until_they_are_stopped(tmp_path: Path) -> None:
    posts: list[str] = []

    async def take(request: web.Request) -> web.Response:
        posts.append(request.path)
        return web.Response(status=200)

    app = web.Application()
    app.router.add_post("/{path:.*}", take)
    stop, begin = asyncio.Event(), asyncio.Event()
    endpoints: dict[str, str] = {}
    async with serve(app, "127.0.0.1", 0) as port:
        server = f"http://127.0.0.1:{port}"
        settings = SimulatorSettings(
            truth_file=tmp_path / "truth.jsonl",
            climasense=ClimaSenseSimulator(url=server),
            ogmen=OgmenSimulator(webhook_url=f"{server}/alerts/{{device_id}}", alert_seconds=0.5),
        )
        running = asyncio.create_task(run_simulators(vendor_names(), settings, stop, endpoints.update, begin))
        await eventually(lambda: endpoints)
        assert sorted(endpoints) == [
            *("karcher.rest_url", "karcher.token_url", "karcher.ws_url"),
            *("ogmen.rest_url", "ogmen.ws_url", "wayscloud.mqtt", "wayscloud.rest_url"),
        ]
        await passing(0.3, "time in which clients might begin too early")
        assert not posts  # clients wait until somebody listens
        begin.set()
        await eventually(lambda: "/v1/telemetry" in posts and any(path.startswith("/alerts/") for path in posts))
        stop.set()
        await asyncio.wait_for(running, 10)
    truth = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in truth} == {"alert"}
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(endpoints["karcher.rest_url"])


async def test_stopping_before_the_clients_began() -> None:
    stop, begin = asyncio.Event(), asyncio.Event()
    endpoints: dict[str, str] = {}
    running = asyncio.create_task(run_simulators(["karcher"], SimulatorSettings(), stop, endpoints.update, begin))
    await eventually(lambda: endpoints)
    stop.set()
    await asyncio.wait_for(running, 5)


async def test_what_cannot_run_says_why() -> None:
    stop = asyncio.Event()
    with pytest.raises(ValueError, match="unknown vendor: acme"):
        await run_simulators(["acme"], SimulatorSettings(), stop)
    with pytest.raises(ValueError, match=r"climasense\.url"):
        await run_simulators(["climasense"], SimulatorSettings(), stop)
    with pytest.raises(ValueError, match="mqtt_port is needed"):
        WaysCloudSimulator(embedded_broker=False)
