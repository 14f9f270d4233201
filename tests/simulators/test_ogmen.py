"""Ogmen's cloud and robots, spoken to by real clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from simulators.faults import FaultSettings
from simulators.net import serve
from simulators.ogmen import OgmenCloud
from simulators.settings import OgmenSimulator, SimulatorSettings
from tests.simulators.clock import Clock, Truth
from tests.support.waiting import eventually


@asynccontextmanager
async def cloud(
    clock: Clock, truth: Truth, faults: FaultSettings | None = None, **ogmen: Any
) -> AsyncIterator[tuple[OgmenCloud, str, str]]:
    ogmen = {"devices": 3, "rate": 50, "map_cells": 40} | ogmen
    settings = SimulatorSettings(faults=faults or FaultSettings.none(), ogmen=OgmenSimulator(**ogmen))
    simulated = OgmenCloud(settings, clock, truth.append)
    async with serve(simulated.app(), "127.0.0.1", 0) as port:
        urls = simulated.endpoints("127.0.0.1", port)
        yield simulated, urls["ogmen.rest_url"], urls["ogmen.ws_url"]


async def test_a_socket_greets_and_sends_every_topic(clock: Clock, truth: Truth) -> None:
    async with cloud(clock, truth, map_seconds=0.2) as (simulated, _, url):
        plain, slashed = simulated.fleet.robots[0], simulated.fleet.robots[2]
        for oro, odom, maps in ((plain, "odom", "map"), (slashed, "/odom", "/map")):
            async with connect(url.replace("{device_id}", oro.device_id)) as socket:
                greeting = json.loads(await socket.recv())
                assert greeting == {"message": f"Websocket Connected Successfully to {oro.device_id}."}
                messages: list[dict[str, Any]] = []
                async with asyncio.timeout(5):
                    while len(messages) < 60:
                        messages.append(json.loads(await socket.recv()))
            by_topic = {message.get("topic"): message for message in messages}
            slash = odom[:-4]
            wanted = {odom, maps, f"{slash}tf", f"{slash}tf_static"}
            assert by_topic.keys() >= wanted
            position = by_topic[odom]["pose"]["pose"]
            assert set(position["orientation"]) == {"x", "y", "z", "w"}
            assert len(by_topic[odom]["pose"]["covariance"]) == 36
            stamp = by_topic[odom]["header"]["stamp"]
            assert abs(stamp["sec"] + stamp["nanosec"] / 1e9 - clock()) < 5
            grid = by_topic[maps]
            assert len(grid["data"]) == grid["info"]["width"] * grid["info"]["height"] == 1600
            assert set(grid["data"]) == {-1, 0, 100}
            assert [message.get("topic") for message in messages].count(maps) >= 2  # latched, and again by time


async def test_messages_are_relayed_to_the_other_clients_of_the_device(clock: Clock, truth: Truth) -> None:
    async with cloud(clock, truth, rate=5) as (simulated, _, url):
        one, other = (url.replace("{device_id}", robot.device_id) for robot in simulated.fleet.robots[:2])
        async with connect(one) as sender, connect(one) as same, connect(other) as stranger:
            command = '{"topic":"goal_pose","pose":{"position":{"x":1}}}'
            await sender.send(command)

            async def hears(socket: Any) -> bool:
                try:
                    async with asyncio.timeout(1):
                        while await socket.recv() != command:
                            pass
                except TimeoutError:
                    return False
                return True

            assert await asyncio.gather(*map(hears, (sender, same, stranger))) == [False, True, False]


async def test_strangers_and_unknown_devices_are_refused(clock: Clock, truth: Truth) -> None:
    async with cloud(clock, truth, token=SecretStr("t")) as (simulated, rest, url):
        device = simulated.fleet.robots[0].device_id
        for target, headers, status in (
            (url.replace("{device_id}", device), {}, 401),
            (url.replace("{device_id}", "nobody"), {"Authorization": "Bearer t"}, 404),
        ):
            with pytest.raises(InvalidStatus) as refused:
                await connect(target, additional_headers=headers)
            assert refused.value.response.status_code == status
        async with aiohttp.ClientSession() as session:
            assert (await session.get(f"{rest}/battery_status/{device}")).status == 401


async def test_rest_answers_in_its_several_shapes(clock: Clock, truth: Truth) -> None:
    async with cloud(clock, truth) as (simulated, rest, _), aiohttp.ClientSession() as session:
        oro = simulated.fleet.robots[0]

        async def get(path: str) -> Any:
            async with session.get(f"{rest}{path}") as response:
                return await response.json()

        for name in ("device_settings", "battery_status", "treat_bin", "cam_head", "privacy_mode", "volume"):
            answer = await get(f"/{name}/{oro.device_id}")
            assert answer["code"] == 200 and answer["status"] == "success" and isinstance(answer["data"], dict)
        for name in ("devices", "storage", "network", "dogs"):
            assert "code" not in await get(f"/{name}/{oro.device_id}")
        activities = await get(f"/device_activity/{oro.device_id}?no_of_activities=20")
        assert len(activities) == 20 and {entry["resolved"] for entry in activities} == {True, False}
        logs = await get(f"/connectivity_logs/{oro.device_id}?no_of_logs=5")
        assert [entry["data"]["log_id"] for entry in logs] == [logs[0]["data"]["log_id"] - n for n in range(5)]
        assert isinstance((await get(f"/location_logs/{oro.device_id}?no_of_logs=1"))["data"], dict)
        assert len((await get(f"/location_logs/{oro.device_id}?no_of_logs=3"))["data"]) == 3
        assert isinstance(await get(f"/system_usage_logs/{oro.device_id}?no_of_logs=1"), dict)
        insights = await get(f"/dog_insights/{oro.dog_id}?no_of_insights=-1")
        assert len(insights) == 361 and "device_id" not in insights[0]
        assert len(await get(f"/accounts/{oro.account_id}/devices")) == 2
        assert (await get(f"/maps/{oro.device_id}"))["data"] == [(await get(f"/maps/{oro.device_id}/active"))["data"]]
        for path, status in (
            ("/battery_status/nobody", 404),
            (f"/location_logs/{oro.device_id}", 422),
            (f"/location_logs/{oro.device_id}?no_of_logs=0", 422),
        ):
            assert (await session.get(rest + path)).status == status


async def test_an_entry_of_a_log_changes_later(clock: Clock, truth: Truth) -> None:
    async with cloud(clock, truth) as (simulated, rest, _), aiohttp.ClientSession() as session:
        url = f"{rest}/device_activity/{simulated.fleet.robots[0].device_id}?no_of_activities=12"
        before = (await (await session.get(url)).json())[0]
        clock.forward(70)
        after = {entry["log_id"]: entry for entry in await (await session.get(url)).json()}[before["log_id"]]
        assert before["resolved"] is False
        assert after == before | {"resolved": True}


async def test_alerts_are_posted_until_they_are_acknowledged(clock: Clock, truth: Truth) -> None:
    seen: list[tuple[str, str | None, dict[str, Any]]] = []

    async def webhook(request: web.Request) -> web.Response:
        seen.append(
            (request.match_info["device"], request.headers.get("X-Webhook-Secret"), await request.json()),
        )
        return web.Response(status=503 if len(seen) <= 2 else 202)

    app = web.Application()
    app.router.add_post("/alerts/{device}", webhook)
    async with serve(app, "127.0.0.1", 0) as port:
        url = f"http://127.0.0.1:{port}/alerts/{{device_id}}"
        async with (
            cloud(clock, truth, devices=1, alert_seconds=0.2, webhook_url=url) as (simulated, _, _),
            simulated.alerts.posting(),
        ):
            await eventually(lambda: len(truth) >= 3)
    assert [body["uuid"] for _, _, body in seen[:3]] == [seen[0][2]["uuid"]] * 3
    assert {(device, secret) for device, secret, _ in seen} == {
        (simulated.fleet.robots[0].device_id, "ogmen-demo-secret"),
    }
    accepted = [body["uuid"] for _, _, body in seen[2:]]
    assert [line["detail"]["uuid"] for line in truth] == accepted[: len(truth)]
    assert len(set(accepted)) == len(accepted)
    assert truth[0]["detail"]["attempts"] == 3
    assert set(seen[0][2]) >= {"timestamp", "uuid", "source", "severity", "header", "body", "action_required"}


async def test_planted_faults_reach_the_socket(clock: Clock, truth: Truth) -> None:
    planted = FaultSettings(crossings=2, disconnects=0, start_after=0.1, spacing=0.05)
    async with cloud(clock, truth, faults=planted, devices=1) as (simulated, _, url):
        device = simulated.fleet.robots[0].device_id
        received: list[bytes] = []
        async with connect(url.replace("{device_id}", device), max_size=2 << 20) as socket, asyncio.timeout(5):
            while len(truth) < 11:
                received.append(await socket.recv(decode=False))
    sizes = [line["detail"]["bytes"] for line in truth if line["detail"].get("fault") == "oversize"]
    assert sizes == [1 << 20] and max(map(len, received)) == 1 << 20
    assert any(b"\xff" in payload for payload in received)
