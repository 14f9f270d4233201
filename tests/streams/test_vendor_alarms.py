"""Vendors' own alarms at their edges: duplicates, quiet time, what is kept, impossible times, WAYSCloud's entries."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from schemas import wire
from schemas.timestamps import to_micros
from schemas.topics import EVENTS, raw_topic
from streams.detect.device import Profile, TrackedDevice
from streams.detect.state import DeviceState
from streams.detect.vendor_alarms import RECENT_EVENTS, RESOLVED_KEPT, VendorAlarms, VendorAlarmSettings
from streams.detect.vendor_alerts import Transition, VendorAlert, is_vendor_alarm, readers
from tests.support.detecting import DEVICE, T0, Detecting, action, at, device, millis, rule, tick
from tests.support.records import ConsumedRecord

QUIET = 3600 * 1_000_000
SETTINGS = VendorAlarmSettings({"ogmen": QUIET}, timedelta(hours=24), timedelta(days=365))


class Vendor:
    """One device of a vendor, fed with events by the second."""

    def __init__(self, vendor: str = "ogmen") -> None:
        self.name = vendor
        profile = Profile(f"{vendor}:1", vendor)
        self.device = TrackedDevice(DeviceState(), profile, EVENTS, due=1 << 62)
        self.alarms = VendorAlarms(self.device, SETTINGS)
        self.offset = -1

    def feed(self, *events: wire.Event, received: float = 0) -> list[wire.AlarmEvent]:
        self.offset += 1
        origin = wire.Origin(EVENTS, 0, self.offset)
        moment = T0 + timedelta(seconds=received)
        return self.alarms.apply(wire.EventSet("m", self.device.id, self.name, moment, origin, list(events)), origin)


def alert(name: str, header: str = "Stuck", seconds: float = 0) -> wire.Event:
    data = json.dumps({"source": "nav", "header": header, "body": "b"})
    return wire.Event(name, "alert", T0 + timedelta(seconds=seconds), data, severity="major")


def entry(name: str, kind: str, seconds: float = 0, **more: Any) -> wire.Event:
    shown = {"id": "a1", "rule_id": "r", "title": "Hot", "severity": "Urgent", "triggered_at": "2026-03-16T00:00:00Z"}
    data = json.dumps({"alarm": shown, "entry": {"event_type": kind, **more}})
    return wire.Event(name, "vendor_alarm", T0 + timedelta(seconds=seconds), data)


def kinds(events: list[wire.AlarmEvent]) -> list[str]:
    return [event.event_type for event in events]


def test_an_alarm_resolves_exactly_a_quiet_time_after_its_last_report() -> None:
    vendor = Vendor()
    vendor.feed(alert("a"))
    vendor.feed(alert("b"), received=100)
    assert vendor.device.due == to_micros(T0) + QUIET
    due = to_micros(T0) + 100 * 1_000_000 + QUIET
    assert vendor.alarms.advance(due) == []
    (event,) = vendor.alarms.advance(due + 1)
    assert (event.event_type, to_micros(event.created_at), event.metadata["quiet_seconds"]) == ("resolved", due, 3600)
    assert vendor.device.due == 1 << 62


def vendors_alarm(offset: int, name: str, kind: str, device: str = DEVICE, rule_id: str = "hot") -> ConsumedRecord:
    """An entry of the timeline of one of WAYSCloud's alarms, received at that second of its offset."""
    shown = {"id": name, "rule_id": rule_id, "title": "Hot", "triggered_at": T0.isoformat()}
    data = json.dumps({"alarm": shown, "entry": {"event_type": kind}})
    event = wire.Event(f"{name}:{kind}", "vendor_alarm", at(offset), data)
    origin = wire.Origin(raw_topic("wayscloud"), 0, offset)
    made = wire.EventSet(f"m{offset}", device, "wayscloud", at(offset), origin, [event])
    return ConsumedRecord(EVENTS, offset, device.encode(), wire.encode(made), millis(offset))


THRESHOLD = {"rule_type": "threshold", "config": {"metric": "cpu.usage", "operator": "gt", "value": 1}}


def test_an_alarm_of_a_rule_that_is_evaluated_here_is_an_event_only() -> None:
    imported = rule(0, 10, "hot", **THRESHOLD, created_at=at(10).isoformat())
    detecting = Detecting(imported, topic=EVENTS)
    assert detecting.feed(vendors_alarm(0, "before", "triggered")) == ["wayscloud:hot:triggered"]
    assert detecting.feed(vendors_alarm(20, "a", "triggered")) == []
    detecting.restart()
    assert detecting.feed(vendors_alarm(21, "a", "acknowledged"), vendors_alarm(22, "a", "resolved")) == []
    assert detecting.feed(vendors_alarm(23, "before", "resolved")) == ["wayscloud:hot:resolved"], "goes on to its end"
    assert detecting.feed(vendors_alarm(24, "b", "triggered", rule_id="other")) == ["wayscloud:other:triggered"]
    detecting.follow(rule(1, 30, "hot"))
    assert detecting.feed(vendors_alarm(31, "c", "triggered")) == ["wayscloud:hot:triggered"], "the rule was deleted"


def test_of_several_actions_each_is_carried_out_in_order() -> None:
    detecting = Detecting(topic=EVENTS)
    detecting.feed(vendors_alarm(0, "a", "triggered"))
    kinds = ["acknowledge", "resolve", "reopen", "acknowledge"]
    detecting.follow(*[action(n, 10 + n, kind, detecting.alarm.alarm_id) for n, kind in enumerate(kinds)])
    done = ["acknowledged", "resolved", "reopened", "acknowledged"]
    assert detecting.follow(tick(60, 0)) == [f"wayscloud:hot:{kind}" for kind in done]


@pytest.mark.parametrize(
    ("fields", "joined"),
    [
        ({}, True),
        ({"scope_type": "vendor", "scope_vendor": "wayscloud"}, True),
        ({"scope_type": "device", "scope_device_id": "a"}, True),
        ({"scope_type": "device", "scope_device_id": "b"}, False),
        ({"scope_type": "group", "scope_group_id": "g"}, True),
        ({"scope_type": "group", "scope_group_id": "elsewhere"}, False),
        ({"is_enabled": False}, False),
        ({"config": {"metric": "cpu.usage", "operator": "gt", "value": 1, "unit": "m"}}, False),
    ],
)
def test_only_a_rule_in_force_for_the_device_takes_the_vendors_place(fields: dict[str, Any], joined: bool) -> None:
    known = device(0, DEVICE, attributes={"groups": ["g"]})
    detecting = Detecting(known, rule(0, 0, "hot", **THRESHOLD | fields), topic=EVENTS)
    assert detecting.feed(vendors_alarm(5, "a", "triggered")) == ([] if joined else ["wayscloud:hot:triggered"])


def test_a_vendor_without_a_quiet_time_resolves_nothing() -> None:
    vendor = Vendor("karcher")
    data = json.dumps({"category": "c", "code": "1", "type": "t"})
    vendor.feed(wire.Event("n", "notification", T0, data, title="T"))
    assert vendor.alarms.advance(1 << 61) == []
    assert vendor.device.state.open_alarms == 1


def test_an_alert_at_the_time_of_the_resolved_one_adds_to_it() -> None:
    vendor = Vendor()
    vendor.feed(alert("a"))
    vendor.alarms.advance(1 << 61)
    assert kinds(vendor.feed(alert("b", seconds=0), received=1)) == ["repeated"], "its id would be the same"
    assert kinds(vendor.feed(alert("c", seconds=1), received=2)) == ["triggered"]


def test_duplicates_are_recognised_among_the_latest_ids() -> None:
    vendor = Vendor()
    vendor.feed(*(alert(str(number), seconds=number / 1000) for number in range(RECENT_EVENTS)))
    assert vendor.feed(alert("0")) == []
    assert vendor.device.skipped.replayed == 1
    vendor.feed(alert("more"))
    assert kinds(vendor.feed(alert("0"))) == ["repeated"], "forgotten by now"
    assert len(vendor.device.state.recent_events) == RECENT_EVENTS


def test_the_oldest_resolved_alarms_are_forgotten() -> None:
    vendor = Vendor()
    for number in range(RESOLVED_KEPT + 3):
        vendor.feed(alert(f"a{number}", f"h{number}", number), received=number)
    vendor.alarms.advance(1 << 61)
    vendor.feed(alert("last", "open", 10_000), received=10_000)
    headers = {name.rpartition(":h")[2] for name in vendor.device.state.rules if ":h" in name}
    assert headers == {str(number) for number in range(3, RESOLVED_KEPT + 3)}


@pytest.mark.parametrize(
    ("seconds", "sound"), [(86400, True), (86401, False), (-365 * 86400, True), (-365 * 86400 - 1, False)]
)
def test_an_impossible_time_is_replaced_by_the_receipt(seconds: float, sound: bool) -> None:
    (event,) = Vendor().feed(alert("a", seconds=seconds))
    assert event.alarm.triggered_at == T0 + timedelta(seconds=seconds if sound else 0)


def test_a_timeline_that_is_seen_late_begins_with_its_trigger() -> None:
    vendor = Vendor("wayscloud")
    first, second = vendor.feed(entry("1", "acknowledged", 60, actor="ops", note="n"))
    assert (first.event_type, first.actor, first.note, first.created_at) == ("triggered", "vendor", None, T0)
    assert (second.event_type, second.actor, second.note) == ("acknowledged", "ops", "n")
    assert second.metadata == {
        "severity": "warning", "event_id": "1", "vendor_alarm": "wayscloud:alarm:a1", "severity_original": "Urgent",
    }  # fmt: skip
    assert vendor.feed(entry("2", "acknowledged", 61)) == [], "it is so already"
    assert vendor.feed(entry("3", "note_added", 62)) == []
    assert kinds(vendor.feed(entry("4", "repeated", 63, occurrence_count=1))) == []
    (event,) = vendor.feed(entry("5", "repeated", 64, occurrence_count=4))
    assert event.alarm.occurrence_count == 4 and event.alarm.last_triggered_at == T0 + timedelta(seconds=64)
    (earlier,) = vendor.feed(entry("5b", "repeated", 62, occurrence_count=5))
    assert earlier.alarm.last_triggered_at == event.alarm.last_triggered_at, "it never goes back"
    assert kinds(vendor.feed(entry("6", "triggered", 65))) == ["repeated"]
    assert kinds(vendor.feed(entry("7", "resolved", 66))) == ["resolved"]
    assert kinds(vendor.feed(entry("8", "reopened", 67))) == ["reopened"]
    assert vendor.device.state.open_alarms == 1


def test_a_resolved_alarm_ends_no_earlier_than_it_began_and_is_not_snoozed() -> None:
    vendor = Vendor("wayscloud")
    vendor.feed(entry("1", "triggered"))
    (state,) = vendor.device.state.rules.values()
    assert state.alarm is not None
    state.alarm.snoozed_until = to_micros(T0 + timedelta(hours=1))
    (event,) = vendor.feed(entry("2", "resolved", -60))
    assert (event.alarm.resolved_at, event.created_at, event.alarm.snoozed_until) == (T0, T0, None)


def test_a_note_alone_opens_no_alarm() -> None:
    vendor = Vendor("wayscloud")
    assert vendor.feed(entry("1", "note_added")) == []
    assert vendor.device.state.rules == {}


def test_what_is_a_vendors_alarm_and_what_it_reads() -> None:
    assert is_vendor_alarm("ogmen", "alert") and not is_vendor_alarm("karcher", "alert")
    read = readers()["ogmen", "alert"](alert("a"), {"source": "s", "header": "h", "body": "b"})
    assert read == VendorAlert("ogmen:alert:s:h", "h", "h", "b", "major")
    late = readers()["wayscloud", "vendor_alarm"](entry("1", "resolved", 9), {"entry": {}, "alarm": {"id": "x"}})
    assert isinstance(late, Transition)
    assert late.alarm.triggered_at == to_micros(T0 + timedelta(seconds=9)), "without a time of its own, the event's"
    assert late.alarm.rule_id == "wayscloud:x"


@pytest.mark.parametrize(
    ("facts", "title", "expected"),
    [
        ({"rule_name": "Rule", "title": "Hot", "message": "42"}, "E", ("Rule", "Hot", "42")),
        ({"title": "Hot"}, "E", ("Hot", "Hot", "Hot")),
        ({"rule_name": "Rule"}, "E", ("Rule", "E", "E")),
        ({}, None, ("x", "x", "x")),
    ],
)
def test_an_alarm_of_wayscloud_shows_what_is_given_in_place_of_what_is_not(
    facts: dict[str, Any], title: str | None, expected: tuple[str, str, str]
) -> None:
    event = wire.Event("e", "vendor_alarm", T0, "", title=title)
    read = readers()["wayscloud", "vendor_alarm"](event, {"entry": {}, "alarm": {"id": "x", **facts}})
    assert isinstance(read, Transition)
    assert (read.alarm.rule_name, read.alarm.title, read.alarm.message) == expected


def test_alarms_that_fall_quiet_at_one_moment_resolve_in_order_of_their_identities() -> None:
    vendor = Vendor()
    vendor.feed(alert("1", "b"), alert("2", "c"), alert("3", "a"))
    made = vendor.alarms.advance(to_micros(T0) + QUIET + 1)
    assert [event.alarm.title for event in made] == ["a", "b", "c"]
