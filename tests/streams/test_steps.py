"""The operators: duplicates, state over restarts, bad input, and that batching changes nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.metrics import DEDUPE_CUT
from schemas import records, wire
from schemas.envelope import Envelope, message_id
from schemas.topics import (
    ALARM_STATE,
    ALARMS,
    DEAD_LETTER,
    EVENTS,
    NORMALISE_STATE,
    READINGS,
    raw_topic,
)
from streams.detect.options import DetectOptions
from streams.detect.rule_compiler import DEFAULT_RULES, load_rules
from streams.detect.rule_operator import RuleOperator
from streams.detect.rules import RuleSet
from streams.detect.vendor_alarm_operator import VendorAlarmOperator
from streams.engine.step import MAX_RECORD_BYTES, Output, record_bytes
from streams.normalise import Options
from streams.normalise import operator as steps
from streams.normalise.duplicates import BYTES_PER_ID, DuplicateFilter, SeenIds, message_digest, second_of
from streams.normalise.operator import NormaliseOperator
from tests.support.normalising import RAW, normalise_step, of, raw, restarted
from tests.support.records import ConsumedRecord

T0 = datetime(2026, 3, 16, tzinfo=UTC)
DEVICE = "karcher:1.454-500.0/002005"


def location(seconds: float, x: int = 1000, received: float | None = None, **fields: Any) -> Envelope:
    at = T0 + timedelta(seconds=seconds)
    stamp = int(at.timestamp() * 1000)
    body = json.dumps({"type": "datapoints", "data": {"location": {"coordinateX": x}}, "timestamp": stamp}).encode()
    got = at if received is None else T0 + timedelta(seconds=received)
    known = {"id": message_id([DEVICE, body]), "type": "karcher.datapoints", "source": "t", "device_id": DEVICE}
    return Envelope(**(known | {"received_at": got, "data": body} | fields))


def mqtt(payload: bytes, seconds: float, dup: bool = False, name: str | None = None) -> Envelope:
    at = T0 + timedelta(seconds=seconds)
    attributes = {"mqtttopic": "devices/s/sensors/door_open", "mqttdup": "1" if dup else "0"}
    unique = name or message_id([payload, str(seconds), str(dup)])
    return Envelope(unique, "wayscloud.publish", "wayscloud/mqtt", "wayscloud:s", at, payload, attributes=attributes)


# -- normalise


def test_a_message_becomes_an_observation_with_key_origin_and_id() -> None:
    outputs = normalise_step().process([raw(location(0), 41)], 0)
    (made,) = of(outputs, READINGS)
    observation = records.Observation.model_validate_json(made.value or b"")
    assert made.key == DEVICE.encode()
    assert dict(made.headers) == {"content-type": b"application/json", "ce_id": observation.id.encode()}
    assert (observation.origin.topic, observation.origin.partition, observation.origin.offset) == (RAW, 0, 41)
    assert observation.readings[0].value_number == 1.0


@pytest.mark.parametrize(("key", "expected"), [(b"own", b"own"), (None, location(0).key)])
def test_what_is_made_of_a_record_has_its_key_and_else_that_of_its_device(key: bytes | None, expected: bytes) -> None:
    (made,) = of(normalise_step().process([replace(raw(location(0), 0), key=key)], 0), READINGS)
    assert made.key == expected


def test_a_duplicate_is_dropped_in_the_batch_later_and_after_a_restart() -> None:
    step = normalise_step()
    outputs = step.process([raw(location(0), 0), raw(location(0), 1)], 0)
    assert len(of(outputs, READINGS)) == 1
    assert of(step.process([raw(location(0, received=60), 2)], 0), READINGS) == []
    assert of(restarted(step, outputs).process([raw(location(0, received=60), 2)], 0), READINGS) == []


def progress(step: NormaliseOperator) -> tuple[int, int]:
    emitted = step.source_progress.emitted
    return emitted[READINGS], emitted[EVENTS]


def test_an_operator_knows_which_raw_records_it_emitted_also_after_a_restart() -> None:
    step = normalise_step()
    assert progress(step) == (-1, -1)
    outputs = step.process([raw(location(0), 41), raw(location(0), 42)], 0)
    assert progress(step) == (41, -1), "the duplicate gave nothing"
    report = b'{"reportId":"r","finishedAt":"2026-03-16T00:00:00Z"}'
    outputs += step.process([raw(location(1, type="karcher.cleaning.report", data=report, id="r"), 43)], 0)
    assert progress(step) == (41, 43)
    assert progress(restarted(step, outputs)) == (41, 43)


def test_a_message_put_back_on_purpose_is_no_duplicate_but_its_own_duplicate_is() -> None:
    step = normalise_step()
    step.process([raw(location(0), 0)], 0)
    replayed = location(0, attributes={"replay": "2026-03-17"})
    assert len(of(step.process([raw(replayed, 1), raw(replayed, 2)], 0), READINGS)) == 1


def test_windows_end_after_ten_minutes_and_a_day() -> None:
    step = normalise_step()
    step.process([raw(location(0), 0)], 0)
    assert of(step.process([raw(location(0, received=599.9), 1)], 0), READINGS) == []
    assert len(of(step.process([raw(location(0, received=602), 2)], 0), READINGS)) == 1
    report = b'{"reportId":"r","finishedAt":"2026-03-16T00:00:00Z"}'

    def report_at(seconds: float) -> Envelope:
        return location(0, received=seconds, type="karcher.cleaning.report", data=report, id="r")

    step.process([raw(report_at(0), 3)], 0)
    assert of(step.process([raw(report_at(24 * 3600 - 1), 4)], 0), EVENTS) == []
    assert len(of(step.process([raw(report_at(24 * 3600 + 2), 5)], 0), EVENTS)) == 1


def test_a_changed_entry_is_a_new_version_and_the_same_one_sent_twice_is_not() -> None:
    step = normalise_step(raw_topic("ogmen"))

    def entry(name: str, resolved: bool) -> ConsumedRecord:
        body = json.dumps({"log_id": 1, "recorded_at": "2026-03-16T00:00:00Z", "resolved": resolved}).encode()
        return raw(Envelope(name, "ogmen.activity.log", "t", "ogmen:1", T0, body), 0, raw_topic("ogmen"))

    outputs = step.process([entry("a", False), entry("b", False), entry("c", True)], 0)
    events = [wire.decode_event_set(output.value or b"").events[0] for output in of(outputs, EVENTS)]
    assert [json.loads(event.data)["resolved"] for event in events] == [False, True]
    assert events[0].event_id == events[1].event_id


def test_equal_payloads_without_a_time_are_kept_but_not_a_packet_sent_again() -> None:
    topic = raw_topic("wayscloud")
    step = normalise_step(topic)
    twice = step.process([raw(mqtt(b"true", 0), 0, topic), raw(mqtt(b"true", 1), 1, topic)], 0)
    assert len(of(twice, READINGS)) == 2
    again = raw(mqtt(b"true", 2, dup=True), 2, topic)
    assert of(restarted(step, twice).process([again], 0), READINGS) == []
    assert of(step.process([again], 0), READINGS) == []
    other = raw(mqtt(b"false", 3, dup=True), 3, topic)
    assert len(of(step.process([other], 0), READINGS)) == 1, "its first delivery never came"


def test_a_timed_mqtt_payload_is_known_by_its_id() -> None:
    topic = raw_topic("wayscloud")
    timed = b'{"value":true,"timestamp":"2026-03-16T00:00:00Z"}'
    copies = [raw(mqtt(timed, number, name="same"), number, topic) for number in range(2)]
    assert len(of(normalise_step(topic).process(copies, 0), READINGS)) == 1


@pytest.mark.parametrize("seconds", [691, 23 * 3600])
def test_what_was_not_acknowledged_comes_once_more_however_long_the_connector_was_away(seconds: int) -> None:
    """MQTT packets and POSTs with a time: the sender repeats them when we are back."""
    timed = b'{"value":true,"timestamp":"2026-03-16T00:00:00Z"}'
    post = b'{"readings":[{"sensor_type":"temperature","value":20,"timestamp":"2026-03-16T00:00:00Z"}]}'
    for vendor, sent in (
        ("wayscloud", mqtt(timed, 0, name="same")),
        ("climasense", Envelope("p", "climasense.telemetry", "climasense/http", "climasense:1", T0, post)),
    ):
        step = normalise_step(raw_topic(vendor))
        late = msgspec.structs.replace(sent, received_at=T0 + timedelta(seconds=seconds))
        first = step.process([raw(sent, 0, raw_topic(vendor))], 0)
        assert len(of(first, NORMALISE_STATE)) == 2, "its id, and that it gave something"
        for again in (restarted(step, first), step):
            assert of(again.process([raw(late, 1, raw_topic(vendor))], 0), READINGS) == []


def test_what_an_older_version_remembered_for_ten_minutes_is_known_for_as_long() -> None:
    ours, older = DuplicateFilter(1 << 20), DuplicateFilter(1 << 20)
    older.short.add(message_digest("wayscloud:1", "x"), second_of(T0))
    ours.unpack(older.pack() or b"")
    packet = Envelope("x", "wayscloud.publish", "wayscloud/mqtt", "wayscloud:1", T0 + timedelta(seconds=600), b"1")
    assert ours.is_duplicate(packet)


def test_the_state_stays_readable() -> None:
    """As the version before wrote it: head, ids and seconds of the short window, then of the long one."""
    written = bytes.fromhex("010200000001000000" + "0100000000000000" "ffffffffffffffff" "05000000" "06000000"
                            "0900000000000000" "07000000")  # fmt: skip
    remembering = DuplicateFilter(1 << 20)
    remembering.unpack(written)
    assert remembering.short.is_known(1, 605) and not remembering.short.is_known(1, 606)
    assert remembering.short.is_known((1 << 64) - 1, 6) and remembering.long.is_known(9, 86_407)
    assert remembering.pack() is None, "what was restored is not written once more"
    for digest, second in ((1, 5), ((1 << 64) - 1, 6)):
        remembering.short.add(digest, second)
    remembering.long.add(9, 7)
    assert remembering.pack() == written


def test_ids_are_bounded_by_bytes_and_what_that_cuts_is_counted() -> None:
    seen = SeenIds(600, 10 * BYTES_PER_ID)
    for digest in range(100):
        seen.add(digest, 0)
    assert len(seen) == 10 and seen.cut == 90
    assert seen.is_known(99, 1)
    assert not seen.is_known(0, 1)


def test_a_window_that_does_not_fit_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    step = NormaliseOperator(RAW, Options(), 2 * BYTES_PER_ID)
    before = DEDUPE_CUT.labels("karcher")._value.get()
    step.process([raw(location(n, received=n), n) for n in range(5)], 0)
    step.process([raw(location(n, received=n), n) for n in range(5, 8)], 0)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "karcher: duplicates are recognised for 1 s only, not for 600 s: more ids do not fit into `[stream] "
        "dedupe_max_bytes` (reported once)"
    ]
    assert DEDUPE_CUT.labels("karcher")._value.get() - before == 6


def test_ids_that_come_again_and_again_do_not_keep_others() -> None:
    seen = SeenIds(600, 1 << 20)
    for second in range(0, 60_000, 100):
        seen.add(0, second)
        seen.add(second + 1, second)
    assert len(seen) <= 8 + 64


@pytest.mark.parametrize("wrong", [0, 2 * 3600, 4_000_000_000], ids=["1970", "two hours ahead", "2096"])
def test_a_clock_that_is_wrong_for_a_moment_empties_no_window(wrong: int) -> None:
    """Of two connectors one has a wrong clock, for as long as it sends a hundred messages on end."""
    seen, start = SeenIds(86_400, 1 << 24), 1_773_619_200
    for number in range(20_000):
        seen.add(number, start + number)
    moments = {0: 0, 2 * 3600: start + 20_000 + 2 * 3600}.get(wrong, wrong)
    for number in range(100):
        seen.add(1_000_000 + number, moments)
    for number in range(20_000, 40_000):
        seen.add(number, start + number)
    forgotten = [number for number in range(40_000) if not seen.is_known(number, start + 40_000)]
    assert forgotten == [*range(len(forgotten))] and len(forgotten) <= 256, "at most some of the oldest"
    for number in range(40_000, 200_000):
        seen.add(number, start + number)
    assert len(seen) < 90_000, "and what expired is forgotten after all"


def test_another_steps_state_is_not_ours() -> None:
    outputs = normalise_step().process([raw(location(0), 0)], 0)
    other = normalise_step(raw_topic("ogmen"))
    for output in of(outputs, NORMALISE_STATE):
        other.restore(output.key, output.value)
    assert len(other._duplicates.short) == 0


def test_an_unreadable_envelope_is_a_dead_letter() -> None:
    record = ConsumedRecord(RAW, 3, b"k", b"x", headers=[("ce_id", b"\xff")])
    (made,) = of(normalise_step().process([record], 0), DEAD_LETTER)
    letter = records.DeadLetter.model_validate_json(made.value or b"")
    assert (letter.problems[0].reason, letter.vendor, letter.origin and letter.origin.offset) == (
        "no_envelope",
        "karcher",
        3,
    )
    for headers in ([], [("ce_id", None)], [("ce_id", b"1"), ("ce_type", b"t")]):
        broken = ConsumedRecord(RAW, 3, None, None, headers=headers)
        (made,) = of(normalise_step().process([broken], 0), DEAD_LETTER)
        assert made.key == b"", "one without a key goes on without"


def test_good_fields_go_on_and_bad_ones_become_one_dead_letter() -> None:
    body = (
        b'{"type":"datapoints","data":{"location":{"coordinateX":"far","coordinateY":1000}},"timestamp":1773619200000}'
    )
    outputs = normalise_step().process([raw(location(0, data=body), 0)], 0)
    assert len(of(outputs, READINGS)) == len(of(outputs, DEAD_LETTER)) == 1


def test_a_bug_costs_its_record_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = steps.normalise

    def buggy(envelope: Envelope, *rest: Any) -> Any:
        if envelope.id.startswith("bug"):
            raise ZeroDivisionError("secret")
        return real(envelope, *rest)

    monkeypatch.setattr(steps, "normalise", buggy)
    batch = [raw(location(0, id="bug1"), 0), raw(location(1), 1), raw(location(2, id="bug2"), 2)]
    with caplog.at_level(logging.ERROR):
        outputs = normalise_step().process(batch, 0)
    assert len(of(outputs, READINGS)) == 1
    letters = [records.DeadLetter.model_validate_json(o.value or b"") for o in of(outputs, DEAD_LETTER)]
    assert [letter.problems[0].reason for letter in letters] == ["internal_error"] * 2
    assert len(caplog.records) == 1


def test_what_no_topic_takes_becomes_a_dead_letter_that_fits() -> None:
    huge = json.dumps({"type": "datapoints", "data": {f"k{i}": "é" * 30 for i in range(9)}, "timestamp": 1}).encode()
    text = b'{"type":"datapoints","timestamp":1,"data":{"a":"' + b"\\u0001" * (MAX_RECORD_BYTES // 5) + b'"}}'
    for body in (huge, text):
        outputs = normalise_step().process([raw(location(0, data=body), 0)], 0)
        assert all(record_bytes(output) <= MAX_RECORD_BYTES for output in outputs)
    assert of(outputs, READINGS) == []
    (made,) = of(outputs, DEAD_LETTER)
    letter = records.DeadLetter.model_validate_json(made.value or b"")
    assert [p.reason for p in letter.problems] == ["too_large"]
    assert letter.payload_bytes == len(text)


@given(st.binary(max_size=9), st.binary(max_size=9), st.binary(max_size=9))
def test_what_is_missing_of_a_record_takes_no_more_bytes_than_what_is_empty(
    key: bytes, value: bytes, held: bytes
) -> None:
    empty = record_bytes(Output("t", b"", b"", [("h", b"")]))
    assert record_bytes(Output("t", None, None, [("h", None)])) == empty
    assert record_bytes(Output("t", key, value, [("h", held)])) == empty + len(key) + len(value) + len(held)


def test_a_dead_letter_with_endless_problems_fits() -> None:
    states = [{"value": "x" * 300}] * 9000 + [{"name": "docked", "value": "y" * 90, "timestamp": "z" * 90}] * 40000
    body = json.dumps({"states": states}).encode()
    outputs = normalise_step().process([raw(location(0, data=body, type="karcher.status"), 0)], 0)
    (made,) = of(outputs, DEAD_LETTER)
    assert record_bytes(made) <= MAX_RECORD_BYTES


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=30), st.data())
def test_batching_changes_nothing(messages: list[tuple[int, bool]], data: st.DataObject) -> None:
    batch = [
        raw(location(second, data=b"{" if broken else location(second).data), offset)
        for offset, (second, broken) in enumerate(messages)
    ]
    whole = [o for o in normalise_step().process(batch, 0) if o.topic != NORMALISE_STATE]
    split, step, start = [], normalise_step(), 0
    written: list[Output] = []
    while start < len(batch):
        end = data.draw(st.integers(start + 1, len(batch)))
        outputs = step.process(batch[start:end], 0)
        written += outputs
        split += [o for o in outputs if o.topic != NORMALISE_STATE]
        step, start = restarted(step, written), end
    assert split == whole


# -- detect

RULES, _ = load_rules(DEFAULT_RULES)


def observed(seconds: float, value: float, offset: int, device: str = DEVICE, **fields: Any) -> ConsumedRecord:
    at = T0 + timedelta(seconds=seconds)
    reading = wire.Reading("battery.level", at, value_number=value, unit="%", **fields)
    made = wire.Observation("id", device, device.partition(":")[0], at, wire.Origin(RAW, 0, offset), [reading])
    return ConsumedRecord(READINGS, offset, device.encode(), wire.encode(made))


def detect_step(rules: RuleSet = RULES) -> RuleOperator:
    return RuleOperator(0, DetectOptions(), rules.rules)


def resumed(outputs: Sequence[Output]) -> RuleOperator:
    step = detect_step()
    for output in of(outputs, ALARM_STATE):
        step.restore(output.key, output.value)
    return step


DRAIN = [observed(second, value, second) for second, value in enumerate([20, 14, 13, 12, 11, 10, 30, 30])]


def test_a_crossing_of_three_seconds_triggers_and_resolves() -> None:
    step = detect_step()
    outputs = step.process(DRAIN, 0)
    events = [records.AlarmEvent.model_validate_json(o.value or b"") for o in of(outputs, ALARMS)]
    assert [event.event_type for event in events] == ["triggered", "resolved"]
    assert events[0].origin.offset == 4
    assert {o.key for o in of(outputs, ALARMS)} == {DEVICE.encode()}
    assert [o.key for o in of(outputs, ALARM_STATE)] == [f"{READINGS}/{DEVICE}".encode(), f"{READINGS}#seen".encode()]
    assert step.open_alarms == 0


def test_a_duration_is_not_reset_by_a_restart() -> None:
    before = detect_step().process(DRAIN[:3], 0)
    after = resumed(before)
    assert [wire.decode_alarm_event(o.value or b"").event_type for o in of(after.process(DRAIN[3:6], 0), ALARMS)] == [
        "triggered"
    ]
    assert after.open_alarms == 1


def test_a_replay_of_records_already_applied_says_nothing() -> None:
    outputs = detect_step().process(DRAIN, 0)
    assert of(resumed(outputs).process(DRAIN, 0), ALARMS) == []


def test_open_alarms_are_known_after_a_restart_and_forgotten_with_their_state() -> None:
    step = resumed(detect_step().process(DRAIN[:6], 0))
    assert step.open_alarms == 1
    step.restore(f"{READINGS}/{DEVICE}".encode(), None)
    assert step.open_alarms == 0


def test_without_rules_readings_are_not_even_read() -> None:
    assert detect_step(rules=RuleSet([])).process([ConsumedRecord(READINGS, 0, b"k", b"rubbish")], 0) == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"rubbish",
        b"\xff",
        b'{"id":"x"}',
        DRAIN[1].value and DRAIN[1].value.replace(b"karcher:1.454-500.0/002005", b"nocolon"),
        DRAIN[1].value and DRAIN[1].value.replace(b'01Z","value', b'01","value'),
    ],
)
def test_what_is_no_observation_is_a_dead_letter(value: bytes | None) -> None:
    outputs = detect_step().process([ConsumedRecord(READINGS, 1, b"karcher:1", value), *DRAIN], 0)
    assert len(of(outputs, ALARMS)) == 2
    (made,) = of(outputs, DEAD_LETTER)
    letter = records.DeadLetter.model_validate_json(made.value or b"")
    assert (letter.stage, letter.origin and letter.origin.topic) == ("detect", READINGS)


@pytest.mark.parametrize("kind", ["alert", "status"])
def test_events_of_what_is_no_device_are_a_dead_letter_whether_they_report_an_alarm_or_not(kind: str) -> None:
    event = wire.Event("e", kind, T0, '{"source":"nav","header":"Stuck","body":"b"}', severity="major", title="Stuck")
    made = wire.EventSet("id", "nocolon", "ogmen", T0, wire.Origin(raw_topic("ogmen"), 0, 1), [event])
    record = ConsumedRecord(EVENTS, 1, b"nocolon", wire.encode(made))
    outputs = VendorAlarmOperator(0, DetectOptions()).process([record], 0)
    assert len(of(outputs, DEAD_LETTER)) == 1
    assert of(outputs, ALARMS) == []


def test_vendors_alerts_come_from_the_events() -> None:
    def alert(name: str, offset: int) -> ConsumedRecord:
        event = wire.Event(
            name, "alert", T0, '{"source":"nav","header":"Stuck","body":"b"}', severity="major", title="Stuck"
        )
        made = wire.EventSet("id", "ogmen:1", "ogmen", T0, wire.Origin(raw_topic("ogmen"), 0, offset), [event])
        return ConsumedRecord(EVENTS, offset, b"ogmen:1", wire.encode(made))

    outputs = VendorAlarmOperator(0, DetectOptions()).process([alert("a", 0), alert("b", 1), alert("a", 2)], 0)
    assert [wire.decode_alarm_event(o.value or b"").event_type for o in of(outputs, ALARMS)] == [
        "triggered",
        "repeated",
    ]
    assert [o.key for o in of(outputs, ALARM_STATE)] == [f"{EVENTS}/ogmen:1".encode(), f"{EVENTS}#seen".encode()]


LEVELS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([10.0, 14.0, 16.0])), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(LEVELS, st.data())
def test_any_split_and_restart_gives_the_same_alarms(levels: list[tuple[str, float]], data: st.DataObject) -> None:
    batch = [
        observed(offset, value, offset, device=f"karcher:{device}") for offset, (device, value) in enumerate(levels)
    ]
    whole = of(detect_step().process(batch, 0), ALARMS)
    split: list[Output] = []
    written: list[Output] = []
    start = 0
    while start < len(batch):
        end = data.draw(st.integers(start + 1, len(batch)))
        replayed_from = data.draw(st.integers(0, start))
        outputs = resumed(written).process(batch[replayed_from:end], 0)
        written += outputs
        split += of(outputs, ALARMS)
        start = end
    assert split == whole
