"""What keeps alarms away while workers run on real Kafka and are killed: a cause elsewhere, a maintenance window."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner

from fleetlake.cli.main import app
from schemas import wire
from schemas.envelope import Envelope
from schemas.topics import DEVICES
from tests.streams.fleet import LIVE, Fleet, fleet_on, partition_of, told, until_told, write_sent
from tests.streams.scripted_day import Sent
from tests.support.waiting import passing

GATEWAY = "wayscloud:gw"
ELSEWHERE = [name for name in (f"wayscloud:s{n}" for n in range(20)) if partition_of(name) != partition_of(GATEWAY)]
SENSOR, OTHER, MAINTAINED = ELSEWHERE[:3]
COMMON = {"rule_type": "offline", "auto_resolve": True, "cooldown_seconds": 0, "scope_type": "model"}
RULES = [
    {"id": "gw-off", "name": "Gateway", "scope_model": "gateway", "config": {"duration_seconds": 3}, **COMMON},
    {
        "id": "off",
        "name": "Sensor",
        "scope_model": "sensor",
        "config": {"duration_seconds": 2.5},
        "inhibited_by": [{"rule": "gw-off", "device": "gateway_id"}],
        **COMMON,
    },
]
SETTINGS = {**LIVE, "FLEETLAKE_STREAM__INHIBITION_WAIT_SECONDS": "1"}
_numbers = count()


def message(device: str, at: datetime) -> Sent:
    topic = {"mqtttopic": f"devices/{device.partition(':')[2]}/sensors/temperature"}
    name = f"m{next(_numbers)}"
    return Sent(at, Envelope(name, "wayscloud.publish", "wayscloud/mqtt", device, at, b"21", attributes=topic))


async def register(producer: AIOKafkaProducer, device: str, model: str, **attributes: str) -> None:
    known = wire.Device(device, "wayscloud", datetime.now(UTC), model=model, attributes=attributes)
    await producer.send_and_wait(DEVICES, wire.encode(known), key=device.encode(), partition=partition_of(device))


async def kill_one(fleet: Fleet, number: int) -> None:
    fleet.kill(fleet.workers[number])
    fleet.start(**SETTINGS)


async def maintain(fleet: Fleet, *arguments: str) -> str:
    done = await asyncio.to_thread(CliRunner().invoke, app, ["maintenance", *arguments], env=fleet.environment)
    assert done.exit_code == 0, done.output
    return done.output


async def test_a_gateway_hides_its_devices_alarms_whoever_is_killed(tmp_path: Path) -> None:
    async with fleet_on(tmp_path / "fleet") as fleet:
        (fleet.folder / "rules.json").write_text(json.dumps(RULES))
        async with AIOKafkaProducer(bootstrap_servers=fleet.kafka, acks="all") as producer:
            await register(producer, GATEWAY, "gateway")
            await register(producer, SENSOR, "sensor", gateway_id="gw")
            await register(producer, OTHER, "sensor", gateway_id="another")
            await register(producer, MAINTAINED, "sensor")
            planned = ("--scope-type", "device", "--scope", MAINTAINED, "--minutes", "60", "--note", "new battery")
            window = (await maintain(fleet, "add", *planned, "--actor", "ops")).strip()
            fleet.start(**SETTINGS)
            fleet.start(**SETTINGS)
            heard = datetime.now(UTC)
            await write_sent(producer, fleet, [message(name, heard) for name in (GATEWAY, SENSOR, OTHER, MAINTAINED)])
            await passing(3, "until both are at work; the alarms fall due meanwhile")
            await kill_one(fleet, 0)
            assert (await until_told(fleet, GATEWAY, "triggered")).at == heard + timedelta(seconds=3)
            # Judged at the same time as what its sensor would have told.
            assert (await until_told(fleet, OTHER, "triggered")).at == heard + timedelta(seconds=2.5)
            assert not {each.device for each in await told(fleet.kafka)} & {SENSOR, MAINTAINED}
            listed = await maintain(fleet, "list")
            assert all(part in listed for part in (window, MAINTAINED, "running", "ops", "new battery"))
            before = datetime.now(UTC)
            await maintain(fleet, "cancel", window)
            assert before <= (await until_told(fleet, MAINTAINED, "triggered")).at <= datetime.now(UTC)
            assert window not in await maintain(fleet, "list")
            await kill_one(fleet, 0)
            back = datetime.now(UTC)
            await write_sent(producer, fleet, [message(GATEWAY, back)])
            assert (await until_told(fleet, SENSOR, "triggered")).at == back
        found = [(each.device, each.rule, each.event_type) for each in await told(fleet.kafka)]
        assert sorted(each for each in found if each[0] != GATEWAY) == sorted(
            [(name, "off", "triggered") for name in (SENSOR, OTHER, MAINTAINED)]
        )
        assert (GATEWAY, "gw-off", "resolved") in found
