"""Coalescing, and viewers that are too slow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from schemas import wire
from tests.support.samples import NOON, alarm_event, event_set, observation
from tests.support.waiting import eventually
from ui.live.hub import Hub
from ui.live.reader import TopicReader

DEVICE = "karcher:one"


def level(value: float, seconds: int = 0) -> wire.Observation:
    moment = NOON + timedelta(seconds=seconds)
    reading = wire.Reading(metric="battery.level", observed_at=moment, value_number=value, unit="%")
    return observation(int(value), device=DEVICE, at=moment, readings=[reading])


def frames(joined: bytes) -> list[tuple[str, Any]]:
    parsed = []
    for frame in joined.decode().split("\n\n"):
        if frame:
            event, data = frame.split("\n", 1)
            parsed.append((event.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return parsed


async def test_many_reports_become_one_change() -> None:
    hub = Hub()
    with hub.subscribed(DEVICE) as one:
        await one.take(1)
        for number in range(100):
            hub.add_observation(level(number, number))
        hub.flush()
        [(first, fleet), (second, device)] = frames(await one.take(1))
    assert (first, second) == ("changes", "device")
    assert fleet["devices"][DEVICE]["metrics"] == {"battery.level": 99}
    assert device["readings"]["battery.level"]["value"] == 99


async def test_nothing_changed_sends_nothing() -> None:
    hub = Hub()
    with hub.subscribed("") as one:
        await one.take(1)
        hub.flush()
        assert await one.take(0.01) == b""


async def test_who_comes_later_has_what_came_before() -> None:
    hub = Hub()
    hub.add_observation(level(7))
    hub.flush()
    with hub.subscribed("") as one:
        [(_, content)] = frames(await one.take(1))
    assert content["devices"][DEVICE]["metrics"] == {"battery.level": 7}


async def test_a_slow_viewer_is_bounded_and_asked_to_read_anew() -> None:
    hub = Hub()
    with hub.subscribed("") as slow:
        for number in range(1000):
            hub.add_observation(level(number, number))
            hub.flush()
            assert len(slow.frames) <= 8
        names = [name for name, _ in frames(await slow.take(1))]
    assert "resync" in names and slow.dropped > 900


async def test_a_time_in_the_far_future_changes_nothing() -> None:
    hub = Hub()
    wrong = wire.Reading(metric="battery.level", observed_at=NOON, value_number=1.0, time_quality="future")
    hub.add_observation(observation(1, device=DEVICE, readings=[wrong]))
    with hub.subscribed("") as one:
        [(_, content)] = frames(await one.take(1))
    assert content["devices"][DEVICE]["metrics"] == {}


async def test_what_we_asked_for_is_no_sign_of_the_device() -> None:
    hub = Hub()
    for seconds, heard in ((0, None), (10, NOON), (20, None)):
        polled = level(50, seconds)
        polled.polled, polled.heard_at = True, heard
        hub.add_observation(polled)
    with hub.subscribed("") as one:
        [(_, content)] = frames(await one.take(1))
    assert content["devices"][DEVICE]["heard"] == int(NOON.timestamp() * 1000)


async def test_an_older_alarm_event_does_not_overwrite_a_newer_one() -> None:
    hub = Hub()
    newer, older = alarm_event(2, "acknowledged", "acknowledged"), alarm_event(1, "active", "triggered")
    await hub.add_alarm_event(newer)
    await hub.add_alarm_event(older)
    assert hub.alarms[newer.alarm.alarm_id]["status"] == "acknowledged"


async def test_who_waits_for_an_action_is_woken() -> None:
    hub = Hub()
    event = alarm_event(1, "active", "triggered")
    event.metadata = {"action_id": "a"}

    async def waits() -> bool:
        async with hub.acted:
            return bool(await hub.acted.wait_for(lambda: "a" in hub.done))

    waiting = asyncio.create_task(waits())
    await asyncio.sleep(0)
    await hub.add_alarm_event(event)
    assert await asyncio.wait_for(waiting, 5)


async def test_events_reach_the_page_of_their_device_only() -> None:
    hub = Hub()
    events = event_set(1)
    with hub.subscribed(events.device_id) as mine, hub.subscribed("karcher:other") as other:
        await mine.take(1)
        await other.take(1)
        hub.add_events(events)
        hub.flush()
        names = [name for name, _ in frames(await mine.take(1))]
        assert "device" in names
        assert "device" not in [name for name, _ in frames(await other.take(1))]


# -- Kafka goes away


class NoBroker:
    """Says where Kafka is, or that none runs; nobody listens there."""

    def __init__(self) -> None:
        self.address: str | None = None
        self.asked = 0

    def __call__(self) -> dict[str, Any] | None:
        self.asked += 1
        return {"bootstrap_servers": self.address} if self.address else None


async def test_an_outage_of_kafka_is_said_once_and_actions_are_refused_meanwhile(
    unused_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    find, hub = NoBroker(), Hub()
    reader = TopicReader(find, hub, action_seconds=1)
    running = asyncio.create_task(reader.run())
    try:
        await eventually(lambda: reader.problem == "no Kafka is running")
        assert reader.publisher is None
        find.address = f"127.0.0.1:{unused_port()}"
        asked = find.asked
        await eventually(lambda: reader.problem == "Kafka does not answer")
        await eventually(lambda: find.asked >= asked + 3)
        assert reader.publisher is None, "an action would not reach anybody"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    lines = [record.getMessage() for record in caplog.records if record.name == "ui.live.reader"]
    assert len([line for line in lines if "Kafka does not answer" in line]) <= 1, "and not with each attempt"


async def test_what_a_viewer_saw_stays_over_an_outage() -> None:
    """The hub keeps what it has; a viewer that comes meanwhile begins with it, and nothing is repeated afterwards."""
    hub = Hub()
    hub.add_observation(level(50, 1))
    hub.flush()
    with hub.subscribed(DEVICE) as late:
        await late.take(1)
        hub.flush()
        assert await late.take(0.01) == b"", "no change, no frame"
        hub.add_observation(level(51, 2))
        hub.flush()
        [(_, fleet), _] = frames(await late.take(1))
    assert fleet["devices"][DEVICE]["metrics"]["battery.level"] == 51
