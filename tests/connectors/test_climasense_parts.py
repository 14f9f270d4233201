"""Parts of the ClimaSense server on their own: delivery, answers, registry records, store parts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from connectors.climasense.answers import RequestRefused, error_answer, unavailable
from connectors.climasense.delivery import Delivery
from connectors.climasense.protocol import Pairing, Provisioned, device_record, sensor_paired
from connectors.climasense.store.records import DeviceState, StateError
from connectors.climasense.store.store import Store, open_store
from connectors.climasense.unconfirmed import UnconfirmedBodies
from connectors.common.publisher import Publisher
from runtime.api_keys import hash_key
from runtime.kafka import KafkaSettings
from schemas.climasense import OtaStatus, SensorPaired
from schemas.envelope import Envelope
from schemas.wire import Device

NOW = datetime(2026, 3, 16, tzinfo=UTC)
DEVICE = DeviceState("sensor-1", "sensor", "b1", "SN-7", "1.2.0", "hub-1", {"timezone": "UTC", "reboots": 3})

PAIRING_BODY = b'{"sensor_api_key": "secret", "ieee_address": "00:11:22:33:44:55:66:77"}'
PAIRED = SensorPaired(sensor_id="aa8707dc-fa19-438f-a5ba-ee5518d43631", serial_number="SN-7")
PAIRING = Pairing("climasense:hub-1", "climasense:sensor-1", PAIRED, 1)
UNSET_INTERVAL = {"reporting_interval_seconds": 60}
"""What the document says of a device that was told no interval."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(None, tmp_path)
    yield opened
    opened.close()


def test_the_record_has_the_documented_settings_and_the_hub_as_a_device_id() -> None:
    record = device_record(DEVICE, NOW)
    assert record == Device(
        "climasense:sensor-1",
        "climasense",
        NOW,
        serial_number="SN-7",
        firmware_version="1.2.0",
        attributes={"role": "sensor", "batch": "b1", "hub": "climasense:hub-1", "timezone": "UTC"} | UNSET_INTERVAL,
    )
    bare = device_record(DeviceState("d", "device"), NOW)
    assert (bare.serial_number, bare.attributes) == ("d", {"role": "device"} | UNSET_INTERVAL)
    slow = device_record(DeviceState("d", "device", settings={"reporting_interval_seconds": 300}), NOW)
    assert slow.attributes["reporting_interval_seconds"] == 300


def test_a_later_pairing_of_the_same_two_is_another_message() -> None:
    first, repeated, later = (sensor_paired(PAIRING_BODY, replace(PAIRING, number=n), NOW) for n in (1, 1, 2))
    assert first == repeated and first.id != later.id
    data = json.loads(first.data)
    assert (data["sensor_device_id"], data["serial_number"]) == ("climasense:sensor-1", "SN-7")
    assert b"secret" not in first.data


def test_an_unavailable_answer_says_when_to_try_again() -> None:
    answer = unavailable().answer
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert json.loads(answer.text or "") == {"error": "unavailable", "message": "Try again later"}
    assert error_answer(404, "not_found", "No").headers.get("Retry-After") is None


# -- bodies without a time


class SlowKafka:
    """As the publisher is seen from a request: what it queues is delivered when the test says so."""

    def __init__(self) -> None:
        self.away = False
        self.queued: list[asyncio.Future[None]] = []

    async def publish_soon(self, _: Envelope) -> asyncio.Future[None]:
        self.queued.append(asyncio.get_running_loop().create_future())
        return self.queued[-1]


UNTIMED = Envelope("id", "climasense.telemetry", "climasense/http", "climasense:d", NOW, b"{}")


async def statuses(delivery: Delivery, contents: str) -> list[int]:
    answers = []
    for content in contents:
        try:
            await delivery.publish_untimed(UNTIMED, content)
            answers.append(200)
        except RequestRefused as refused:
            answers.append(refused.answer.status)
    return answers


async def test_what_was_on_its_way_when_it_was_answered_503_is_not_published_once_more() -> None:
    kafka = SlowKafka()
    delivery = Delivery(cast(Any, kafka), 0.01, lambda: None)
    assert await statuses(delivery, "ab") == [503, 503]
    assert await statuses(delivery, "a") == [503], "still on its way"
    assert len(kafka.queued) == 2
    for delivered in kafka.queued:
        delivered.set_result(None)
    assert await statuses(delivery, "ab") == [200, 200] and len(kafka.queued) == 2
    assert len(delivery.unconfirmed) == 0
    assert await statuses(delivery, "a") == [503] and len(kafka.queued) == 3, "the next one is a measurement of its own"


async def test_equal_bodies_that_were_both_answered_503_are_two() -> None:
    kafka = SlowKafka()
    delivery = Delivery(cast(Any, kafka), 0.01, lambda: None)
    first = await asyncio.gather(statuses(delivery, "a"), statuses(delivery, "a"))
    assert first == [[503], [503]] and len(kafka.queued) == 2
    for delivered in kafka.queued:
        delivered.set_result(None)
    assert await statuses(delivery, "aa") == [200, 200] and len(kafka.queued) == 2


async def test_while_kafka_is_away_nothing_is_queued_and_what_was_is_remembered() -> None:
    kafka = SlowKafka()
    delivery = Delivery(cast(Any, kafka), 0.01, lambda: None)
    assert await statuses(delivery, "a") == [503]
    kafka.away = True
    assert await statuses(delivery, "ab") == [503, 503] and len(kafka.queued) == 1
    kafka.away = False
    kafka.queued[0].set_result(None)
    assert await statuses(delivery, "a") == [200] and len(kafka.queued) == 1


async def test_unconfirmed_bodies_are_bounded() -> None:
    bodies, loop = UnconfirmedBodies(most=3), asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(4)]
    for number, delivered in enumerate(futures):
        bodies.add("same" if number < 2 else f"{number}", delivered)
    assert len(bodies) == 3 and bodies.take("same") is futures[1] and bodies.take("same") is None
    assert bodies.take("2") is futures[2] and bodies.take("3") is futures[3] and len(bodies) == 0


async def test_a_device_that_cannot_be_published_is_marked(unused_port: Callable[[], int]) -> None:
    marked: list[bool] = []
    unconnected = Publisher(KafkaSettings(bootstrap_servers=f"127.0.0.1:{unused_port()}"))
    delivery = Delivery(unconnected, 0.05, lambda: marked.append(True))
    with pytest.raises(RequestRefused):
        await delivery.publish(sensor_paired(PAIRING_BODY, PAIRING, NOW))
    assert not marked
    with pytest.raises(RequestRefused):
        await delivery.register(DEVICE, NOW)
    assert marked == [True]


def test_the_version_rises_with_what_operators_change_and_not_with_what_devices_do(store: Store) -> None:
    store.keys.add(Provisioned("d", hash_key("k")), NOW)
    version = store.keys.version()
    store.devices.update_settings("d", {"timezone": "UTC"})
    store.devices.note_firmware("d", "1.0.0")
    assert store.keys.version() == version
    store.devices.update_settings("d", {"timezone": "CET"}, by_operator=True)
    assert store.keys.version() == version + 1
    store.keys.revoke("d", NOW)
    assert store.keys.version() == version + 2
    store.keys.revoke("d", NOW)  # nothing is left to revoke
    assert store.keys.version() == version + 2


def test_a_completed_update_changes_the_version_that_the_device_runs(store: Store) -> None:
    store.keys.add(Provisioned("d", hash_key("k")), NOW)
    report = OtaStatus(version="2.0.0", status="completed", progress_percent=100)
    update = store.updates.next("d", report)
    changed = store.updates.save("d", update, NOW)
    assert changed is not None and changed.firmware_version == "2.0.0"
    assert store.updates.save("d", update, NOW) is None
    failed = OtaStatus(version="3.0.0", status="failed", progress_percent=10)
    assert store.updates.save("d", store.updates.next("d", failed), NOW) is None
    assert store.devices.get("d").firmware_version == "2.0.0"


def test_an_unknown_device_has_no_settings_commands_or_updates(store: Store) -> None:
    with pytest.raises(StateError, match="no device 'x'"):
        store.devices.update_settings("x", {})
    with pytest.raises(StateError, match="no device 'x'"):
        store.commands.queue("x", "reboot", {}, NOW)
    with pytest.raises(StateError, match="no device 'x'"):
        store.devices.unpair("x")
