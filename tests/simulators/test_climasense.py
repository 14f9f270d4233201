"""ClimaSense devices against a real HTTP server that does not always play along."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from simulators.climasense import ClimaSenseFleet, api_keys
from simulators.climasense import devices as simulated_devices
from simulators.faults import FaultSettings
from simulators.net import serve
from simulators.settings import ClimaSenseSimulator, SimulatorSettings
from simulators.wire import digest
from tests.simulators.clock import Clock, Truth
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The documented limit is a request a second; tests have no time for it."""
    monkeypatch.setattr(simulated_devices, "POST_INTERVAL", 0.05)
    monkeypatch.setattr(simulated_devices, "OFFLINE_SECONDS", 0.3)


class Server:
    """Remembers every body by key, and answers as `answer` says (200 without it)."""

    def __init__(self) -> None:
        self.bodies: dict[str, list[tuple[int, bytes]]] = {}
        self.paired: list[tuple[str, dict[str, Any]]] = []
        self.answer: Callable[[str, int], web.Response | None] = lambda key, number: None

    async def telemetry(self, request: web.Request) -> web.Response:
        key = request.headers["Authorization"].removeprefix("Bearer ")
        seen = self.bodies.setdefault(key, [])
        body = await request.read()
        response = self.answer(key, len(seen)) or web.json_response({"accepted": 1})
        seen.append((response.status, body))
        return response

    async def pair(self, request: web.Request) -> web.Response:
        self.paired.append((request.headers["Authorization"], await request.json()))
        return web.json_response({"registered": True})

    def accepted(self, key: str) -> list[bytes]:
        return [body for status, body in self.bodies.get(key, ()) if status == 200]


@asynccontextmanager
async def fleet(
    clock: Clock, truth: Truth, server: Server, faults: FaultSettings | None = None, devices: int = 6
) -> AsyncIterator[ClimaSenseFleet]:
    app = web.Application(client_max_size=4 << 20)
    app.router.add_post("/v1/telemetry", server.telemetry)
    app.router.add_post("/v1/zigbee/sensors", server.pair)
    async with serve(app, "127.0.0.1", 0) as port:
        simulator = ClimaSenseSimulator(devices=devices, rate=1.0, url=f"http://127.0.0.1:{port}", retry_seconds=0.05)
        settings = SimulatorSettings(faults=faults or FaultSettings.none(), climasense=simulator)
        simulated = ClimaSenseFleet(settings, clock, truth.append)
        async with simulated.posting():
            yield simulated


def test_keys_are_the_same_for_the_same_seed() -> None:
    keys = api_keys(10, 1)
    assert keys == api_keys(10, 1) and keys != api_keys(10, 2)
    assert [key.role for key in keys] == ["hub"] + ["device"] * 6 + ["sensor"] * 3
    assert len({key.key for key in keys}) == len({key.device_id for key in keys}) == 10
    assert all(len(key.sha256) == 64 and key.key not in key.sha256 for key in keys)
    assert keys[:1] == api_keys(1, 1)


async def test_devices_post_what_they_measure(clock: Clock, truth: Truth) -> None:
    server = Server()
    async with fleet(clock, truth, server) as simulated:
        await eventually(lambda: len(server.bodies) == 6)
    hub, sensors = simulated.keys[0], [key for key in simulated.keys if key.role == "sensor"]
    assert [(who, body["sensor_api_key"]) for who, body in server.paired] == [
        (f"Bearer {hub.key}", sensor.key) for sensor in sensors
    ]
    body = json.loads(server.accepted(hub.key)[0])
    assert set(body) == {"latitude", "longitude", "readings"}
    assert {"temperature", "humidity", "pressure", "battery_level", "signal_strength", "iaq", "power_availability"} == {
        reading["sensor_type"] for reading in body["readings"]
    }
    assert "power_availability" not in server.accepted(sensors[0].key)[0].decode()


async def test_a_refused_body_is_sent_again_unchanged_and_nothing_is_lost(clock: Clock, truth: Truth) -> None:
    server = Server()
    refusals = iter([503, 401, 429])

    def answer(key: str, number: int) -> web.Response | None:
        status = next(refusals, None)
        return None if status is None else web.Response(status=status, headers={"Retry-After": "0.2"})

    server.answer = answer
    async with fleet(clock, truth, server, devices=1) as simulated:
        key = simulated.keys[0].key
        await eventually(lambda: len(server.accepted(key)) >= 3)
    statuses = [status for status, _ in server.bodies[key]]
    assert statuses[:4] == [503, 401, 429, 200]
    assert len({body for _, body in server.bodies[key][:4]}) == 1
    stamps = [r["timestamp"] for body in server.accepted(key) for r in json.loads(body)["readings"]]
    assert Counter(stamps).most_common(1)[0][1] == 7  # every sample once, whole
    assert stamps == sorted(stamps)


async def test_retry_after_is_honoured(clock: Clock, truth: Truth) -> None:
    server, asked = Server(), []

    def answer(key: str, number: int) -> web.Response | None:
        asked.append(asyncio.get_running_loop().time())
        return web.Response(status=429, headers={"Retry-After": "1"}) if number == 0 else None

    server.answer = answer
    async with fleet(clock, truth, server, devices=1):
        await eventually(lambda: len(asked) >= 2)
    assert asked[1] - asked[0] >= 1


async def test_a_backlog_goes_out_a_hundred_readings_at_a_time(
    clock: Clock, truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    async with fleet(clock, truth, server, devices=1) as simulated:
        (device,) = simulated._devices
        device.unsent.extend(
            {"sensor_type": "iaq", "value": n, "timestamp": "2026-01-01T00:00:00Z"} for n in range(250)
        )
        await eventually(lambda: len(server.accepted(device.key.key)) >= 3)
    sizes = [len(json.loads(body)["readings"]) for body in server.accepted(device.key.key)]
    assert sizes[:2] == [100, 100] and max(sizes) == 100
    readings = [r for body in server.accepted(device.key.key) for r in json.loads(body)["readings"]]
    assert [r["value"] for r in readings if r["timestamp"] == "2026-01-01T00:00:00Z"] == list(range(250))


async def test_planted_faults_are_what_arrives(clock: Clock, truth: Truth) -> None:
    server = Server()
    planted = FaultSettings(start_after=0.5, spacing=0.1, crossing_seconds=1, crossing_messages=2)

    async with fleet(clock, truth, server, planted) as simulated:
        await eventually(lambda: len(truth) >= 16, 20)
    kinds = Counter(line["kind"] for line in truth)
    assert kinds == {"crossing": 4, "malformed": 6, "duplicate": 3, "late": 2, "disconnect": 1}
    keys = {f"climasense:{key.device_id}": key.key for key in simulated.keys}
    digests = {device: Counter(digest(body) for _, body in server.bodies[key]) for device, key in keys.items()}
    for line in truth:
        if "sha256" in line["detail"]:
            times = digests[line["device_id"]][line["detail"]["sha256"]]
            assert times >= (2 if line["kind"] == "duplicate" else 1), line
            assert line["detail"]["status"] == 200


async def test_a_body_that_will_never_be_accepted_is_given_up(clock: Clock, truth: Truth) -> None:
    server = Server()
    server.answer = lambda key, number: web.Response(status=422) if number == 0 else None
    async with fleet(clock, truth, server, devices=1) as simulated:
        key = simulated.keys[0].key
        await eventually(lambda: server.accepted(key))
    assert server.bodies[key][0][1] not in server.accepted(key)
