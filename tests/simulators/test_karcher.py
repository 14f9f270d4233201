"""Kärcher's cloud, spoken to by real clients."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from simulators.faults import FaultSettings
from simulators.karcher import KarcherCloud
from simulators.net import serve
from simulators.settings import KarcherSimulator, SimulatorSettings
from tests.simulators.clock import Clock, Truth

NO_FAULTS = FaultSettings.none()


@dataclass
class Client:
    """A client of the simulated cloud."""

    cloud: KarcherCloud
    session: aiohttp.ClientSession
    urls: dict[str, str]
    token: str = ""

    async def log_in(self, **form: str) -> aiohttp.ClientResponse:
        credentials = {"grant_type": "client_credentials", "client_id": "fleetlake-demo"}
        credentials |= {"client_secret": "karcher-demo-secret"} | form
        response = await self.session.post(self.urls["karcher.token_url"], data=credentials)
        if response.status == 200:
            self.token = (await response.json())["access_token"]
        return response

    async def get(self, path: str, **query: object) -> tuple[int, Any]:
        url = self.urls["karcher.rest_url"] + path
        headers = {"Authorization": f"Bearer {self.token}"}
        params = {name: str(value) for name, value in query.items()}
        async with self.session.get(url, params=params, headers=headers) as response:
            return response.status, await response.json()

    def socket_url(self, machine: Any, token: str | None = None) -> str:
        query = f"materialNumber={machine.material}&serialNumber={machine.serial}"
        return f"{self.urls['karcher.ws_url']}?{query}&accessToken={self.token if token is None else token}"


@asynccontextmanager
async def cloud(clock: Clock, truth: Truth, faults: FaultSettings = NO_FAULTS, **karcher: Any) -> AsyncIterator[Client]:
    karcher = {"rest_limit": 1000} | karcher
    settings = SimulatorSettings(faults=faults, karcher=KarcherSimulator(**karcher), cycle_seconds=20)
    simulated = KarcherCloud(settings, clock, truth.append)
    async with serve(simulated.app(), "127.0.0.1", 0) as port, aiohttp.ClientSession() as session:
        client = Client(simulated, session, simulated.endpoints("127.0.0.1", port))
        assert (await client.log_in()).status == 200
        yield client


async def test_a_token_is_given_for_the_right_credentials_in_the_body(clock: Clock, truth: Truth) -> None:
    async with cloud(clock, truth, token_seconds=60) as client:
        answer = await (await client.log_in()).json()
        assert answer["token_type"] == "Bearer" and answer["expires_in"] == 60
        assert (await client.log_in(client_secret="wrong")).status == 401
        assert (await client.log_in(grant_type="password")).status == 400
        url = client.urls["karcher.token_url"] + "?client_id=fleetlake-demo&client_secret=karcher-demo-secret"
        assert (await client.session.post(url, data={"grant_type": "client_credentials"})).status == 400


async def test_tokens_are_limited_to_ten_in_ten_minutes(clock: Clock, truth: Truth) -> None:
    async with cloud(clock, truth) as client:
        assert [(await client.log_in()).status for _ in range(10)] == [200] * 9 + [429]
        refused = await client.log_in()
        assert 590 <= int(refused.headers["Retry-After"]) <= 600
        clock.forward(601)
        assert (await client.log_in()).status == 200


async def test_rest_wants_a_token_that_has_not_expired(clock: Clock, truth: Truth) -> None:
    async with cloud(clock, truth, token_seconds=3600) as client:
        assert (await client.get("/machines/specifications"))[0] == 200
        clock.forward(3601)
        assert await client.get("/machines/specifications") == (401, {"status": 401, "message": "unauthorized"})
        await client.log_in()
        assert (await client.get("/machines/specifications"))[0] == 200
        client.cloud.tokens.expire_all()
        assert (await client.get("/machines/specifications"))[0] == 401


async def test_specifications_come_in_pages(clock: Clock, truth: Truth) -> None:
    async with cloud(clock, truth, devices=12) as client:
        specifications: list[Any] = []
        query: dict[str, object] = {"limit": 5}
        while True:
            status, answer = await client.get("/machines/specifications", **query)
            assert status == 200 and answer["pageInfo"]["totalCount"] == 13
            specifications += answer["data"]
            if not answer["pageInfo"]["hasNextPage"]:
                break
            query["cursor"] = answer["pageInfo"]["endCursor"]
        assert [each["machineId"] for each in specifications] == [
            machine.machine_id for machine in client.cloud.fleet.machines
        ]
        dates = [each["generic"]["registrationDate"] for each in specifications]
        assert dates == sorted(dates)
        assert specifications[0]["generic"]["serial"] == "1.533-002.0;000001"
        descending = (await client.get("/machines/specifications", sort="desc", limit=100))[1]["data"]
        assert descending == specifications[::-1]
        newer = (await client.get("/machines/specifications", registeredSince="2022-06-01"))[1]["pageInfo"]
        assert newer["totalCount"] == 8


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/machines/specifications", {"cursor": "bm90IG91cnM="}),
        ("/machines/specifications", {"limit": "many"}),
        ("/machines/specifications", {"sort": "upwards"}),
        ("/machines/specifications", {"registeredSince": "yesterday"}),
        ("/machines/statuses", {}),
        ("/machines/statuses", {"machineIds": ",".join(["x"] * 11)}),
        ("/machines/cleaning-reports", {"startDate": "2026-01-01T00:00:00Z"}),
        ("/machines/cleaning-reports", {"startDate": "2026-01-02T00:00:00Z", "endDate": "2026-01-01T00:00:00Z"}),
    ],
)
async def test_invalid_parameters(clock: Clock, truth: Truth, path: str, query: dict[str, str]) -> None:
    async with cloud(clock, truth) as client:
        assert await client.get(path, **query) == (400, {"status": 400, "message": "invalid_parameter"})


async def test_each_endpoint_allows_five_requests_a_second(clock: Clock, truth: Truth) -> None:
    async with cloud(clock, truth, rest_limit=5) as client:
        statuses = [(await client.get("/machines/specifications"))[0] for _ in range(6)]
        assert statuses == [200] * 5 + [429]
        assert (await client.get("/machines/notifications"))[0] == 200
        clock.forward(1)
        assert (await client.get("/machines/specifications"))[0] == 200


async def test_statuses_are_stringly_typed_as_documented(clock: Clock, truth: Truth) -> None:
    async with cloud(clock, truth, devices=3) as client:
        kira, cv50, other, retired = client.cloud.fleet.machines
        ids = ",".join([kira.machine_id, cv50.machine_id, other.machine_id, retired.machine_id, "unknown"])
        _, answer = await client.get("/machines/statuses", machineIds=ids)
        assert [each["machineId"] for each in answer["data"]] == [m.machine_id for m in (kira, cv50, other)]
        assert answer["errors"] == [
            {"machineId": retired.machine_id, "message": "invalidDevice"},
            {"machineId": "unknown", "message": "invalidDevice"},
        ]
        for entry in answer["data"]:
            assert all(isinstance(state["value"], str) for state in entry["states"])
        states = [{state["name"]: state["value"] for state in entry["states"]} for entry in answer["data"]]
        assert 0.35 <= float(states[0]["batteryChargeLevel"]) <= 0.95
        assert states[0]["charging"] in ("true", "false")
        assert states[0]["machineOperatingDuration"].startswith("PT")
        assert set(json.loads(states[0]["machinePosistion"])) == {"accuracy", "latitude", "longitude"}
        assert json.loads(states[0]["serviceCounter"])["cleaning_time"].count(":") == 2
        assert json.loads(states[0]["routes"])[0]["id"] == 3
        assert json.loads(states[1]["settings"])["lockcode"]["code"] >= 1000
        assert json.loads(states[1]["wifiStatus"])["networkName"] == "HRD"
        assert states[1]["time"].endswith("+03")
        assert set(states[2]) == {"machineOperatingDuration"}


async def test_a_socket_is_refused_at_the_handshake(clock: Clock, truth: Truth) -> None:
    async with cloud(clock, truth, devices=3) as client:
        kira, _, other, retired = client.cloud.fleet.machines
        for url, status in (
            (client.socket_url(kira, token="wrong"), 401),
            (client.socket_url(other), 400),
            (client.socket_url(retired), 400),
            (f"{client.urls['karcher.ws_url']}?accessToken={client.token}", 400),
        ):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url)
            assert refused.value.response.status_code == status


async def test_sockets_send_the_documented_datapoints(clock: Clock, truth: Truth) -> None:
    async with cloud(clock, truth, devices=3, rate=50) as client:
        wanted = {
            "kira": {"pose", "robotStatus", "repeatProgress"},
            "cv50": {"location", "mcuMainInfo"},
        }
        for machine in client.cloud.fleet.machines[:2]:
            seen: dict[str, Any] = {}
            async with connect(client.socket_url(machine)) as socket:
                while not seen.keys() >= wanted[machine.family]:
                    message = json.loads(await asyncio.wait_for(socket.recv(), 5))
                    assert message["type"] == "datapoints"
                    assert abs(message["timestamp"] / 1000 - clock()) < 5
                    seen |= message["data"]
            assert seen.keys() - {"cleaningReport"} == wanted[machine.family]
        assert set(seen["location"]) == {"coordinateX", "coordinateY", "mapId"}
        assert all(isinstance(seen["location"][axis], int) for axis in ("coordinateX", "coordinateY"))


async def test_a_report_is_the_same_by_socket_and_by_rest(clock: Clock, truth: Truth) -> None:
    async with cloud(clock, truth, devices=1, rate=50) as client:
        machine = client.cloud.fleet.machines[0]
        async with connect(client.socket_url(machine)) as socket:
            await socket.recv()
            clock.forward(30)  # at least one job of twenty seconds ends meanwhile
            report = None
            while report is None:
                report = json.loads(await asyncio.wait_for(socket.recv(), 5))["data"].get("cleaningReport")
        query = {"startDate": "2026-01-01T00:00:00Z", "endDate": "2030-01-01T00:00:00Z", "sort": "desc"}
        _, answer = await client.get("/machines/cleaning-reports", machineId=machine.machine_id, limit=100, **query)
        assert report in answer["data"]
        finished = [each["finishedAt"] for each in answer["data"]]
        assert finished == sorted(finished, reverse=True) and len(finished) > 50
        _, answer = await client.get("/machines/notifications", machineIds=machine.machine_id)
        assert json.loads(answer["data"][0]["data"])["reminder"] == "Reminder is due"


async def test_a_command_is_executed_or_cancelled(clock: Clock, truth: Truth) -> None:
    async with cloud(clock, truth, devices=3) as client:
        kira, cv50 = client.cloud.fleet.machines[:2]
        url = f"{client.urls['karcher.rest_url']}/machines/{kira.native_id}/commands"
        headers = {"Authorization": f"Bearer {client.token}"}
        body = {"commandName": "missionPause", "commandParameters": {}}
        async with client.session.post(url, json=body, headers=headers) as response:
            execution = (await response.json())["executionId"]
        path = f"/machines/command-execution/{execution}"
        clock.forward(2)
        events = (await client.get(path))[1]["data"]["executionEvents"]
        assert [event["status"] for event in events] == ["QUEUED", "REQUESTED"]
        cancel = client.urls["karcher.rest_url"] + path
        assert (await client.session.delete(cancel, headers=headers)).status == 204
        assert (await client.get(path))[1]["data"]["executionEvents"][0]["status"] == "CANCELLED"
        assert (await client.session.delete(cancel, headers=headers)).status == 400
        _, history = await client.get(f"/machines/{cv50.native_id}/command-executions")
        assert "settings.lockcode" in history["data"][0]["commandParameters"]["keys"][0]
        assert (await client.get("/machines/command-execution/none"))[0] == 404


async def test_planted_faults_are_what_arrives(clock: Clock, truth: Truth) -> None:
    planted = FaultSettings(crossings=0, start_after=0.2, spacing=0.05)
    async with cloud(clock, truth, faults=planted, devices=2, rate=40) as client:
        machine = client.cloud.fleet.machines[0]
        received: list[bytes] = []
        async with connect(client.socket_url(machine), max_size=2 << 20) as socket:
            with pytest.raises(ConnectionClosed):  # the planted disconnect
                while True:
                    received.append(await asyncio.wait_for(socket.recv(decode=False), 5))
        async with connect(client.socket_url(machine), max_size=2 << 20) as socket:  # and it comes back
            async with asyncio.timeout(5):
                while len(truth) < 12:
                    received.append(await socket.recv(decode=False))
            received.append(await socket.recv(decode=False))
    kinds = [line["kind"] for line in truth]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "malformed": 6,
        "duplicate": 3,
        "late": 2,
        "disconnect": 1,
    }
    assert {line["device_id"] for line in truth} == {f"karcher:{machine.native_id}"}
    digests = [hashlib.sha256(payload).hexdigest() for payload in received]
    doubled = Counter(line["detail"]["sha256"] for line in truth if line["kind"] == "duplicate")
    for line in truth:
        if line["kind"] != "disconnect":
            digest = line["detail"]["sha256"]  # duplicates due in the same tick, under load, are of one message
            assert digests.count(digest) == 1 + doubled[digest], line


async def test_a_battery_crosses_once_where_it_is_polled(clock: Clock, truth: Truth) -> None:
    planted = FaultSettings(crossings=1, malformed=0, duplicates=0, late=0, disconnects=0, start_after=10)
    async with cloud(clock, truth, faults=planted, devices=4) as client:
        ids = ",".join(machine.machine_id for machine in client.cloud.fleet.machines[:3])
        low: list[str] = []
        for _ in range(20):
            _, answer = await client.get("/machines/statuses", machineIds=ids)
            for entry in answer["data"]:
                states = {state["name"]: state["value"] for state in entry["states"]}
                low += [entry["machineId"]] * (float(states["batteryChargeLevel"]) < 0.15)
            clock.forward(2)
    assert len(set(low)) == 1 and len(low) == 4
    assert [line["detail"]["phase"] for line in truth] == ["started", "recovered"]
