"""Small parts of normalising: sizes of records, extremes of units and values, gaps, what is too large."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from schemas import wire
from schemas.consumed import Record
from schemas.envelope import GAP, Envelope
from schemas.topics import DEAD_LETTER, EVENTS, MAX_MESSAGE_BYTES, READINGS, raw_topic
from streams.engine.step import MAX_RECORD_BYTES, Output, RecordTooLarge, record_bytes
from streams.normalise import normalise
from streams.normalise.duplicates import SeenIds, second_of
from streams.normalise.message import Normalised, Options
from streams.normalise.outputs import OutputCollector, unreadable
from streams.normalise.units import convert
from streams.normalise.values import FieldError, boolean, divided, number, scaled, seconds, shown, text
from tests.support.records import ConsumedRecord

NOW = datetime(2026, 3, 30, 10, tzinfo=UTC)
TOPIC = raw_topic("wayscloud")
ORIGIN = wire.Origin(TOPIC, 0, 7)


def record(value: bytes = b"{}", offset: int = 7) -> Record:
    return ConsumedRecord(TOPIC, offset, b"wayscloud:s", value, 1_774_864_800_000)


# -- sizes


def test_the_bytes_of_a_record() -> None:
    assert record_bytes(Output("t", None, None)) == 64
    assert record_bytes(Output("t", b"k" * 3, b"v" * 5)) == 64 + 3 + 5
    assert record_bytes(Output("t", None, None, (("n" * 7, b"w" * 2), ("m", b"")))) == 64 + 28 + 2 + 10 + 4 + 10
    assert MAX_RECORD_BYTES == MAX_MESSAGE_BYTES - 1024
    error = RecordTooLarge(Output("t", b"k", b"v"), 9)
    assert str(error) == "a record of 66 bytes for t (key b'k') exceeds the limit of 9 bytes"


def observation(size: int) -> wire.Observation:
    return wire.Observation(
        "m", "wayscloud:s", "wayscloud", NOW, ORIGIN, [wire.Reading("a.b", NOW, value_text="x" * size)]
    )


def collected(result: Normalised) -> OutputCollector:
    collector = OutputCollector(Options(), 3, 4)
    collector.add(result, b"wayscloud:s", record(offset=9))
    return collector


def test_outputs_are_collected_and_counted() -> None:
    events = wire.EventSet("m", "wayscloud:s", "wayscloud", NOW, ORIGIN, [wire.Event("e", "k", NOW, "{}")])
    letter = unreadable(record(), "wayscloud", "why", Options())
    collector = collected(Normalised(observation(1), events, letter))
    assert [output.topic for output in collector.outputs] == [READINGS, EVENTS, DEAD_LETTER]
    assert (collector.readings, collector.dead_letters) == (1, 1)
    assert (collector.readings_to, collector.events_to) == (9, 9)
    for output, name in zip(collector.outputs, (b"m", b"m", letter.id.encode()), strict=True):
        assert output.headers == (("content-type", b"application/json"), ("ce_id", name))
        assert output.key == b"wayscloud:s"
    nothing = collected(Normalised())
    assert (nothing.outputs, nothing.readings_to, nothing.events_to, nothing.dead_letters) == ([], 3, 4, 0)


def test_what_no_topic_takes_is_a_dead_letter_or_a_problem_of_the_one_there_is() -> None:
    collector = collected(Normalised(observation(MAX_RECORD_BYTES)))
    [output] = collector.outputs
    letter = wire.decode_dead_letter(output.value or b"")
    assert (output.topic, collector.readings, collector.dead_letters, collector.readings_to) == (DEAD_LETTER, 1, 1, 3)
    [problem] = letter.problems
    assert (problem.path, problem.reason) == ("", "too_large")
    assert (problem.detail or "").endswith(f"bytes normalised; the limit is {MAX_RECORD_BYTES}")
    assert (letter.id, letter.stage, letter.received_at, letter.origin) == ("m", "normalise", NOW, ORIGIN)
    assert (letter.device_id, letter.vendor, letter.payload, letter.payload_bytes) == (
        "wayscloud:s",
        "wayscloud",
        "{}",
        2,
    )

    known = unreadable(record(), "wayscloud", "why", Options())
    [output] = collected(Normalised(observation(MAX_RECORD_BYTES), None, known)).outputs
    letter = wire.decode_dead_letter(output.value or b"")
    assert [each.reason for each in letter.problems] == ["no_envelope", "too_large"]


def test_a_record_that_is_no_envelope() -> None:
    letter = unreadable(record(b"abc"), "wayscloud", "header ce_id is missing", Options())
    assert (letter.stage, letter.received_at, letter.vendor, letter.device_id) == ("normalise", NOW, "wayscloud", None)
    assert letter.problems == [wire.Problem("", "no_envelope", "header ce_id is missing")]
    assert (letter.payload_bytes, letter.origin) == (3, ORIGIN)
    assert letter.id != unreadable(record(b"abd"), "wayscloud", "", Options()).id
    assert letter.id != unreadable(record(b"abc", 8), "wayscloud", "", Options()).id


def test_a_dead_letter_beyond_the_limit_keeps_its_first_problems_only() -> None:
    problems = [wire.Problem("p" * 600, "wrong_type", "d" * 600)] * 20_000
    letter = unreadable(record(), "wayscloud", "why", Options())
    letter.problems = problems
    [output] = collected(Normalised(dead_letter=letter)).outputs
    kept = wire.decode_dead_letter(output.value or b"")
    assert len(kept.problems) == 100
    assert (kept.problems[0].path, kept.problems[0].detail) == ("p" * 500, "d" * 500)
    assert (kept.payload, kept.id) == ("", letter.id)


@pytest.mark.parametrize(("length", "stays"), [(1000, True), (1001, False)])
def test_the_id_of_a_dead_letter_that_does_not_fit_is_bounded(length: int, stays: bool) -> None:
    letter = unreadable(record(), "wayscloud", "why", Options())
    letter.id, letter.payload, letter.device_id = "i" * length, "x" * MAX_RECORD_BYTES, "d" * 2000
    [output] = collected(Normalised(dead_letter=letter)).outputs
    kept = wire.decode_dead_letter(output.value or b"")
    assert (kept.id == letter.id) is stays
    assert kept.device_id == "d" * 1000


# -- values


@pytest.mark.parametrize(
    ("value", "words"),
    [("x" * 60, f"str '{'x' * 60}'"), ("x" * 61, f"str '{'x' * 60}'…"), (7, "int 7"), (None, "NoneType None")],
)
def test_a_value_is_shown_short(value: Any, words: str) -> None:
    assert shown(value) == words


def test_a_field_error_says_reason_and_detail() -> None:
    assert str(FieldError("missing", "a")) == "missing: a"
    assert (str(FieldError("missing")), FieldError("missing").detail) == ("missing", "")


@pytest.mark.parametrize(
    ("value", "expected"), [("1" * 308, float("1" * 308)), (" -.5e1 ", -5.0), ("+7.", 7.0), (10**15, 1e15)]
)
def test_numbers(value: Any, expected: float) -> None:
    assert number(value) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0" * 400, None),
        ("0" * 401, "wrong_type"),
        (" -Infinity ", "not_finite"),
        ("NaN", "not_finite"),
        (10**400, "not_finite"),
        (True, "wrong_type"),
        ([], "wrong_type"),
        (float("inf"), "not_finite"),
    ],
)
def test_what_is_no_number(value: Any, reason: str | None) -> None:
    if reason is None:
        assert number(value) == 0
        return
    for parse in (number, scaled("100"), divided(1000)):
        with pytest.raises(FieldError) as error:
            parse(value)
        assert error.value.reason == reason


def test_texts_booleans_and_durations_refuse_other_kinds() -> None:
    for parse, wrong in (
        (text, True),
        (text, []),
        (boolean, "yes"),
        (boolean, 2),
        (seconds, True),
        (seconds, "1:60:00"),
    ):
        with pytest.raises(FieldError) as error:
            parse(wrong)
        assert error.value.reason == "wrong_type"
    assert (text(1.5), boolean(" TRUE "), boolean("0"), boolean(1.0), boolean(0)) == ("1.5", True, False, True, False)
    assert divided(1000)((1 << 53) - 1) == ((1 << 53) - 1) / 1000
    assert seconds("P" + "0" * 98 + "D") == 0
    with pytest.raises(FieldError):
        seconds("P" + "0" * 99 + "D")


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        ("0", "Cel", "[degF]", 32.0),
        ("1e-399", "m", "km", 0.0),
        ("1e-500", "Cel", "K", 273.15),
        ("1e-400", "Cel", "K", 273.15),
        ("1e-99999", "m", "km", 0.0),
        ("5", "furlong", "furlong", 5.0),
    ],
)
def test_units_at_their_extremes(value: str, source: str, target: str, expected: float) -> None:
    assert convert(Decimal(value), source, target) == expected


@pytest.mark.parametrize("value", ["1e401", "1e310", "-1e99999"])
def test_what_is_beyond_a_double_in_either_unit(value: str) -> None:
    with pytest.raises(FieldError) as error:
        convert(Decimal(value), "km", "m")
    assert error.value.reason == "not_finite"


# -- gaps and windows


def test_a_gap_happened_when_it_began() -> None:
    body = b'{"from": "2026-03-30T09:00:00Z", "to": "2026-03-30T10:00:00Z", "reason": "outage"}'
    envelope = Envelope("m", GAP, "wayscloud/mqtt", "wayscloud:s", NOW, body)
    result = normalise(envelope, ORIGIN, Options())
    assert result.events is not None
    [event] = result.events.events
    assert (event.type, event.occurred_at, event.time_source) == ("connection_gap", NOW - timedelta(hours=1), "vendor")
    assert (event.title, event.severity) == ("Connection gap", None)


@pytest.mark.parametrize(("passed", "known"), [(0, True), (10, True), (11, False), (-100, True)])
def test_an_id_is_known_for_its_window(passed: int, known: bool) -> None:
    seen = SeenIds(10, 5)
    assert not seen.is_known(1, 1000)
    seen.add(1, 1000)
    assert seen.is_known(1, 1000 + passed) is known
    assert seen.add_new(1, 1000 + passed) is not known


def test_the_oldest_ids_are_forgotten_and_what_was_added_is_taken_once() -> None:
    seen = SeenIds(10, 2)
    for number_, second in ((1, 1000), (2, 1001), (1, 1002), (3, 1003)):
        seen.add(number_, second)
    assert [seen.is_known(each, 1003) for each in (1, 2, 3)] == [True, False, True]
    assert (len(seen), seen.take_added(), seen.take_added()) == (2, ([1, 2, 1, 3], [1000, 1001, 1002, 1003]), ([], []))
    seen.restore(4, 1020)
    assert len(seen) == 1 and seen.take_added() == ([], [])


@pytest.mark.parametrize(
    ("moment", "second"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1970, 1, 2, 0, 0, 5, 999_999, tzinfo=UTC), 86_405),
        (datetime(1969, 12, 31, tzinfo=UTC), 0),
        (datetime(2106, 2, 7, 6, 28, 14, tzinfo=UTC), 0xFFFFFFFE),
        (datetime(2106, 2, 7, 6, 28, 15, tzinfo=UTC), 0),
    ],
)
def test_a_second_fits_four_bytes(moment: datetime, second: int) -> None:
    assert second_of(moment) == second
