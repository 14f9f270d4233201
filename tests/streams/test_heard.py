"""What counts as heard: a poll does not, a vendor's own contact does; reconnections of every vendor are counted."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from schemas import wire
from schemas.timestamps import format_iso
from schemas.topics import READINGS, raw_topic
from tests.support.detecting import Detecting, at, millis, record, rule, tick
from tests.support.normalised import RECEIVED, normalised
from tests.support.records import ConsumedRecord

SILENT = {"rule_type": "offline", "auto_resolve": True, "cooldown_seconds": 0}


def offline(seconds: float) -> ConsumedRecord:
    return rule(0, -10, "off", **SILENT, config={"duration_seconds": seconds})


def iso(seconds: float) -> str:
    return format_iso(at(seconds))


class Polled:
    """A device whose state we ask for, from the vendor's answer to the alarm."""

    def __init__(self, *rules: ConsumedRecord) -> None:
        self.fleet = Detecting(*rules)
        self._offsets = count()

    def poll(self, message_type: str, answer: Any, seconds: float, **fields: Any) -> list[str]:
        """One answer, through the normaliser and the alarm engine; then time goes on to it."""
        made = normalised(message_type, answer, received_at=at(seconds), **fields).observation
        assert made is not None
        offset = next(self._offsets)
        made.origin = wire.Origin(raw_topic(made.vendor), 0, offset)
        events = self.fleet.feed(
            ConsumedRecord(READINGS, offset, made.device_id.encode(), wire.encode(made), millis(seconds))
        )
        return events + self.fleet.follow(tick(seconds, offset, made.vendor))


BATTERY = {"battery_level": 80, "charging_status": "Charging", "last_charging_time": "2026-03-15T00:00:00Z"}
HEALTH = {"health_score": 90, "health_status": "healthy", "checked_at": iso(0)}


def karcher_status(contact: float, level: float = 0.5) -> dict[str, Any]:
    states = [{"name": "batteryChargeLevel", "value": level, "timestamp": iso(contact)}]
    return {"lastConnected": iso(contact), "lastContact": iso(contact), "states": states}


@pytest.mark.parametrize("duration", [300, 900])
def test_a_machine_that_is_off_since_yesterday_is_one_alarm_however_often_we_ask(duration: float) -> None:
    machine = Polled(offline(duration))
    events = [machine.poll("karcher.status", karcher_status(-86400), minute * 60) for minute in range(61)]
    assert [each for some in events for each in some] == ["off:triggered"]


@pytest.mark.parametrize(
    ("message_type", "answer"),
    [
        ("ogmen.battery", BATTERY),
        ("wayscloud.health", HEALTH),
        ("wayscloud.device", {"is_online": False, "battery_level": 50}),
    ],
)
def test_what_has_no_time_of_contact_is_no_sign_of_life(message_type: str, answer: dict[str, Any]) -> None:
    device = Polled(offline(300))
    events = [device.poll(message_type, answer, half * 30) for half in range(121)]
    assert [each for some in events for each in some] == ["off:triggered"]
    assert device.fleet.alarm.triggered_at == at(300), "silence counts from when it was first seen"


@pytest.mark.parametrize(
    ("message_type", "answer"),
    [
        ("karcher.status", lambda contact: karcher_status(contact)),
        ("wayscloud.device", lambda contact: {"is_online": True, "last_seen": iso(contact)}),
        (
            "ogmen.battery.log",
            lambda contact: {"log_id": str(contact), "battery_level": 1, "recorded_at": iso(contact)},
        ),
    ],
)
def test_the_vendors_own_contact_counts(message_type: str, answer: Any) -> None:
    device = Polled(offline(300))
    for seconds in range(0, 1200, 60):
        assert device.poll(message_type, answer(seconds - 20), seconds) == []
    silent = [device.poll(message_type, answer(1120), seconds) for seconds in range(1200, 2400, 60)]
    assert [each for some in silent for each in some] == ["off:triggered"]
    assert device.fleet.alarm.triggered_at == at(1420)
    assert device.poll(message_type, answer(2390), 2400) == ["off:resolved"]


def test_missing_data_goes_by_the_time_of_the_state() -> None:
    missing = {**SILENT, "rule_type": "missing_data", "config": {"metric": "battery.level", "duration_seconds": 300}}
    machine = Polled(rule(0, -10, "off", **missing))
    events = []
    for minute in range(30):
        answer = karcher_status(0) | {"lastContact": iso(minute * 60)}
        events += machine.poll("karcher.status", answer, minute * 60)
    assert events == ["off:triggered"], "the machine speaks, but not of its battery"


def test_only_what_the_device_sends_is_counted_as_a_message() -> None:
    few = {"operator": "lt", "value": 1, "window_seconds": 600}
    rate = rule(0, -10, "few", rule_type="message_rate", config=few, auto_resolve=True, cooldown_seconds=0)
    machine = Polled(rate)
    machine.poll("karcher.status", karcher_status(0), 0)
    events = [machine.poll("karcher.status", karcher_status(0), seconds) for seconds in range(60, 1300, 60)]
    assert [each for some in events for each in some] == ["few:triggered"]
    assert machine.fleet.last.created_at == at(1200)


def test_a_contact_ahead_of_the_receipt_is_at_most_the_receipt() -> None:
    observation = normalised("karcher.status", karcher_status(0)).observation
    assert observation is not None and (observation.polled, observation.heard_at) == (True, at(0))
    for ahead, expected in ((timedelta(hours=1), RECEIVED), (timedelta(days=3), None)):
        contact = {"lastContact": format_iso(RECEIVED + ahead)}
        made = normalised("karcher.status", contact).observation
        assert made is not None and made.heard_at == expected


def test_what_a_device_sends_is_heard_when_it_is_received() -> None:
    payload = {"type": "datapoints", "data": {"batteryChargeLevel": 0.5}, "timestamp": 0}
    observation = normalised("karcher.datapoints", payload).observation
    assert observation is not None
    assert (observation.polled, observation.heard_at, observation.device_heard_at) == (False, None, RECEIVED)
    assert b"polled" not in wire.encode(observation) and b"heard_at" not in wire.encode(observation)


def heard(received: float, contact: datetime | None) -> ConsumedRecord:
    return record(int(received), received, {"t": 1}, polled=True, heard_at=contact)


def test_a_contact_that_is_too_old_does_not_end_a_silence() -> None:
    fleet = Detecting(offline(300))
    fleet.feed(heard(0, at(0)))
    assert fleet.feed(heard(400, at(10))) == ["off:triggered"]
    assert fleet.feed(heard(500, at(200))) == [], "spoken since, and silent for too long again"
    assert fleet.feed(heard(600, at(310))) == ["off:resolved"]


# -- reconnections

RATE = {"rule_type": "reconnect_rate", "config": {"value": 6, "operator": "gte"}, "cooldown_seconds": 0}


def flips(number: int) -> list[bool]:
    return [True, *([False, True] * number)]


@pytest.mark.parametrize(
    ("message_type", "answer"),
    [
        ("wayscloud.device", lambda up: {"is_online": up}),
        ("wayscloud.device", lambda up: {"is_online": up, "connection_status": "connected" if up else "disconnected"}),
        ("ogmen.network.log", lambda up: {"log_id": "x", "connection_status": "Connected" if up else "Disconnected"}),
    ],
)
def test_six_flips_of_a_vendors_connection_state_are_six_reconnections(message_type: str, answer: Any) -> None:
    device = Polled(rule(0, -10, "unstable", **RATE))
    for number, up in enumerate(flips(6)):
        assert device.poll(message_type, answer(up), number) == []
    assert device.fleet.follow(tick(3601, 12, message_type.partition(".")[0])) == ["unstable:triggered"]
    assert device.fleet.last.metadata is not None and device.fleet.last.metadata["count"] == 6


def test_words_that_say_nothing_of_a_connection_count_nothing() -> None:
    device = Polled(rule(0, -10, "unstable", **RATE))
    for number in range(14):
        device.poll("wayscloud.device", {"connection_status": ("unknown", "weak")[number % 2]}, number)
    assert device.fleet.follow(tick(3601, 13)) == []
