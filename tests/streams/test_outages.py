"""Our own outages, of real processes on real Kafka: no device turns silent by them, and no open alarm ends."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from runtime.api_keys import hash_key
from schemas.coverage import PROOF_AFTER
from tests.streams.fleet import LIVE, Fleet, Told, fleet_on, told
from tests.support.paths import ROOT
from tests.support.waiting import eventually, passing

SILENCE = PROOF_AFTER / 1e6 + 2.0
"""The rule's duration: what is shorter may be silence where the machine or Kafka stalls."""
LONGER = SILENCE + 1.0
"""How long an outage lasts."""
TALKER, MUTE = "climasense:talker", "climasense:mute"
RULES: list[dict[str, Any]] = [
    {
        "id": "off",
        "name": "Offline",
        "rule_type": "offline",
        "config": {"duration_seconds": SILENCE},
        "auto_resolve": True,
        "cooldown_seconds": 0,
    },
    {
        "id": "hot",
        "name": "Hot",
        "rule_type": "threshold",
        "config": {"metric": "environment.temperature", "operator": "gt", "value": 40},
        "auto_resolve": True,
        "cooldown_seconds": 0,
    },
]


@dataclass
class Connector:
    """`fleetlake connect climasense`, and devices that post to it."""

    fleet: Fleet
    port: int
    http: aiohttp.ClientSession
    talking: bool = True
    process: subprocess.Popen[bytes] | None = None
    refused: int = field(default=0)

    def start(self) -> None:
        folder = self.fleet.folder
        environment = {
            **self.fleet.environment,
            "FLEETLAKE_PIPELINE__DATA": str(folder / "connect"),
            "FLEETLAKE_CLIMASENSE__PORT": str(self.port),
            "FLEETLAKE_CLIMASENSE__KEYS_FILE": str(folder / "keys.json"),
        }
        with (folder / "connect.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fleetlake", "connect", "climasense"],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def end(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(30)

    async def post(self, device: str, value: float) -> bool:
        body = {"readings": [{"sensor_type": "temperature", "value": value}]}
        headers = {"Authorization": f"Bearer {device}"}
        url = f"http://127.0.0.1:{self.port}/v1/telemetry"
        try:
            async with self.http.post(url, json=body, headers=headers) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def talk(self) -> None:
        """One device speaks all the time, whether anybody listens or not."""
        while True:
            if self.talking and not await self.post("talker", 21):
                self.refused += 1
            await passing(0.5, "the pace of a device")


async def until_heard(connector: Connector) -> None:
    """Until a word of the talking device has come through to an alarm and ended it."""
    before = sum(each.rule == "hot" for each in await told(connector.fleet.kafka))
    connector.talking = False
    assert await eventually(lambda: connector.post("talker", 45), 60)
    assert await connector.post("talker", 20)
    connector.talking = True

    async def through() -> bool:
        return sum(each.rule == "hot" for each in await told(connector.fleet.kafka)) >= before + 2

    await eventually(through, 60)


async def silences(fleet: Fleet) -> list[tuple[str, str]]:
    return [(each.device, each.event_type) for each in await told(fleet.kafka) if each.rule == "off"]


@asynccontextmanager
async def watched(folder: Path, port: int) -> AsyncIterator[Connector]:
    """A connector and a stream worker; one device is silent already, which is an open alarm, and one talks."""
    async with fleet_on(folder) as fleet, aiohttp.ClientSession() as http:
        (fleet.folder / "rules.json").write_text(json.dumps(RULES))
        (fleet.folder / "keys.json").write_text(json.dumps({name: hash_key(name) for name in ("talker", "mute")}))
        connector = Connector(fleet, port, http)
        fleet.start(**LIVE)
        connector.start()
        assert await eventually(lambda: connector.post("mute", 20), 60)
        talking = asyncio.create_task(connector.talk())
        try:

            async def mute_is_silent() -> list[Told]:
                return [each for each in await told(fleet.kafka) if (each.device, each.rule) == (MUTE, "off")]

            (only,) = await eventually(mute_is_silent, 60)
            assert only.event_type == "triggered"
            await until_heard(connector)
            yield connector
            assert connector.refused > 0, "it spoke while nobody listened"
            talking.cancel()  # now it is silent

            async def both() -> bool:
                return (TALKER, "triggered") in await silences(fleet)

            await eventually(both, 60)
        finally:
            talking.cancel()
            connector.end(signal.SIGKILL)


async def test_no_outage_of_ours_is_a_silence_of_theirs(tmp_path: Path, unused_port: Callable[[], int]) -> None:
    async with watched(tmp_path / "fleet", unused_port()) as connector:
        connector.end(signal.SIGKILL)
        await asyncio.sleep(LONGER)
        connector.start()
        await until_heard(connector)
        assert await silences(connector.fleet) == [(MUTE, "triggered")]


@pytest.mark.chaos
async def test_nor_is_any_other_outage(tmp_path: Path, unused_port: Callable[[], int]) -> None:
    async with watched(tmp_path / "fleet", unused_port()) as connector:
        fleet = connector.fleet
        for how, with_worker in ((signal.SIGTERM, False), (None, True), (signal.SIGKILL, True)):
            if how is not None:
                connector.end(how)
            if with_worker:
                fleet.kill(fleet.workers[0])
            await asyncio.sleep(LONGER)
            if with_worker:
                fleet.start(**LIVE)
            if how is not None:
                connector.start()
            await until_heard(connector)
            assert await silences(fleet) == [(MUTE, "triggered")], (how, with_worker)
