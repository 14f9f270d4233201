"""The alarm service as it is run: its processes, a client with a key, an alarm raised by the engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner

from fleetlake.cli.main import app
from runtime.ports import free_port
from schemas.envelope import Envelope
from schemas.timestamps import format_iso
from schemas.topics import raw_topic
from tests.support.paths import ROOT
from tests.support.waiting import eventually

PARTITIONS = 2
HOT = {
    "name": "High temperature alert",
    "rule_type": "threshold",
    "severity": "warning",
    "config": {"datapoint_id": "temperature", "operator": "gt", "value": 35},
    "actions": ["create_alarm"],
}
"""The document's rule, without its duration, with a datapoint that is known."""


@dataclass
class Running:
    """Kafka, a stream worker, the sinks and the service, as their own processes."""

    kafka: str
    folder: Path
    port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    key: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("FLEETLAKE_")} | {
            "PYTHONPATH": str(ROOT),
            "FLEETLAKE_KAFKA__BOOTSTRAP_SERVERS": self.kafka,
            "FLEETLAKE_PIPELINE__DATA": str(self.folder / "data"),
            "FLEETLAKE_STREAM__TICK_SECONDS": "0.2",
            "FLEETLAKE_STREAM__CLOCK_ALLOWANCE_SECONDS": "0.3",
            "FLEETLAKE_SINK__DELTA__FLUSH_SECONDS": "0.3",
            "FLEETLAKE_SINK__DUCKDB__PUBLISH_SECONDS": "0.5",
            "FLEETLAKE_ALARMS__PORT": str(self.port),
        }

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{len(self.processes)}-{arguments[0]}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "fleetlake", *arguments],
                cwd=self.folder,
                env={**self.environment, **settings},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def run(self, *arguments: str, status: int = 0) -> str:
        """What `fleetlake alarms …` says."""
        from fleetlake.errors import UserError

        done = CliRunner().invoke(app, ["alarms", *arguments], env=self.environment)
        output = done.output + (str(done.exception) if isinstance(done.exception, UserError) else "")
        assert done.exit_code == status, output + repr(done.exception)
        return output

    def log_of(self, process: subprocess.Popen[bytes]) -> str:
        number = self.processes.index(process)
        return next(self.folder.glob(f"{number}-*.log")).read_text()

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))


@dataclass
class Client:
    """Asks the service, with a key."""

    session: aiohttp.ClientSession
    base: str
    key: str

    async def __call__(self, method: str, path: str, body: Any = None, status: int = 200, **options: Any) -> Any:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"X-API-Key": self.key, "Content-Type": "application/json"} | options.pop("headers", {})
        async with self.session.request(method, self.base + path, data=data, headers=headers, **options) as answer:
            text = await answer.text()
            assert answer.status == status, text
            return json.loads(text) if text else None


async def ready(running: Running, client: Client) -> Client:
    """Wait until the service has read all that was there when it began."""

    async def is_ready() -> bool:
        with suppress(aiohttp.ClientError):
            async with client.session.get(client.base + "/readyz") as answer:
                return answer.status == 200
        return False

    await eventually(is_ready, 150, running.logs)
    return client


async def publish(running: Running, device: str, **values: Any) -> None:
    """A WAYSCloud device publishes its values, now."""
    now = datetime.now(UTC)
    data = json.dumps({"timestamp": format_iso(now), **values}).encode()
    attributes = {"mqtttopic": f"devices/{device}/sensors/state"}
    envelope = Envelope(
        str(uuid4()), "wayscloud.publish", "wayscloud/mqtt", f"wayscloud:{device}", now, data, attributes=attributes
    )
    async with AIOKafkaProducer(bootstrap_servers=running.kafka, acks="all") as producer:
        await producer.send_and_wait(
            raw_topic("wayscloud"), envelope.data, key=envelope.key, headers=envelope.headers()
        )


async def raised(running: Running, ask: Client, device: str, rule_id: str = "hot") -> dict[str, Any]:
    """An alarm of the device, raised by the engine."""

    async def is_in_force() -> bool:
        rules = (await ask("GET", "/v1/iot/rules"))["rules"]
        if any(rule["id"] == rule_id for rule in rules):
            return True
        body = {**HOT, "id": rule_id, "cooldown_seconds": 0}
        headers = {"X-API-Key": ask.key}
        async with ask.session.post(f"{ask.base}/v1/iot/rules", json=body, headers=headers) as answer:
            assert answer.status in (201, 503), await answer.text()  # 503: Kafka took longer than the action may wait
        return False

    await eventually(is_in_force, 60, running.logs)

    async def listed() -> list[dict[str, Any]]:
        await publish(
            running, device, temperature=45.0
        )  # once more, as the rule applies from when the engine has read it
        answer = await ask("GET", "/v1/iot/alarms", params={"device_id": device, "rule_id": rule_id})
        alarms: list[dict[str, Any]] = answer["alarms"]
        return alarms

    return (await eventually(listed, 60, running.logs))[0]
