"""The alarm service while Kafka is away: it reports that, it lives on, and each requested action happens once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from alarm_service.service import AlarmServiceConfig, run_alarms
from alarm_service.settings import AlarmsSettings
from fleetlake.local.broker import EmbeddedKafka
from fleetlake.stages import topics_ready
from runtime.health import Health
from runtime.kafka import KafkaSettings, declare_topics
from runtime.ports import free_port
from schemas import wire
from schemas.topics import ALARMS, topic_specs
from tests.alarm_service.service import PARTITIONS, Client, Running, raised, ready
from tests.support.kafka import read_all
from tests.support.waiting import eventually


@pytest.mark.slow
async def test_the_api_says_that_kafka_is_away_and_recovers(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path, port=free_port())
    running = Running(await asyncio.to_thread(broker.start), tmp_path)
    try:
        await declare_topics(KafkaSettings(bootstrap_servers=running.kafka, partitions=PARTITIONS), topic_specs())
        worker = running.start("stream")
        service = running.start("alarms", "serve", FLEETLAKE_ALARMS__ACTION_SECONDS="1")
        key = running.run("keys", "create", "me", "--role", "admin").strip()
        async with aiohttp.ClientSession() as session:
            ask = await ready(running, Client(session, f"http://127.0.0.1:{running.port}", key))
            alarm = await raised(running, ask, "d")
            await asyncio.to_thread(broker.stop)
            worker.kill()  # else it waits for its transaction to time out, and ends then
            await refused_while_away(ask, alarm["id"])
            async with begun_meanwhile(running, ask) as other:
                await refused_while_away(other, alarm["id"])
                await asyncio.to_thread(broker.start)
                running.start("stream")
                await done_when_back(ask, alarm["id"], running)
                await done_when_back(await ready(running, other), alarm["id"], running)
            assert service.poll() is None, "it has lived through it"
        events = [wire.decode_alarm_event(r.value or b"") for r in await everything(running.kafka)]
        counts = Counter((e.alarm.alarm_id, e.sequence) for e in events)
        assert set(counts.values()) == {1}, "none is doubled"
        kinds = [e.event_type for e in sorted(events, key=lambda e: e.sequence) if e.alarm.alarm_id == alarm["id"]]
        assert [kind for kind in kinds if kind != "repeated"] == ["triggered", "snoozed", "acknowledged"]
    finally:
        for process in running.processes:
            process.kill()
            process.wait()
        await asyncio.to_thread(broker.stop)


@asynccontextmanager
async def begun_meanwhile(running: Running, ask: Client) -> AsyncIterator[Client]:
    """A second service, on the same database, that begins while Kafka is away."""
    kafka, settings = KafkaSettings(bootstrap_servers=running.kafka), AlarmsSettings(port=free_port(), action_seconds=1)
    stop, health = asyncio.Event(), Health("alarms")
    data, waiting = running.folder / "data", partial(topics_ready, kafka, stop)
    serving = asyncio.create_task(run_alarms(AlarmServiceConfig(settings, kafka, data), stop, health, waiting))
    other = Client(ask.session, f"http://127.0.0.1:{settings.port}", ask.key)
    await eventually(lambda: answers(other), 10, lambda: serving)
    assert health.ready_problems(), "it has not read what there is"
    try:
        yield other
    finally:
        stop.set()
        await serving


async def answers(client: Client) -> bool:
    with suppress(aiohttp.ClientError):
        async with client.session.get(f"{client.base}/livez") as answer:
            return answer.status == 200
    return False


UNTIL = {"until": (datetime.now(UTC) + timedelta(hours=2)).isoformat()}
ASKED: tuple[tuple[str, Any], ...] = (("snooze", UNTIL), ("acknowledge", {"note": "mine"}))


async def refused_while_away(ask: Client, alarm_id: str) -> None:
    for action, body in ASKED:
        path = f"{ask.base}/v1/iot/alarms/{alarm_id}/{action}"
        headers = {"X-API-Key": ask.key, "Idempotency-Key": "first"}
        async with ask.session.post(path, json=body, headers=headers) as answer:
            assert answer.status == 503 and int(answer.headers["Retry-After"]) > 0
            assert await answer.json() == {"error": "unavailable", "message": "Kafka does not answer; try again later"}
    assert (await ask("PUT", "/v1/iot/rules/hot", {"description": "new"}, 503))["error"] == "unavailable"
    assert (await ask("GET", f"/v1/iot/alarms/{alarm_id}"))["status"] == "active", (
        "stored alarms can be read all the same"
    )


async def done_when_back(ask: Client, alarm_id: str, running: Running) -> None:
    """Repeat each request until it is carried out, and once more after that."""
    deadline = time.monotonic() + 90
    for action, body in ASKED:
        path = f"{ask.base}/v1/iot/alarms/{alarm_id}/{action}"

        async def is_done(path: str = path, body: Any = body) -> bool:
            headers = {"X-API-Key": ask.key, "Idempotency-Key": "first"}
            async with ask.session.post(path, json=body, headers=headers) as answer:
                assert answer.status in (200, 202, 503), await answer.text()
                return answer.status == 200

        await eventually(is_done, 90, running.logs)
        assert await is_done(), "and once more"
    while (await ask("GET", "/v1/iot/rules/hot")).get("description") != "new":
        async with ask.session.put(
            f"{ask.base}/v1/iot/rules/hot", json={"description": "new"}, headers={"X-API-Key": ask.key}
        ) as answer:
            assert answer.status in (200, 503), await answer.text()
        assert time.monotonic() < deadline, running.logs()


async def everything(kafka: str) -> list[Any]:
    """All events of all alarms."""
    return [record for records in (await read_all(kafka, ALARMS, PARTITIONS)).values() for record in records]
