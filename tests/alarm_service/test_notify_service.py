"""Notifications of the service as it is run: real Kafka, its own process, killed while it delivers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest_asyncio
from aiohttp import web
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner

from fleetlake.cli.main import app
from runtime.kafka import KafkaSettings, declare_topics
from runtime.ports import free_port
from schemas import wire
from schemas.topics import ALARMS, topic_specs
from tests.alarm_service.notifying import Received, Receiver, event, receiving
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
CONFIG = """
[notify]
retry_seconds = 0.1
retry_cap_seconds = 0.5

[notify.channels.ops]
channel_type = "webhook"
name = "Ops Webhook"
config = {{ url = "{url}", allow_private = true, timeout_seconds = 0.5, secret_file = "{secret}" }}

[notify.channels.night]
channel_type = "slack"
config = {{ url = "{url}/secret-path", allow_private = false }}

[notify.channels.mail]
channel_type = "email"
config = {{ host = "mail.example.com", sender = "f@example.com", recipients = ["ann@example.com", "bob@example.com"] }}

[notify.policies.critical]
channel_ids = ["ops"]
severity_filter = ["critical"]
event_types = ["triggered", "resolved"]
"""


@dataclass
class Service:
    """Where the service runs, and how it is called."""

    folder: Path
    kafka: str
    port: int

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("FLEETLAKE_")} | {
            "PYTHONPATH": str(ROOT),
            "FLEETLAKE_CONFIG": str(self.folder / "fleetlake.toml"),
            "FLEETLAKE_KAFKA__BOOTSTRAP_SERVERS": self.kafka,
            "FLEETLAKE_PIPELINE__DATA": str(self.folder / "data"),
            "FLEETLAKE_ALARMS__PORT": str(self.port),
        }

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "fleetlake", "alarms", "serve"]
            process = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    async def ready(self) -> None:
        async with aiohttp.ClientSession() as session:

            async def is_ready() -> bool:
                with suppress(aiohttp.ClientError):
                    async with session.get(f"http://127.0.0.1:{self.port}/readyz") as answer:
                        return answer.status == 200
                return False

            await eventually(is_ready)

    def run(self, *arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments], env=self.environment)
        assert done.exit_code == 0, f"{done.output} {done.exception!r}"
        return done.stdout

    async def ask(self, key: str, method: str, path: str, status: int = 200) -> Any:
        async with (
            aiohttp.ClientSession(headers={"X-API-Key": key}) as session,
            session.request(method, f"http://127.0.0.1:{self.port}/v1/iot/notifications{path}") as answer,
        ):
            assert answer.status == status, await answer.text()
            return await answer.json()


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest_asyncio.fixture
async def service(kafka: str, tmp_path: Path, receiver: Receiver) -> Service:
    await declare_topics(KafkaSettings(bootstrap_servers=kafka), topic_specs())
    (tmp_path / "fleetlake.toml").write_text(CONFIG.format(url=receiver.url, secret=tmp_path / "secret"))
    (tmp_path / "secret").write_text("whsec_aGVsbG8gd29ybGQ=\n")
    return Service(tmp_path, kafka, free_port())


async def tell(kafka: str, events: list[wire.AlarmEvent]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        for each in events:
            await producer.send(ALARMS, wire.encode(each), key=each.alarm.device_id.encode())
        await producer.flush()


def event_id_of(request: Received) -> str:
    return str(request.json["data"]["event_id"])


async def test_a_service_killed_while_it_delivers_delivers_everything_with_recognisable_duplicates(
    service: Service, receiver: Receiver
) -> None:
    run = uuid4().hex
    receiver.answer = lambda number, request: 30.0 if number == 3 else web.Response()
    with service.running() as process:
        await service.ready()
        key = service.run("alarms", "keys", "create", "tester").strip()
        now = datetime.now(UTC)
        events = [
            one
            for n in range(10)
            for one in (
                event(1, alarm=f"{run}{n}", at=now, device_id=f"climasense:{n}"),
                event(2, "resolved", alarm=f"{run}{n}", at=now, status="resolved", device_id=f"climasense:{n}"),
            )
        ]
        await tell(service.kafka, [*events, event(1, alarm=f"{run}x", at=now, severity="info")])
        await receiver.wait(3, 10)
        process.send_signal(signal.SIGKILL)  # the third was received, and nobody knows
        process.wait()
    with service.running():
        await service.ready()
        await receiver.wait(len(events) + 1, 20)

        async def none_waits() -> bool:
            return (await service.ask(key, "GET", "/deliveries?status=pending"))["total"] == 0

        await eventually(none_waits)
        count = Counter(event_id_of(one) for one in receiver.got)
        assert count == Counter({one.event_id: 1 for one in events}) + Counter({event_id_of(receiver.got[2]): 1})
        repeated = [one for one in receiver.got if event_id_of(one) == event_id_of(receiver.got[2])]
        assert repeated[0].key == repeated[1].key and [one.headers["X-Fleetlake-Attempt"] for one in repeated] == [
            "1",
            "2",
        ]
        first = {event_id_of(one): number for number, one in reversed(list(enumerate(receiver.got)))}
        assert all(first[begin.event_id] < first[end.event_id] for begin, end in zip(*[iter(events)] * 2, strict=True))

        # the history, by HTTP and by command
        page = await service.ask(key, "GET", "/deliveries?status=delivered&channel_type=webhook&limit=5&offset=2")
        assert (page["total"], page["limit"], page["offset"], len(page["deliveries"])) == (20, 5, 2, 5)
        assert {one["id"] for one in page["deliveries"]} <= {one.key for one in receiver.got}
        history = json.loads(service.run("notify", "history", "--channel", "ops", "--json"))
        assert history["total"] == 20 and history["deliveries"][0]["sent_at"]
        assert "delivered" in service.run("notify", "history", "--limit", "3")
        assert (await service.ask(key, "GET", "/deliveries?limit=501", 400))["error"] == "invalid_request"

        # what there is, without its secrets, and whether it works
        channels = (await service.ask(key, "GET", "/channels"))["channels"]
        expected = {"id": "ops", "name": "Ops Webhook", "channel_type": "webhook", "is_enabled": True}
        assert [one["id"] for one in channels] == ["mail", "night", "ops"] and channels[2] == expected
        for channel in ("ops", "night"):
            shown = json.dumps(await service.ask(key, "GET", f"/channels/{channel}"))
            assert "whsec" not in shown and "secret-path" not in shown
        assert "ann@example.com" in json.dumps(await service.ask(key, "GET", "/channels/mail"))
        reader = service.run("alarms", "keys", "create", "reader", "--role", "read").strip()
        masked = await service.ask(reader, "GET", "/channels/mail")
        assert masked["config"]["recipients"] == ["********"] * 2
        assert "example.com" not in json.dumps(masked["config"]["recipients"])
        assert (await service.ask(key, "POST", "/channels/ops/test"))["success"] is True
        refused = await service.ask(key, "POST", "/channels/night/test")
        assert refused["success"] is False and "allow_private" in refused["message"]
        await service.ask(key, "POST", "/channels/none/test", 404)
        assert [one["id"] for one in (await service.ask(key, "GET", "/policies"))["policies"]] == ["critical"]
        assert (await service.ask(key, "GET", "/policies/critical"))["channel_ids"] == ["ops"]
        await service.ask("wrong", "GET", "/policies", 401)
    assert "ops accepted it" in await asyncio.to_thread(service.run, "notify", "test", "ops")
