"""The plan, what it does to one device's messages, and the truth file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simulators.faults import (
    MALFORMATIONS,
    OVERSIZE_BYTES,
    DeviceFaults,
    DevicePlan,
    Fault,
    FaultSettings,
    Malformation,
    Target,
    plan,
    spoil,
)
from simulators.truth import TruthLog

METRICS = ("battery.level", "environment.temperature")
TARGETS = [Target(f"d{number}", METRICS) for number in range(12)]


def planted(plans: dict[str, DevicePlan]) -> list[Fault]:
    return [fault for device in plans.values() for fault in device.faults]


def test_a_plan_depends_on_seed_vendor_and_settings_alone() -> None:
    settings = FaultSettings()
    assert plan(1, "v", TARGETS, settings) == plan(1, "v", TARGETS, settings)
    assert plan(1, "v", TARGETS, settings) != plan(2, "v", TARGETS, settings)
    assert plan(1, "v", TARGETS, settings) != plan(1, "w", TARGETS, settings)


def test_everything_asked_for_is_planned_once() -> None:
    plans = plan(1, "v", TARGETS, FaultSettings(crossings=4, malformed=6, duplicates=3, late=2, disconnects=1))
    crossings = [device.crossing for device in plans.values() if device.crossing is not None]
    assert [crossing.threshold.metric for crossing in crossings].count("battery.level") == 2
    assert len(crossings) == 4
    kinds = [fault.kind for fault in planted(plans)]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "malformed": 6,
        "duplicate": 3,
        "late": 2,
        "disconnect": 1,
    }
    assert {fault.malformation for fault in planted(plans)} - {None} == set(MALFORMATIONS)


def test_a_device_that_crosses_has_no_other_fault() -> None:
    plans = plan(1, "v", TARGETS, FaultSettings(crossings=5, malformed=40))
    assert not any(device.crossing is not None and device.faults for device in plans.values())


def test_crossings_are_planted_only_on_devices_that_have_the_metric() -> None:
    targets = [Target("blind", ()), Target("warm", ("environment.temperature",))]
    plans = plan(1, "v", targets, FaultSettings(crossings=5))
    assert plans["blind"].crossing is None
    crossing = plans["warm"].crossing
    assert crossing is not None and crossing.threshold.metric == "environment.temperature"


def test_no_faults_is_no_faults() -> None:
    assert set(plan(1, "v", TARGETS, FaultSettings.none()).values()) == {DevicePlan()}


def carried_out(settings: FaultSettings) -> tuple[DeviceFaults, list[dict[str, Any]]]:
    truth: list[dict[str, Any]] = []
    target = Target("d", ("battery.level",))
    return DeviceFaults("v", "v:d", plan(1, "v", [target], settings)["d"], truth.append), truth


def test_a_crossing_starts_lasts_and_recovers_once() -> None:
    settings = FaultSettings(crossings=1, start_after=10, crossing_seconds=6, crossing_messages=4)
    device, truth = carried_out(settings)
    assert device.applied("battery.level", 80, 0) == 80  # no contact yet
    device.contact(100)
    device.contact(105)  # a second socket does not begin again
    shown = [device.applied("battery.level", 80, 100 + second) for second in range(40)]
    assert shown == [80] * 10 + [8] * 6 + [80] * 24
    assert device.applied("environment.temperature", 20, 111) == 20
    assert [line["detail"]["phase"] for line in truth] == ["started", "recovered"]
    assert truth[0]["at"] == "1970-01-01T00:01:50.000Z"
    assert truth[1]["detail"] == {
        "phase": "recovered",
        "metric": "battery.level",
        "operator": "lt",
        "threshold": 15.0,
        "value": 80,
        "messages": 6,
    }


def test_a_crossing_lasts_until_enough_messages_have_shown_it() -> None:
    device, truth = carried_out(FaultSettings(crossings=1, start_after=0, crossing_seconds=6, crossing_messages=4))
    device.contact(0)
    assert [device.applied("battery.level", 80, minute * 60) for minute in range(6)] == [8, 8, 8, 8, 80, 80]
    assert truth[-1]["detail"]["messages"] == 4


def test_faults_are_due_once_and_counted_from_the_first_contact() -> None:
    faults = (Fault("duplicate", 5), Fault("late", 7))
    device = DeviceFaults("v", "v:d", DevicePlan(None, faults), lambda line: None)
    assert device.due(1000) == []
    device.contact(1000)
    assert device.due(1004) == []
    assert device.due(1006) == [faults[0]]
    assert device.due(1008) == [faults[1]]
    assert device.due(9999) == []


@pytest.mark.parametrize("malformation", MALFORMATIONS)
def test_each_malformation_is_bad_in_its_own_way(malformation: Malformation) -> None:
    good = {"a": 1, "b": "Grüße"}
    payload = spoil(malformation, good, {"a": "one"}, {"b": 1})
    match malformation:
        case "wrong_type":
            assert json.loads(payload) == {"a": "one"}
        case "missing_field":
            assert json.loads(payload) == {"b": 1}
        case "unknown_field":
            assert json.loads(payload).items() > good.items()
        case "invalid_utf8":
            with pytest.raises(UnicodeDecodeError):
                payload.decode()
        case _:
            payload.decode(errors="ignore")
            with pytest.raises(json.JSONDecodeError):
                json.loads(payload.decode(errors="ignore"))
    assert (len(payload) == OVERSIZE_BYTES) == (malformation == "oversize")


def test_the_truth_file_is_appended_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "truth.jsonl"
    for number in range(2):
        with TruthLog(path) as truth:
            truth.record({"kind": "late", "number": number})
            # Readable before it is closed: a demo reads it while it runs.
            assert json.loads(path.read_text().splitlines()[-1])["number"] == number
            assert truth.counts == {"late": 1}
    assert len(path.read_text().splitlines()) == 2
