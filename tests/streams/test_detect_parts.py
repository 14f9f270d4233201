"""The parts of the alarm operators, each on its own."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from schemas import wire
from schemas.topics import (
    ALARM_ACTIONS,
    COVERAGE,
    DEAD_LETTER,
    DEVICES,
    INHIBITORS,
    MAINTENANCE,
    READINGS,
    RULES,
    WATERMARKS,
)
from streams.detect.device import EvaluationContext, Profile, TrackedDevice
from streams.detect.due_queue import DueQueue
from streams.detect.inhibitor_log import InhibitorLog
from streams.detect.inhibitors import SPANS_KEPT
from streams.detect.maintenance_windows import MaintenanceWindows
from streams.detect.operators import OPERATORS
from streams.detect.options import DetectOptions
from streams.detect.registry import Registry
from streams.detect.rule_book import RuleBook
from streams.detect.rule_operator import RuleOperator
from streams.detect.rules_intake import RulesIntake
from streams.detect.schedules import CompiledWindow
from streams.detect.state import DeviceState, RuleState
from streams.detect.unusable_records import UnusableRecords
from streams.detect.watermarks import VendorWatermark, Watermarks
from streams.normalise import Options
from tests.support.detecting import DEVICE, at, device, millis, record, rule, window
from tests.support.records import ConsumedRecord

HOT: dict[str, Any] = {"rule_type": "threshold", "config": {"metric": "t", "operator": "gt", "value": 40}}


# -- watermarks


def test_a_watermark_holds_once_the_record_it_names_has_been_read() -> None:
    mark = VendorWatermark()
    mark.add(100, 7)
    assert mark.reached == -1
    mark.read_offset = 6
    mark.settle()
    assert mark.reached == -1
    mark.read_offset = 7
    mark.settle()
    assert mark.reached == 100


def test_of_the_watermarks_that_wait_the_oldest_and_the_newest_are_kept() -> None:
    mark = VendorWatermark()
    for number in range(1, 5):
        mark.add(100 * number, number)
    mark.read_offset = 1
    mark.settle()
    assert mark.reached == 100, "the oldest is not put off by later ones"
    mark.read_offset = 3
    mark.settle()
    assert mark.reached == 100, "those in between were dropped"
    mark.read_offset = 4
    mark.settle()
    assert (mark.reached, mark.newest_offset) == (400, 4)


def test_an_older_watermark_takes_nothing_back() -> None:
    mark = VendorWatermark()
    mark.add(100, -1)
    mark.add(50, -1)
    assert mark.reached == 100


def test_what_has_been_read_is_kept_and_restored() -> None:
    marks = Watermarks(["a", "b"])
    assert marks.encoded() is None
    marks.read("a", 5)
    marks.read("nobody", 5)
    value = marks.encoded()
    assert value is not None and msgspec.msgpack.decode(value) == {"a": 5}
    assert marks.encoded() is None, "written once"
    marks.read("a", 5)
    assert marks.encoded() is None, "nothing has changed"
    again = Watermarks(["a", "b"])
    again.restore(value)
    again.add("a", 100, 5)
    assert (again.reached("a"), again.reached("b"), again.all_reached) == (100, -1, -1)
    again.add("b", 70, -1)
    assert again.all_reached == 70


def test_what_is_skipped_is_what_the_watermarks_named_when_it_was_marked() -> None:
    marks = Watermarks(["a"])
    marks.add("a", 100, 5)
    mark = marks.skip_mark()
    marks.add("a", 200, 9)
    marks.skip(mark)
    assert dict(marks.settled()) == {"a": 100}
    marks.read("a", 9)
    marks.skip(mark)
    assert dict(marks.settled()) == {"a": 200}, "skipping never goes back"


# -- due queue


def test_devices_come_out_in_order_of_time_each_once() -> None:
    queue = DueQueue()
    queue.schedule("v:late", 30)
    queue.schedule("v:early", 10)
    queue.schedule("v:late", 20)
    queue.schedule("v:late", 25)
    assert not queue.is_due("v", 10)
    assert queue.is_due("v", 11)
    assert [queue.pop("v", 31), queue.pop("v", 31), queue.pop("v", 31)] == ["v:early", "v:late", None]


def test_a_device_is_due_before_its_moment_only_when_that_has_passed() -> None:
    queue = DueQueue()
    queue.schedule("v:a", 10)
    assert queue.pop("v", 10) is None, "what is due at 10 is not due before 10"
    assert queue.pop("other", 99) is None
    queue.discard("v:a")
    assert queue.pop("v", 99) is None
    queue.schedule("v:a", 40)
    assert queue.pop("v", 99) == "v:a"


# -- registry


def test_a_profile_joins_registry_and_configuration() -> None:
    options = DetectOptions(
        groups={"plant": ["wayscloud:a*"], "none": ["karcher:*"]},
        profiles={"p": [DEVICE]},
        attributes={"site": {"oslo": ["wayscloud:*"]}},
    )
    registry = Registry(options, MaintenanceWindows())
    given = {"tags": ["x", "", 7], "group_id": "g", "profile": "q", "site": "bergen", "floor": 2}
    assert registry.take(device(0, DEVICE, model="M", firmware_version="N", attributes=given)) == DEVICE
    profile = registry.profile(DEVICE)
    assert profile.scopes == (
        ("vendor", "wayscloud"),
        ("device", DEVICE),
        ("group", "plant"),
        ("profile", "p"),
        ("model", "M"),
        ("group", "g"),
        ("group", "x"),
        ("profile", "q"),
    )
    assert profile.attributes["site"] == "oslo", "the configuration takes precedence"
    assert (profile.attributes["firmware_version"], profile.attributes["floor"]) == ("N", 2)
    registry.take(ConsumedRecord(DEVICES, 1, DEVICE.encode(), None))
    assert ("model", "M") not in registry.profile(DEVICE).scopes


def test_a_profile_has_the_windows_of_its_scopes_once_it_is_made_anew() -> None:
    windows = MaintenanceWindows((CompiledWindow(("device", "wayscloud:b"), 1, 2),))
    registry = Registry(DetectOptions(), windows)
    assert registry.profile(DEVICE).maintenance == ()
    windows.take(window(0, 0, 0, 10, scope_type="device", scope=DEVICE))
    registry.forget_profiles()
    assert [each.scope for each in registry.profile(DEVICE).maintenance] == [("device", DEVICE)]


@pytest.mark.parametrize(
    ("value", "micros"), [(2, 2_000_000), (0.5, 500_000), (0, None), (-1, None), (True, None), ("5", None)]
)
def test_the_reporting_interval_is_a_positive_number(value: object, micros: int | None) -> None:
    registry = Registry(DetectOptions(), MaintenanceWindows())
    registry.take(device(0, DEVICE, attributes={"reporting_interval_seconds": value}))
    assert registry.profile(DEVICE).reporting_interval == micros


# -- maintenance windows


def test_a_window_is_taken_changed_and_deleted() -> None:
    windows = MaintenanceWindows()
    added = window(0, 0, 5, 10, scope_type="device", scope=DEVICE)
    assert windows.take(added)
    assert not windows.take(added), "nothing has changed"
    (one,) = windows.all
    assert (one.starts, one.ends) == (millis(5) * 1000, millis(10) * 1000)
    assert windows.take(ConsumedRecord(MAINTENANCE, 1, b"w", None))
    assert not windows.take(ConsumedRecord(MAINTENANCE, 2, b"w", None))
    assert windows.all == ()
    with pytest.raises(ValueError, match="JSON"):
        windows.take(ConsumedRecord(MAINTENANCE, 3, b"w", b"rubbish"))


def test_a_window_is_bounded_by_its_creation_and_its_cancellation() -> None:
    windows = MaintenanceWindows()
    windows.take(window(0, 7, 5, 10, scope_type="device", scope=DEVICE, cancelled_at=at(9)))
    (one,) = windows.all
    assert (one.starts, one.ends) == (millis(7) * 1000, millis(9) * 1000)
    assert one.silences("any", one.starts) and not one.silences("any", one.ends)
    assert windows.take(window(1, 7, 5, 10, scope_type="device", scope=DEVICE, cancelled_at=at(4))), "before it began"
    assert windows.all == ()


def test_windows_of_different_names_are_kept_and_deleted_apart() -> None:
    windows = MaintenanceWindows()
    value = window(0, 0, 5, 10, scope_type="device", scope=DEVICE).value
    for offset, name in enumerate((b"one", b"two")):
        assert windows.take(ConsumedRecord(MAINTENANCE, offset, name, value))
    assert len(windows.all) == 2
    assert windows.take(ConsumedRecord(MAINTENANCE, 2, b"one", None))
    assert len(windows.all) == 1
    assert not windows.take(ConsumedRecord(MAINTENANCE, 3, b"two", value)), "it is still there"


# -- side inputs


@pytest.mark.parametrize("operator", OPERATORS.values())
def test_what_no_device_is_the_key_of_is_read_whole_and_all_else_by_the_devices_partition(operator: Any) -> None:
    """Else rules, windows and inhibitors of other partitions would be missing, or every worker reads everything."""
    listening = operator.input_topic == COVERAGE
    whole = {RULES, MAINTENANCE, INHIBITORS} | (set() if listening else {COVERAGE})
    for each in operator.side_inputs:
        assert each.all_partitions is (each.topic in whole), each
        assert each.from_end is (each.topic == WATERMARKS), each
        assert each.is_ahead is (each.topic == COVERAGE and not listening), each
    topics = [each.topic for each in operator.side_inputs]
    assert len(set(topics)) == len(topics) and {ALARM_ACTIONS, WATERMARKS, COVERAGE} <= set(topics)


# -- rules intake


def test_a_rule_is_in_force_since_it_was_made_and_a_change_since_it_was_made_known() -> None:
    intake = RulesIntake({})
    intake.take(rule(0, 100, "hot", **HOT, created_at=at(40).isoformat()))
    since = millis(40) * 1000
    assert [len(intake.book.at(moment)) for moment in (since - 1, since)] == [0, 1]
    intake.take(rule(1, 200, "hot", **HOT, is_enabled=False))
    gone = millis(200) * 1000
    assert [len(intake.book.at(moment)) for moment in (gone - 1, gone)] == [1, 0]


@pytest.mark.parametrize(("updated", "since"), [(140, 140), (139.9, 200), (201, 200)])
def test_the_time_of_an_update_is_believed_within_a_minute_before_its_record(updated: float, since: float) -> None:
    intake = RulesIntake({})
    intake.take(rule(0, 0, "hot", **HOT))
    intake.take(rule(1, 200, "hot", **HOT, is_enabled=False, updated_at=at(updated).isoformat()))
    moment = millis(since) * 1000
    assert [len(intake.book.at(each)) for each in (moment - 1, moment)] == [1, 0]


def test_what_cannot_be_in_force_is_refused_and_what_is_no_rule_raises() -> None:
    intake = RulesIntake({})
    intake.take(rule(0, 0, "bad", rule_type="threshold", config={}))
    wrong_unit = {**HOT, "config": {**HOT["config"], "metric": "environment.temperature", "unit": "m"}}
    intake.take(rule(1, 0, "unit", **wrong_unit))
    assert [each.rule_id for each in intake.refused] == ["bad", "unit"]
    with pytest.raises(ValueError, match="has the id 'a' and the key 'b'"):
        intake.take(ConsumedRecord(RULES, 2, b"b", json.dumps({"id": "a", "name": "a", **HOT}).encode()))


def test_a_change_is_seen_once_and_a_circle_is_refused_once() -> None:
    intake = RulesIntake({})
    assert intake.changed() is None
    for number, (name, other) in enumerate((("a", "b"), ("b", "a"))):
        intake.take(rule(number, 0, name, **HOT, inhibited_by=[{"rule": other, "same": "site"}]))
    rules = intake.changed()
    assert rules is not None and rules.circular == {"a", "b"}
    assert [each.rule_id for each in intake.refused] == ["a", "b"]
    assert intake.changed() is None
    intake.take(rule(2, 0, "c", **HOT))
    assert intake.changed() is not None
    assert len(intake.refused) == 2


# -- records that cannot be applied


@pytest.mark.parametrize(
    ("error", "reason"), [(msgspec.DecodeError("x"), "not_a_record"), (ZeroDivisionError(), "internal_error")]
)
def test_an_unusable_record_is_a_dead_letter_with_its_origin(error: Exception, reason: str) -> None:
    unusable = UnusableRecords(Options())
    output = unusable.dead_letter(ConsumedRecord(READINGS, 7, b"k", b"rubbish", partition=3), error, "karcher")
    letter = wire.decode_dead_letter(output.value or b"")
    assert (output.topic, output.key) == (DEAD_LETTER, b"k")
    assert [problem.reason for problem in letter.problems] == [reason]
    assert letter.origin == wire.Origin(READINGS, 3, 7)
    assert (letter.payload, letter.payload_bytes) == ("rubbish", 7)


def test_an_unusable_record_without_key_and_value_is_an_empty_dead_letter() -> None:
    record = ConsumedRecord(READINGS, 7, None, None)
    output = UnusableRecords(Options()).dead_letter(record, msgspec.DecodeError("x"), "karcher")
    letter = wire.decode_dead_letter(output.value or b"")
    assert (output.key, letter.payload, letter.payload_bytes) == (b"", "", 0)


def test_a_bug_is_logged_once_and_a_foreign_record_never(caplog: pytest.LogCaptureFixture) -> None:
    unusable = UnusableRecords(Options())
    for error in (msgspec.DecodeError("x"), ZeroDivisionError(), ZeroDivisionError()):
        unusable.dead_letter(ConsumedRecord(READINGS, 7, b"k", b"rubbish"), error, "karcher")
    (logged,) = caplog.records
    assert logged.message == f"a record of {READINGS} could not be applied: a bug"
    assert logged.exc_info is not None and logged.exc_info[0] is ZeroDivisionError


# -- the operator of rules


def test_profiles_are_made_anew_when_a_window_changes_and_only_then() -> None:
    operator = RuleOperator(0, DetectOptions(), [])
    operator.process_side_input(rule(0, 0, "hot", **HOT))
    operator.process([record(0, 1, {"t": 50})], 0)
    profiles = []
    for number in range(3):
        if number == 1:
            operator.process_side_input(window(0, 0, 0, 9, scope_type="device", scope=DEVICE))
        operator.process([record(1 + number, 2 + number, {"t": 50})], 0)
        alarms = operator._alarms.find(DEVICE)
        assert alarms is not None
        profiles.append(alarms.device.profile)
        operator.process([], 0)
        assert alarms.device.profile is profiles[-1]
    assert [len(each.maintenance) for each in profiles] == [0, 1, 1]


# -- the log of inhibitors


def test_an_inhibitors_spans_are_the_latest_ones_and_each_change_is_reported_once() -> None:
    tracked = TrackedDevice(DeviceState(), Profile(DEVICE, "wayscloud"), READINGS)
    log, state = InhibitorLog(tracked, EvaluationContext(RuleBook())), RuleState()
    for moment in range(2 * SPANS_KEPT + 10):
        for _ in range(2):  # nothing changes the second time
            log.note_rule("r", state, moment % 2 == 0, moment)
        assert len(log.unreported) == moment + 1 and len(state.open_spans) <= SPANS_KEPT
    last = 2 * SPANS_KEPT + 8
    assert state.open_spans == [(since, since + 1) for since in range(last - 2 * SPANS_KEPT + 2, last + 1, 2)]
    assert log.unreported[-1].spans == state.open_spans and tracked.changed
