"""The alarms of a partition's devices: each is found when something is due, and its state written when it changed."""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis
from hypothesis import strategies as st

from schemas import wire
from schemas.timestamps import NEVER
from schemas.topics import ALARM_STATE, READINGS
from streams.detect.device import Profile, TrackedDevice
from streams.detect.skipped import SkippedCounts
from streams.detect.state import AlarmFacts, DeviceState, RuleState
from streams.detect.tracked_alarms import TrackedAlarms


@dataclass
class Silent:
    """Alarms of which nothing is ever triggered."""

    device: TrackedDevice

    def advance(self, until: int) -> list[wire.AlarmEvent]:
        raise AssertionError("nobody asks for it here")


def new(device_id: str, state: DeviceState) -> Silent:
    profile = Profile(device_id, device_id.partition(":")[0])
    return Silent(TrackedDevice(state, profile, READINGS, 0, SkippedCounts()))


def tracked() -> TrackedAlarms[Silent]:
    return TrackedAlarms("in", new)


OPEN = RuleState(alarm=AlarmFacts(1, 1, "Hot", "critical", "t", "m", None))


DEVICES = st.sampled_from(["a:1", "a:2", "b:1"])


@hypothesis.given(st.lists(st.tuples(DEVICES, st.integers(0, 50)), max_size=12), st.integers(0, 50))
def test_who_is_due_is_found_once_in_order_and_nobody_else(dues: list[tuple[str, int]], before: int) -> None:
    alarms = tracked()
    for device_id, due in dues:
        each = alarms.find(device_id) or new(device_id, DeviceState())
        alarms.keep(each)
        each.device.due = due
        alarms.schedule(each)
    for vendor in ("a", "b"):
        earliest = {d: min(at for device, at in dues if device == d) for d, _ in dues if d.startswith(vendor)}
        expected = sorted((at, d) for d, at in earliest.items() if at < before)
        assert alarms.is_due(vendor, before) == bool(expected)
        found = []
        while (each := alarms.next_due(vendor, before)) is not None:
            found.append(each.device.id)
        assert found == [device_id for _, device_id in expected]


def test_looking_at_a_device_makes_it_due_before_any_moment() -> None:
    alarms = tracked()
    each = alarms.of("a:1")
    assert alarms.next_due("a", NEVER) is each
    each.device.due = NEVER
    alarms.look_at(each)
    assert alarms.is_due("a", 1) and not alarms.is_due("a", 0)
    assert alarms.next_due("a", 1) is each and alarms.next_due("a", 1) is None


def test_changed_states_are_written_once_and_restored_as_they_were() -> None:
    alarms = tracked()
    for device_id, at in (("b:1", 2), ("a:1", 1)):
        alarms.of(device_id).device.state.offset = at
        alarms.change(device_id)
        alarms.change(device_id)
    assert alarms.has_changes
    written = alarms.written()
    assert [(d, o.topic, o.key) for d, o in written] == [
        ("a:1", ALARM_STATE, b"in/a:1"),
        ("b:1", ALARM_STATE, b"in/b:1"),
    ]
    assert not alarms.has_changes and alarms.written() == []
    restored = tracked()
    for _, output in written:
        kept = restored.restore(output.key or b"", output.value)
        assert kept is not None and kept.device.state.offset in (1, 2)
    assert list(restored) == ["a:1", "b:1"] and len(restored) == 2 and restored["b:1"].device.state.offset == 2
    assert restored.restore(b"other/a:1", written[0][1].value) is None, "of another topic"
    assert restored.restore(b"in/a:1", None) is None
    assert list(restored) == ["b:1"] and restored.find("a:1") is None


def test_open_alarms_are_counted_over_what_is_restored() -> None:
    """Each state replaces the one before, so that nothing is counted twice."""
    alarms = tracked()
    each = alarms.of("a:1", DeviceState(rules={"hot": OPEN}))
    alarms.change("a:1")
    [(_, output)] = alarms.written()
    restored = tracked()
    for _ in range(2):
        restored.restore(b"in/a:1", output.value)
    assert restored.open_alarms == each.device.state.open_alarms == 1
    restored.restore(b"in/a:1", None)
    assert restored.open_alarms == 0


def test_a_device_of_which_nothing_is_kept_is_deleted_and_not_found_any_more() -> None:
    alarms = tracked()
    each = alarms.of("a:1")
    alarms.look_at(each)
    alarms.change("a:1")
    [(device_id, output)] = alarms.written()
    assert (device_id, output.key, output.value) == ("a:1", b"in/a:1", None)
    assert alarms.find("a:1") is None and not alarms and alarms.next_due("a", NEVER) is None
    alarms.keep(each)
    assert alarms.of("a:1") is each
