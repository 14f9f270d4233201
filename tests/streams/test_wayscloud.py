"""WAYSCloud in the streams: definitions that came along, two ways to one reading, redelivery, alarms."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from schemas import wire
from schemas.envelope import Envelope
from schemas.topics import DEAD_LETTER, EVENTS, READINGS, raw_topic
from streams.detect.device import Profile, TrackedDevice
from streams.detect.state import DeviceState, decode_state, encode_state
from streams.detect.vendor_alarms import RESOLVED_KEPT, VendorAlarms, VendorAlarmSettings
from streams.engine.step import Output
from streams.normalise import Options, normalise
from streams.normalise.message import Datapoint
from streams.normalise.operator import NormaliseOperator
from tests.support.normalising import normalise_step, of, raw, restarted

T0 = datetime(2026, 3, 16, tzinfo=UTC)
TOPIC = raw_topic("wayscloud")


def publish(
    name: str,
    payload: bytes,
    told: dict[str, Any] | None = None,
    at: datetime = T0,
    identity: str = "1",
    **attributes: str,
) -> Envelope:
    attributes = {"mqtttopic": f"devices/s/sensors/{name}", **attributes}
    if told is not None:
        attributes["datapoints"] = json.dumps({name: told})
    return Envelope(identity, "wayscloud.publish", "wayscloud/mqtt", "wayscloud:s", at, payload, attributes=attributes)


def reading(envelope: Envelope, options: Options | None = None) -> wire.Reading:
    found = normalise(envelope, wire.Origin("t", 0, 0), options or Options())
    assert found.dead_letter is None, found.dead_letter
    assert found.observation is not None
    (only,) = found.observation.readings
    return only


@pytest.mark.parametrize(
    ("name", "payload", "told", "metric", "value", "unit"),
    [
        ("temperature", b"72.5", {"unit": "°F", "type": "number"}, "environment.temperature", 22.5, "Cel"),
        ("temperature", b'{"value":"72.5"}', {"unit": "°F"}, "environment.temperature", 22.5, "Cel"),
        ("temperature", b'{"value":22.5,"unit":"Cel"}', {"unit": "°F"}, "environment.temperature", 22.5, "Cel"),
        ("pressure", b"101.32", {"unit": "kPa", "type": "number"}, "environment.pressure", 1013.2, "hPa"),
        ("signal_strength", b"80", {"unit": "%", "type": "number"}, "wayscloud.signal_strength", 80.0, "%"),
        ("battery", b"3.7", {"unit": "V", "type": "number"}, "wayscloud.battery", 3.7, "V"),
        ("soil", b"12", {"unit": "%", "type": "number"}, "wayscloud.soil", 12.0, "%"),
        ("race", b"2", {"unit": "furlong", "type": "number"}, "wayscloud.race", 2.0, "{furlong}"),
        ("count", b"2", {"type": "number"}, "wayscloud.count", 2.0, "1"),
        ("count", b"2", {}, "wayscloud.count", 2.0, "1"),
        ("code", b"0012", {"type": "string"}, "wayscloud.code", "0012", None),
        ("code", b"12.50", {"type": "string"}, "wayscloud.code", "12.50", None),
        ("code", b'{"value":"0012"}', {"type": "string"}, "wayscloud.code", "0012", None),
        ("temperature", b"0012", {"type": "string"}, "wayscloud.temperature", "0012", None),
        ("valve", b"1", {"type": "boolean"}, "wayscloud.valve", True, None),
        ("mode", b"3", {"type": "number"}, "wayscloud.mode", 3.0, "1"),
        ("temperature", b"21", {"id": "dp-9", "unit": "", "type": "number"}, "environment.temperature", 21.0, "Cel"),
    ],
)
def test_the_accounts_definition_drives_normalising(
    name: str, payload: bytes, told: dict[str, Any], metric: str, value: object, unit: str | None
) -> None:
    found = reading(publish(name, payload, told))
    values = (found.value_number, found.value_text, found.value_boolean)
    assert (found.metric, [v for v in values if v is not None], found.unit) == (metric, [value], unit)


def test_the_users_word_is_above_the_accounts() -> None:
    told = {"id": "dp-1", "unit": "°F", "type": "number"}
    for key in ("temperature", "dp-1"):
        options = Options(datapoints={key: Datapoint("cpu.temperature", "K")})
        found = reading(publish("temperature", b"300", told), options)
        assert (found.metric, found.value_number) == ("cpu.temperature", 26.85)


def test_a_value_against_its_definition_is_a_dead_letter() -> None:
    found = normalise(publish("soil", b"wet", {"type": "number"}), wire.Origin("t", 0, 0), Options())
    assert found.observation is None
    assert found.dead_letter is not None and found.dead_letter.problems[0].reason == "wrong_type"


# -- told by MQTT and read back


def stored(rows: list[tuple[str, float, str]], at: datetime, identity: str = "b") -> Envelope:
    kind = {"unit": None, "data_type": "number"}
    body = json.dumps([{"name": n, "value": v, "measured_at": t, **kind} for n, v, t in rows])
    read = {"readfrom": "2026-03-15T23:59:00Z", "readto": "2026-03-16T00:02:00Z", "readreach": "5"}
    return Envelope(
        identity, "wayscloud.telemetry.log", "wayscloud/rest", "wayscloud:s", at, body.encode(), attributes=read
    )


def told(outputs: list[Output]) -> list[tuple[str, float | None]]:
    made = [wire.decode_observation(output.value or b"") for output in of(outputs, READINGS)]
    return [(reading.metric, reading.value_number) for each in made for reading in each.readings]


def process(step: NormaliseOperator, *envelopes: Envelope) -> list[Output]:
    return step.process([raw(envelope, n, TOPIC) for n, envelope in enumerate(envelopes)], 0)


MOMENT = "2026-03-16T00:00:00.123Z"
LATER = T0 + timedelta(hours=20)


def test_a_reading_by_mqtt_and_read_back_is_told_once_over_a_restart() -> None:
    live = publish("temperature", b'{"value":21,"timestamp":"%s"}' % MOMENT.encode())
    first = normalise_step(TOPIC)
    outputs = process(first, live)
    assert told(outputs) == [("environment.temperature", 21.0)]
    rows = [("temperature", 21, "2026-03-16T00:00:00.123456Z"), ("temperature", 22, MOMENT), ("humidity", 21, MOMENT)]
    back = process(restarted(first, outputs), stored(rows, LATER))
    assert told(back) == [("environment.temperature", 22.0), ("environment.humidity", 21.0)]


def test_the_other_way_round_too() -> None:
    step = normalise_step(TOPIC)
    assert len(told(process(step, stored([("temperature", 21, MOMENT)], T0)))) == 1
    late = b'{"temperature":21,"humidity":40,"timestamp":"%s"}' % MOMENT.encode()
    assert told(process(step, publish("all", late, at=LATER))) == [("environment.humidity", 40.0)]


def test_live_readings_are_not_held_against_each_other_nor_rows_read_twice_told_twice() -> None:
    step = normalise_step(TOPIC)
    two = [publish(name, b'{"value":21,"timestamp":"%s"}' % MOMENT.encode(), identity=name) for name in ("a/t", "b/t")]
    assert len(told(process(step, *two))) == 2
    again = [stored([("x", 21, MOMENT)], LATER, "1"), stored([("x", 21, MOMENT), ("x", 22, MOMENT)], LATER, "2")]
    assert told(process(step, *again)) == [("wayscloud.x", 21.0), ("wayscloud.x", 22.0)]


def test_a_live_reading_without_a_time_is_found_by_its_value_at_about_the_time() -> None:
    step = normalise_step(TOPIC)
    process(step, publish("temperature", b"21", at=T0 + timedelta(seconds=2)))
    rows = [("temperature", 21, "2026-03-16T00:00:01Z"), ("temperature", 21, "2026-03-16T00:01:00Z")]
    assert len(told(process(step, stored(rows, LATER)))) == 1
    assert told(process(step, stored(rows, LATER, "c"))) == [], "read back twice"
    more = [("temperature", 21, "2026-03-16T00:00:03Z")]
    assert len(told(process(step, stored(more, LATER, "d")))) == 1, "one live reading stands for one stored one only"
    assert len(told(process(step, publish("temperature", b"21", identity="2", at=T0 + timedelta(seconds=3))))) == 1


def test_a_row_that_is_of_no_use_is_a_dead_letter_once() -> None:
    rows = [
        {"name": "t", "value": 1, "measured_at": None},
        {"name": "t", "value": 1, "measured_at": "yesterday"},
        {"value": 1, "measured_at": MOMENT},
        {"name": "soil", "unit": "%", "value": "wet", "data_type": "number", "measured_at": MOMENT},
        {"name": "soil", "unit": "%", "value": "dry", "data_type": "number", "measured_at": "2026-03-16T00:02:01Z"},
        {"name": "soil", "unit": "%", "value": 40, "data_type": "number", "measured_at": MOMENT},
        7,
    ]
    envelope = stored([], LATER)
    found = process(normalise_step(TOPIC), msgspec.structs.replace(envelope, data=json.dumps(rows).encode()))
    (letter,) = [wire.decode_dead_letter(output.value or b"") for output in of(found, DEAD_LETTER)]
    assert [(p.path, p.reason) for p in letter.problems] == [
        ("[0]", "missing"),
        ("[1].measured_at", "bad_time"),
        ("[2]", "missing"),
        ("[3].value", "wrong_type"),
        ("[6]", "missing"),
    ], "what is there for comparison only is told by another record"
    assert told(found) == [("wayscloud.soil", 40.0)]


# -- redelivery


def test_a_packet_sent_again_is_told_from_one_of_equal_content_whose_first_delivery_never_came() -> None:
    def packet(number: int, after: float, dup: bool = False) -> Envelope:
        flags = {"mqttdup": "true"} if dup else {}
        at = T0 + timedelta(seconds=after)
        flags["mqttpacket"] = f"fleetlake/{number}"
        return publish("door_open", b"true", at=at, identity=f"{number} {after}", **flags)

    step = normalise_step(TOPIC)
    outputs = process(step, packet(1, 0), packet(2, 1))
    assert len(of(outputs, READINGS)) == 2
    again = restarted(step, outputs)
    back = process(again, packet(1, 7200, dup=True), packet(2, 7200, dup=True), packet(3, 7200, dup=True))
    assert len(of(back, READINGS)) == 1, "only the third is news, though the connector was away for two hours"
    assert len(of(process(again, packet(1, 8000)), READINGS)) == 1, "the identifier is used for another packet"


# -- alarms

DETAIL = {
    "id": "alarm-1",
    "device_id": "s",
    "rule_id": "rule-1",
    "rule_name": "High temperature alert",
    "severity": "warning",
    "title": "Too hot: s",
    "message": "35 °C",
    "triggered_at": "2026-03-16T00:00:00Z",
    "occurrence_count": 1,
}


def entry(number: int, kind: str, minute: int, **more: Any) -> dict[str, Any]:
    at = f"2026-03-16T00:{minute:02}:00Z"
    return {"id": number, "event_type": kind, "actor": "rule_engine", "note": None, "created_at": at, **more}


def alarm(timeline: list[dict[str, Any]], identity: str, **change: Any) -> Envelope:
    body = json.dumps({"alarm": DETAIL | change, "timeline": timeline}).encode()
    return Envelope(identity, "wayscloud.alarm.event", "wayscloud/rest", "wayscloud:s", T0, body)


class Pipeline:
    """The normaliser and the alarms' state machine, one after the other."""

    def __init__(self) -> None:
        self.step = normalise_step(TOPIC)
        self.state = DeviceState()
        self.offset = 0

    def take(self, envelope: Envelope) -> list[wire.AlarmEvent]:
        made: list[wire.AlarmEvent] = []
        for output in of(process(self.step, envelope), EVENTS):
            events = wire.decode_event_set(output.value or b"")
            device = TrackedDevice(self.state, Profile("wayscloud:s", "wayscloud"), EVENTS)
            alarms = VendorAlarms(device, VendorAlarmSettings())
            made += alarms.apply(events, wire.Origin(EVENTS, 0, self.offset))
            self.offset += 1
            self.state = decode_state(encode_state(self.state))
        return made


def kinds(events: list[wire.AlarmEvent]) -> list[tuple[int, str, str]]:
    return [(e.sequence, e.event_type, e.alarm.status) for e in events]


def test_an_alarm_lives_as_its_timeline_tells() -> None:
    pipeline = Pipeline()
    first = [entry(1, "triggered", 0)]
    assert kinds(pipeline.take(alarm(first, "1"))) == [(1, "triggered", "active")]
    second = [*first, entry(2, "acknowledged", 5, actor="[redacted]", note="Investigating"), entry(3, "note_added", 6)]
    (known,) = pipeline.take(alarm(second, "2", status="acknowledged"))
    assert kinds([known]) == [(2, "acknowledged", "acknowledged")]
    assert (known.actor, known.note) == ("[redacted]", "Investigating")
    assert known.alarm.acknowledged_at == datetime(2026, 3, 16, 0, 5, tzinfo=UTC)
    third = [*second, entry(4, "resolved", 7), entry(5, "reopened", 8), entry(6, "resolved", 9)]
    events = pipeline.take(alarm(list(reversed(third)), "3", status="resolved"))
    assert kinds(events) == [(3, "resolved", "resolved"), (4, "reopened", "active"), (5, "resolved", "resolved")]
    assert len({event.alarm.alarm_id for event in [known, *events]}) == 1
    assert events[-1].alarm.rule_id == "wayscloud:rule-1"
    assert pipeline.take(alarm(third, "4", status="resolved")) == []


def test_what_the_timeline_leaves_out_is_told_by_the_alarm() -> None:
    pipeline = Pipeline()
    assert kinds(pipeline.take(alarm([], "1", occurrence_count=3))) == [
        (1, "triggered", "active"),
        (2, "repeated", "active"),
    ]
    done = pipeline.take(alarm([entry(1, "triggered", 0)], "2", occurrence_count=4, resolved_at="2026-03-16T00:30:00Z"))
    assert kinds(done) == [(3, "resolved", "resolved"), (4, "repeated", "resolved")]
    assert done[-1].alarm.occurrence_count == 4


def test_two_alarms_of_one_rule_are_two_alarms_and_old_ones_are_forgotten() -> None:
    pipeline = Pipeline()
    found = set()
    for number in range(RESOLVED_KEPT + 20):
        at = (T0 + timedelta(minutes=number)).isoformat()
        detail = {"id": f"alarm-{number}", "triggered_at": at, "resolved_at": at}
        events = pipeline.take(alarm([], str(number), **detail))
        assert [e.event_type for e in events] == ["triggered", "resolved"]
        found |= {e.alarm.alarm_id for e in events}
    assert len(found) == RESOLVED_KEPT + 20
    assert len(pipeline.state.rules) == RESOLVED_KEPT


def test_an_alarm_that_is_unknown_and_acknowledged_is_triggered_first() -> None:
    assert kinds(Pipeline().take(alarm([entry(2, "acknowledged", 3)], "1", triggered_at=None))) == [
        (1, "triggered", "active"),
        (2, "acknowledged", "acknowledged"),
    ]
