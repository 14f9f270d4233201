"""What a message collects: readings, events, problems, times."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas import wire
from schemas.derived_ids import derived_id
from schemas.envelope import Envelope
from streams.normalise.message import Message, Options, Stamp, VendorEvent, dead_letter, into, payload_extract
from streams.normalise.values import FieldError

NOW = datetime(2026, 3, 30, 10, tzinfo=UTC)
EARLIER = NOW - timedelta(hours=1)
ORIGIN = wire.Origin("telemetry.raw.acme.v1", 1, 7)
ENVELOPE = Envelope("m", "acme.posted", "acme/http", "acme:d", NOW, b'{"a": 1}')
SOUND = Stamp(EARLIER)


def message(**options: Any) -> Message:
    return Message(ENVELOPE, "acme", Options(**options))


def problems(collected: Message) -> list[tuple[str, str]]:
    return [(problem.path, problem.reason) for problem in collected.problems]


# -- times


@pytest.mark.parametrize(
    ("off", "quality"),
    [
        (timedelta(hours=24), "ok"),
        (timedelta(hours=24, microseconds=1), "future"),
        (timedelta(0), "ok"),
        (-timedelta(days=3650), "ok"),
        (-timedelta(days=3650, microseconds=1), "ancient"),
    ],
)
def test_a_time_far_off_the_receipt_is_flagged(off: timedelta, quality: str) -> None:
    assert message().vendor_time(NOW + off) == Stamp(NOW + off, "vendor", quality)


def test_bounds_of_times_are_options() -> None:
    collected = message(future_after=timedelta(seconds=1), ancient_after=timedelta(seconds=2))
    assert [collected.vendor_time(NOW + timedelta(seconds=each)).quality for each in (1, 2, -2, -3)] == [
        *("ok", "future", "ok", "ancient")
    ]


def test_without_a_readable_time_the_receipt_counts() -> None:
    collected = message()
    received = Stamp(NOW, "received", "ok")
    assert collected.received == collected.stamp(None, "at") == received
    assert problems(collected) == []
    assert collected.stamp("soon", "at") == received
    assert problems(collected) == [("at", "bad_time")]
    assert collected.stamp("2026-03-30T09:00:00Z", "at") == SOUND
    assert collected.stamp("x", "at", lambda value: None) == received
    assert len(collected.problems) == 1


# -- readings


def test_a_reading_of_each_kind_has_its_own_field() -> None:
    collected = message()
    collected.add("m.number", "number", 1.5, "V", SOUND)
    collected.add("m.text", "text", "t", "V", SOUND)
    collected.add("m.boolean", "boolean", False, "V", SOUND)
    collected.add("m.json", "json", "[1]", "V", Stamp(NOW, "received", "future"))
    assert collected.readings == [
        wire.Reading("m.number", EARLIER, value_number=1.5, unit="V"),
        wire.Reading("m.text", EARLIER, value_text="t"),
        wire.Reading("m.boolean", EARLIER, value_boolean=False),
        wire.Reading("m.json", NOW, value_json="[1]", time_source="received", time_quality="future"),
    ]


def test_a_field_is_read_null_is_none_and_a_bad_value_a_problem() -> None:
    collected = message()
    level = into("battery.level")
    collected.read(level, None, "level", SOUND)
    collected.read(level, "55", "level", SOUND)
    collected.read(level, "full", "battery.level", SOUND)
    collected.read(into("battery.level", lambda value: None), 5, "level", SOUND)
    assert collected.readings == [wire.Reading("battery.level", EARLIER, value_number=55.0, unit="%")]
    assert problems(collected) == [("battery.level", "wrong_type")]


def test_members_go_by_the_table_or_under_the_vendors_name() -> None:
    table = {"level": into("battery.level"), "none": into("battery.level", lambda value: None)}
    collected = message()
    members = {"level": 5, "none": 7, "mode": "eco", "gone": None, "bad": 10**400}
    collected.read_object(table, members, "battery", SOUND, "power")
    collected.read_object(table, {"level": None, "level2": 1}, "", SOUND)
    collected.read_object(table, {"level": "full"}, "", SOUND)
    collected.read_object(table, {"level": "full"}, "a.b", SOUND)
    assert [(each.metric, each.value_number, each.value_text) for each in collected.readings] == [
        ("battery.level", 5.0, None),
        ("acme.power.mode", None, "eco"),
        ("acme.level2", 1.0, None),
    ]
    assert problems(collected) == [
        ("battery.bad", "not_finite"),
        ("level", "wrong_type"),
        ("a.b.level", "wrong_type"),
    ]


def test_an_unknown_field_is_kept_as_it_came() -> None:
    collected = message()
    for name, value in {"b": True, "i": 3, "f": 2.5, "t": "x", "o": {"b": 1, "a": [None]}, "l": [1], "n": None}.items():
        collected.keep(name, value, name, SOUND)
    assert collected.readings == [
        wire.Reading("acme.b", EARLIER, value_boolean=True),
        wire.Reading("acme.i", EARLIER, value_number=3.0, unit="1"),
        wire.Reading("acme.f", EARLIER, value_number=2.5, unit="1"),
        wire.Reading("acme.t", EARLIER, value_text="x"),
        wire.Reading("acme.o", EARLIER, value_json='{"a":[null],"b":1}'),
        wire.Reading("acme.l", EARLIER, value_json="[1]"),
    ]


def test_a_name_of_more_than_two_hundred_characters_is_none() -> None:
    collected = message()
    collected.keep("n" * 200, 1, "n" * 200, SOUND)
    collected.keep("n" * 201, 1, "p" * 300, SOUND)
    assert [each.metric for each in collected.readings] == ["acme." + "n" * 200]
    assert problems(collected) == [("p" * 200, "too_large")]
    assert collected.problems[0].detail == "a name of 201 characters"


def test_other_members_are_kept() -> None:
    collected = message()
    collected.keep_others({"known": 1, "other": 2}, {"known"}, SOUND)
    assert [each.metric for each in collected.readings] == ["acme.other"]


def test_readings_are_bounded_and_that_is_one_problem() -> None:
    collected = message(max_readings=2)
    for number in range(5):
        collected.add(f"m.{number}", "number", 1.0, None, SOUND)
    assert [each.metric for each in collected.readings] == ["m.0", "m.1"]
    assert problems(collected) == [("", "too_many")]
    assert collected.problems[0].detail == "more than 2 readings"


def test_problems_are_bounded() -> None:
    """A message of a million bad fields costs no million problems."""
    collected = message(max_readings=3)
    for number in range(5):
        collected.problem(str(number), FieldError("wrong_type", "d"))
    assert problems(collected) == [(str(number), "wrong_type") for number in range(3)]
    assert Options().max_readings == 10_000


# -- events


def test_an_events_id_is_the_vendors_or_that_of_its_message() -> None:
    collected = message()
    collected.event(VendorEvent("stuck", "v1", SOUND, {"b": 1, "a": 2}, "major", "Stuck"))
    collected.event(VendorEvent("stuck", None, Stamp(NOW, "received"), []))
    assert collected.events == [
        wire.Event(derived_id("acme:d", "stuck", "v1"), "stuck", EARLIER, '{"a":2,"b":1}', "vendor", "major", "Stuck"),
        wire.Event(derived_id("acme:d", "stuck", "m"), "stuck", NOW, "[]", "received"),
    ]


# -- the result


def test_an_empty_message_gives_nothing() -> None:
    result = message().result(ORIGIN)
    assert result.observation is result.events is result.dead_letter is None


def test_each_record_says_where_it_came_from() -> None:
    collected = message()
    collected.add("m.a", "number", 1.0, None, SOUND)
    collected.event(VendorEvent("stuck", None, SOUND, {}))
    collected.problem("b", FieldError("wrong_type", "d"))
    result = collected.result(ORIGIN)
    assert result.observation == wire.Observation("m", "acme:d", "acme", NOW, ORIGIN, collected.readings)
    assert result.events == wire.EventSet("m", "acme:d", "acme", NOW, ORIGIN, collected.events)
    assert result.dead_letter == wire.DeadLetter(
        id="m",
        stage="normalise",
        received_at=NOW,
        problems=[wire.Problem("b", "wrong_type", "d")],
        payload='{"a": 1}',
        payload_bytes=8,
        payload_sha256=hashlib.sha256(b'{"a": 1}').hexdigest(),
        device_id="acme:d",
        vendor="acme",
        message_type="acme.posted",
        origin=ORIGIN,
    )


def test_the_same_reading_twice_is_one_and_another_value_is_another() -> None:
    collected = message()
    for metric, value in (("m.a", 1.0), ("m.b", 1.0), ("m.a", 1.0), ("m.a", 2.0)):
        collected.add(metric, "number", value, None, SOUND)
    result = collected.result(ORIGIN)
    assert result.observation is not None
    assert [(each.metric, each.value_number) for each in result.observation.readings] == [
        ("m.a", 1.0),
        ("m.b", 1.0),
        ("m.a", 2.0),
    ]


# -- what a dead letter shows


@pytest.mark.parametrize(
    ("path", "reason", "hidden"),
    [("", "not_json", True), ("", "not_utf8", True), ("a", "not_json", False), ("", "too_many", False)],
)
def test_what_could_not_be_parsed_is_masked_and_the_rest_was_redacted_before(
    path: str, reason: str, hidden: bool
) -> None:
    body = json.dumps({"pinCode": "4711", "pad": "a b " * 500}).encode()
    envelope = Envelope("m", "acme.posted", "acme/http", "acme:d", NOW, body)
    letter = dead_letter(envelope, "acme", ORIGIN, [wire.Problem(path, reason, "")], Options())
    assert ("4711" not in letter.payload) is hidden
    assert (len(letter.payload) < len(body)) is hidden


def test_a_payload_is_cut_by_characters() -> None:
    options = Options(max_payload_chars=3, max_unparsed_chars=5)
    assert payload_extract("äöüß".encode(), False, options)[:2] == ("äöü", 8)
    assert payload_extract("🤖🤖🤖🤖".encode(), False, options)[0] == "🤖🤖🤖"
    assert payload_extract(b"abc", False, options)[0] == "abc"
    assert len(payload_extract(b"a b c d e f", True, options)[0]) <= 6
    assert (Options().max_payload_chars, Options().max_unparsed_chars) == (65_536, 1_024)
