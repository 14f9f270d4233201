"""The live page as it is run: its process beside a stream worker and the sinks, on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from fleetlake.local.broker import EmbeddedKafka
from runtime.kafka import KafkaSettings, declare_topics
from runtime.ports import free_port
from schemas.topics import topic_specs
from tests.alarm_service.service import HOT, PARTITIONS, Running, publish
from tests.support.waiting import eventually

SENSOR = "wayscloud:sensor-001"
ROWS = 50
QUERY_SECONDS = 3


@dataclass
class Page(Running):
    """The page and what it shows."""

    ui_port: int = field(default_factory=free_port)
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {
            "FLEETLAKE_UI__PORT": str(self.ui_port),
            "FLEETLAKE_UI__QUERY_ROWS": str(ROWS),
            "FLEETLAKE_UI__QUERY_SECONDS": str(QUERY_SECONDS),
            "FLEETLAKE_UI__ACTION_SECONDS": "20",
            "FLEETLAKE_STREAM__RULES_FILE": str(self.folder / "rules.yaml"),
        }

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.ui_port}"

    def start_ui(self) -> subprocess.Popen[bytes]:
        return self.start("ui")

    async def ready(self) -> None:
        """Wait until the page answers and the tables show the sensor with an alarm."""

        async def published() -> bool:
            await publish(self, "sensor-001", temperature=45.0, battery=80)
            with suppress(aiohttp.ClientError):
                async with Viewer(self) as viewer:
                    await viewer.sign_in()
                    alarms = await viewer.get("/api/alarms", device=SENSOR)
                    devices = (await viewer.get("/api/fleet"))["devices"]
                    timeline = await viewer.get("/api/timeline", id=SENSOR)
                    shown = [one["metrics"] for one in devices if one["device_id"] == SENSOR]
                    return bool(alarms and shown and shown[0]) and any(one["kind"] == "alarm" for one in timeline)
            return False

        await eventually(published, 90, self.logs)


class Refused(aiohttp.ClientError):
    """An answer that is not 200."""

    def __init__(self, status: int, content: Any) -> None:
        super().__init__(f"{status}: {content}")
        self.status, self.content = status, content


class Viewer:
    """A browser without a screen."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def __aenter__(self) -> Viewer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def sign_in(self, role: str = "operate") -> None:
        await self.post("/api/sign-in", {"key": self.page.keys[role]})

    async def get(self, path: str, **query: Any) -> Any:
        async with self.session.get(self.page.base + path, params=query) as answer:
            return await _content(answer)

    async def post(self, path: str, body: Any, **headers: str) -> Any:
        own = {"Origin": self.page.base, "Content-Type": "application/json"} | headers
        async with self.session.post(self.page.base + path, data=json.dumps(body), headers=own) as answer:
            return await _content(answer)


async def _content(answer: aiohttp.ClientResponse) -> Any:
    content = await answer.json()
    if answer.status != 200:
        raise Refused(answer.status, content)
    return content


@contextmanager
def running_page(folder: Path) -> Iterator[Page]:
    """All processes, with one alarm raised."""
    rule = {**HOT, "id": "hot", "cooldown_seconds": 0}
    (folder / "rules.yaml").write_text(json.dumps({"rules": [rule]}))
    with EmbeddedKafka(folder) as broker:
        page = Page(broker.bootstrap, folder)
        asyncio.run(declare_topics(KafkaSettings(bootstrap_servers=page.kafka, partitions=PARTITIONS), topic_specs()))
        try:
            for stage in (("stream",), ("sink",), ("ui",)):
                page.start(*stage)
            for role in ("read", "operate"):
                page.keys[role] = page.run("keys", "create", f"{role}@example.com", "--role", role).strip()
            asyncio.run(page.ready())
            yield page
        finally:
            for process in page.processes:
                process.kill()
                process.wait()


def at(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
