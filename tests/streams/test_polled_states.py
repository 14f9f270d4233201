"""Polled states: each fact is emitted once, however often it is polled, over restarts and in any batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from schemas import wire
from schemas.envelope import Envelope, message_id
from schemas.timestamps import format_iso
from schemas.topics import NORMALISE_STATE, POLLED_STATE, READINGS, raw_topic
from streams.engine.step import Output
from streams.normalise.operator import NormaliseOperator
from streams.normalise.polled_states import PolledStateFilter
from tests.support.normalising import normalise_step, of, raw, restarted
from tests.support.records import ConsumedRecord

T0 = datetime(2026, 3, 16, tzinfo=UTC)
DAY = 86_400
STATE_TOPICS = (NORMALISE_STATE, POLLED_STATE)


def poll(kind: str, answer: Any, seconds: float, device: str = "one") -> ConsumedRecord:
    vendor = kind.partition(".")[0]
    received, body = T0 + timedelta(seconds=seconds), json.dumps(answer).encode()
    envelope = Envelope(message_id([body, str(seconds)]), kind, "t", f"{vendor}:{device}", received, body)
    return raw(envelope, int(seconds), raw_topic(vendor))


def emitted(outputs: Sequence[Output]) -> list[list[wire.Reading]]:
    return [wire.decode_observation(output.value or b"").readings for output in of(outputs, READINGS)]


def metrics(outputs: Sequence[Output]) -> list[list[str]]:
    return [[reading.metric for reading in readings] for readings in emitted(outputs)]


def status(contact: float, level: object = "0.5", at: float = 0) -> dict[str, Any]:
    def iso(seconds: float) -> str:
        return format_iso(T0 + timedelta(seconds=seconds))

    states = [{"name": "batteryChargeLevel", "value": level, "timestamp": iso(at)}]
    return {"lastContact": iso(contact), "states": [*states, {"name": "routes", "value": "[1]", "timestamp": iso(0)}]}


def test_a_machine_that_is_off_adds_nothing_for_days_and_over_restarts() -> None:
    step = normalise_step(raw_topic("karcher"))
    outputs = step.process([poll("karcher.status", status(0), 0)], 0)
    assert metrics(outputs) == [["connection.last_contact", "battery.level", "job.routes"]]
    for seconds in (60, 3600, DAY + 1, 30 * DAY):
        assert metrics(step.process([poll("karcher.status", status(0), seconds)], 0)) == []
        step = restarted(step, outputs)
        assert metrics(step.process([poll("karcher.status", status(0), seconds + 1)], 0)) == []


def test_what_is_new_in_a_poll_is_emitted_and_only_that() -> None:
    step = normalise_step(raw_topic("karcher"))
    step.process([poll("karcher.status", status(0), 0)], 0)
    for second, answer, expected in (
        (1, status(1), ["connection.last_contact"]),  # heard, with nothing new to say
        (2, status(1, at=2), ["battery.level"]),  # the same value of another time is another fact
        (3, status(1, "0.6", at=2), ["battery.level"]),  # another value of the same time, too
        (4, status(4, "0.5", at=4), ["connection.last_contact", "battery.level"]),
    ):
        assert metrics(step.process([poll("karcher.status", answer, second)], 0)) == [expected]


def test_a_cloud_whose_replicas_disagree_tells_no_fact_twice() -> None:
    step = normalise_step(raw_topic("karcher"))
    answers = [status(number % 3, str(number % 3 / 10), at=number % 3) for number in range(12)]
    outputs = step.process([poll("karcher.status", answer, second) for second, answer in enumerate(answers)], 0)
    assert [len(readings) for readings in emitted(outputs)] == [3, 2, 2]


def test_two_fields_that_are_one_metric_do_not_repeat_each_other() -> None:
    states = [
        {"name": name, "value": value, "timestamp": "2026-03-16T00:00:00Z"}
        for name, value in (("machineOperatingDuration", "PT1H"), ("machineOperatingHours", 3601))
    ]
    batch = [poll("karcher.status", {"states": states[:: 1 - 2 * (n % 2)]}, n) for n in range(4)]
    assert [len(readings) for readings in emitted(normalise_step().process(batch, 0))] == [2]


STATES = {
    "ogmen.battery.log": {"battery_level": 80, "last_charging_time": "2026-03-15T00:00:00Z"},
    "ogmen.storage.log": {"total_storage_gb": 128, "used_storage_gb": 3.5},
    "ogmen.treat_bin.log": {"treat_bin_level": 50, "last_robot_synced_time": "2026-03-15T00:00:00Z"},
    "wayscloud.device": {"battery_level": 87, "is_online": True, "last_seen": "2026-03-15T00:00:00Z"},
    "wayscloud.health": {"health_score": 92, "checked_at": "2026-03-15T00:00:00Z"},
}
TIMED = ("ogmen.treat_bin.log", "wayscloud.health")


@pytest.mark.parametrize("kind", STATES)
def test_any_polled_state_is_emitted_when_it_changes(kind: str) -> None:
    answer: dict[str, Any] = STATES[kind]
    name, value = next(iter(answer.items()))
    changed = {**answer, name: value - 1}
    batch = [poll(kind, state, second) for second, state in enumerate((answer, answer, changed, changed, answer))]
    whole, *rest = emitted(normalise_step(raw_topic(kind.partition(".")[0])).process(batch, 0))
    assert value in [reading.value_number for reading in whole]
    # Without a time of its own, a value that is back is a change; with the same time, it is the same fact.
    back = [] if kind in TIMED else [value]
    assert [[reading.value_number for reading in readings] for readings in rest] == [[v] for v in (value - 1, *back)]


def test_states_of_one_metric_from_two_answers_are_kept_apart() -> None:
    answers = (("ogmen.volume.log", {"volume": 10}), ("ogmen.device_settings.log", {"volume": 20}))
    batch = [poll(*answers[second % 2], second) for second in range(6)]
    assert len(emitted(normalise_step(raw_topic("ogmen")).process(batch, 0))) == 2


def test_entries_of_logs_and_what_devices_send_are_no_states() -> None:
    entry = {"log_id": 1, "recorded_at": "2026-03-16T00:00:00Z", "signal_strength": -50}
    later = {**entry, "log_id": 2}
    step = normalise_step(raw_topic("ogmen"))
    assert (
        len(emitted(step.process([poll("ogmen.connectivity.log", e, n) for n, e in enumerate((entry, later))], 0))) == 2
    )
    point = {"type": "datapoints", "data": {"robotStatus": "Idle"}, "timestamp": 1773619200000}
    batch = [poll("karcher.datapoints", point, second) for second in (1, 2)]
    assert len(emitted(normalise_step().process(batch, 0))) == 2


def test_left_out_states_are_counted() -> None:
    labels = {"stage": "normalise", "vendor": "karcher", "reason": "unchanged"}
    before = REGISTRY.get_sample_value("fleetlake_left_out_total", labels) or 0
    normalise_step().process([poll("karcher.status", status(0), second) for second in range(3)], 0)
    assert REGISTRY.get_sample_value("fleetlake_left_out_total", labels) == before + 6


def test_the_number_of_devices_and_of_facts_is_bounded_and_so_is_the_topic() -> None:
    states = PolledStateFilter(max_devices=3)

    def reading(metric: str, value: float) -> wire.Reading:
        return wire.Reading(metric, T0, value)

    for number in range(5):
        assert states.new_readings(f"karcher:{number}", "t", [reading("m", 1)])
    changed = dict(states.take_changed())
    assert [device for device, packed in changed.items() if packed is None] == ["karcher:0", "karcher:1"]
    many = [reading(f"m{number}", 1) for number in range(10_000)]
    states.new_readings("karcher:4", "t", many)
    ((_, packed),) = states.take_changed()
    assert packed is not None and len(packed) < 70_000
    assert states.new_readings("karcher:4", "t", many[-1000:]) == []


def test_state_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 9"):
        PolledStateFilter().restore("karcher:1", b"\x09rest")


polls = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3))


@settings(max_examples=60, deadline=None)
@given(st.lists(polls, max_size=25), st.data())
def test_batching_and_restarts_change_nothing(answers: list[tuple[int, int, int]], data: st.DataObject) -> None:
    batch = [
        poll("karcher.status", status(contact, level / 10, at=contact), second, device=str(device))
        for second, (device, contact, level) in enumerate(answers)
    ]
    topic = raw_topic("karcher")
    whole = [o for o in normalise_step(topic).process(batch, 0) if o.topic not in STATE_TOPICS]
    split: list[Output] = []
    written: list[Output] = []
    step: NormaliseOperator = normalise_step(topic)
    start = 0
    while start < len(batch):
        end = data.draw(st.integers(start + 1, len(batch)))
        outputs = step.process(batch[start:end], 0)
        written += outputs
        split += [o for o in outputs if o.topic not in STATE_TOPICS]
        step, start = restarted(step, written), end
    assert split == whole
