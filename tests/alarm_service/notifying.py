"""What the tests of notifications share: alarm events, settings, and receivers on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid5

from aiohttp import web

from alarm_service.notify.settings import NotifySettings
from schemas import wire
from schemas.derived_ids import NAMESPACE
from tests.support.waiting import eventually

NOW = datetime.now(UTC).replace(microsecond=123456)
DEVICE = "climasense:sensor-001"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def event(
    sequence: int = 1,
    kind: str = "triggered",
    *,
    alarm: str = "a",
    at: datetime = NOW,
    status: str = "active",
    severity: str = "critical",
    rule_id: str = "high-temperature",
    device_id: str = DEVICE,
    snoozed_until: datetime | None = None,
    **texts: Any,
) -> wire.AlarmEvent:
    alarm_id = str(uuid5(NAMESPACE, alarm))
    return wire.AlarmEvent(
        event_id=str(uuid5(NAMESPACE, f"{alarm}/{sequence}")),
        sequence=sequence,
        event_type=kind,
        actor="rule_engine",
        created_at=at,
        alarm=wire.Alarm(
            alarm_id=alarm_id,
            device_id=device_id,
            vendor=device_id.partition(":")[0],
            rule_id=rule_id,
            rule_name="High temperature",
            severity=severity,
            title=texts.get("title", "High temperature: sensor-001"),
            message=texts.get("message", "environment.temperature > 35; now 36.5 Cel"),
            status=status,
            triggered_at=at,
            last_triggered_at=at,
            occurrence_count=sequence,
            metric="environment.temperature",
            resolved_at=at if status == "resolved" else None,
            snoozed_until=snoozed_until,
        ),
        origin=wire.Origin("telemetry.readings.v1", 0, sequence),
        note=texts.get("note"),
    )


def webhook(url: str, **config: Any) -> dict[str, Any]:
    """A webhook channel on loopback."""
    return {
        "channel_type": "webhook",
        "config": {"url": url, "secret": SECRET, "allow_private": True, "timeout_seconds": 1, **config},
    }


def settings(channels: dict[str, Any], policies: dict[str, Any] | None = None, **more: Any) -> NotifySettings:
    """Channels, and a policy over all of them unless others are given; retries quick."""
    everything = {"all": {"channel_ids": list(channels), "event_types": ["triggered", "resolved"]}}
    values = {"retry_seconds": 0.05, "retry_cap_seconds": 0.2, **more}
    return NotifySettings.model_validate(
        {"channels": channels, "policies": everything if policies is None else policies, **values}
    )


@dataclass
class Received:
    """One request."""

    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def key(self) -> str:
        return self.headers["Idempotency-Key"]


@dataclass
class Receiver:
    """A real HTTP server that keeps what it gets. `answer` says what it answers to the how-manieth request."""

    url: str = ""
    got: list[Received] = field(default_factory=list)
    answer: Callable[[int, Received], web.Response | float] = lambda number, request: web.Response()

    async def wait(self, count: int, seconds: float = 5) -> list[Received]:
        """What came, when so much has come."""
        await eventually(lambda: len(self.got) >= count, seconds)
        return self.got


@asynccontextmanager
async def receiving(
    answer: Callable[[int, Received], web.Response | float] = lambda number, request: web.Response(),
) -> AsyncIterator[Receiver]:
    """A receiver; an answer that is a number is so many seconds of silence before a 200."""
    receiver, closing = Receiver(answer=answer), asyncio.Event()

    async def take(request: web.Request) -> web.Response:
        received = Received(dict(request.headers), await request.read(), asyncio.get_running_loop().time())
        receiver.got.append(received)
        answered = receiver.answer(len(receiver.got), received)
        if isinstance(answered, float):
            with suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), answered)
            return web.Response()
        return answered

    app = web.Application()
    app.router.add_post("/{tail:.*}", take)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        closing.set()
        await runner.cleanup()


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)
