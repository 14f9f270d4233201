"""Numbers and times of many payloads at once are those that one by one are read, or are left to the general path."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.kafka_records.columns import PADDING
from runtime.kafka_records.fetched import FetchedRecord
from schemas.envelope import Envelope, message_id
from schemas.timestamps import format_iso, from_millis, parse_iso, to_micros
from schemas.topics import raw_topic
from streams.normalise.columnar.normaliser import ColumnarNormaliser, Subject
from streams.normalise.columnar.payloads import LARGEST, Payloads, Span
from streams.normalise.columnar.template import Kind, template_of
from streams.normalise.columnar.times import millis_are_usual, millis_texts, written_times
from streams.normalise.message import Message, Options, into
from tests.support.columns import run_of

T0 = datetime(2026, 3, 16, 12, tzinfo=UTC)
STRANGE = (
    *("0", "-0", "00", "01", "-01", "-", "", ".", "1.", ".5", "-.5", "1.5.2", "1-2", "--1", "+1", " 1", "1 ", "1e5"),
    *("0.0", "-0.0", "0.10", "00.5", "-00.5", "1,2", "1_000", "123456789012345", "1234567890123456", "9" * 18),
    *("0.123456789012345", "1.2345678901234", "99999999.9999999", "-99999999.9999999", "9" * 40, "1.5e3", "x", "é"[:0]),
)
TOKENS = (
    st.sampled_from(STRANGE)
    | st.integers(-(10**16), 10**16).map(str)
    | st.floats(-1e9, 1e9).map(repr)
    | st.decimals(-(10**9), 10**9, places=3).map(str)
    | st.text("0123456789.-e", max_size=20)
)


def in_payloads(tokens: list[str]) -> tuple[Payloads, Span]:
    payloads = Payloads([b'{"a":' + token.encode() + b"}" for token in tokens])
    lengths = np.array([len(token) for token in tokens])
    ends = np.cumsum(lengths + 6) - 1
    first = payloads.data.index(b"{")
    return payloads, Span(first + ends - lengths, first + ends)


def json_number(token: str) -> int | float | None:
    try:
        value = json.loads(token)
    except ValueError:
        return None
    return value if token == token.strip() and not isinstance(value, bool | None) else None


@settings(max_examples=150, deadline=None)
@given(st.lists(TOKENS, min_size=1, max_size=30))
def test_a_sound_number_is_the_one_that_json_has(tokens: list[str]) -> None:
    payloads, span = in_payloads(tokens)
    assert [text.decode() for text in payloads.texts(span)] == tokens
    for kind, kind_type in ((Kind.INTEGER, int), (Kind.DECIMAL, float)):
        numbers = payloads.numbers(span, kind)
        doubles = numbers.doubles().tolist()
        for token, sound, double, digits in zip(
            tokens, numbers.sound.tolist(), doubles, numbers.digits.tolist(), strict=True
        ):
            value = json_number(token)
            if sound:
                assert type(value) is kind_type, token
                assert double == value and math.copysign(1, double) == math.copysign(1, float(value))
                assert kind is Kind.DECIMAL or digits == value
            elif type(value) is kind_type and "e" not in token:  # what is left to the general path is unusual
                many = sum(map(str.isdigit, token)) > 15
                assert many or re.fullmatch(r"-0(\.0*)?", token), token


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.datetimes(datetime(1969, 12, 31), datetime(2101, 1, 1)).map(lambda at: format_iso(at.replace(tzinfo=UTC)))
        | st.from_regex(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?Z", fullmatch=True)
        | st.text("0123456789-:.TZ+ ", max_size=29),
        min_size=1,
        max_size=30,
    )
)
def test_a_sound_time_is_the_one_that_is_read_and_written_alike(written: list[str]) -> None:
    data = "".join(written).encode()
    lengths = np.array([len(text) for text in written])
    micros, sound = written_times(np.frombuffer(data + bytes(PADDING), np.uint8), np.cumsum(lengths) - lengths, lengths)
    for text, micro, is_sound in zip(written, micros.tolist(), sound.tolist(), strict=True):
        try:
            at = parse_iso(text)
        except (ValueError, OverflowError):
            assert not is_sound, text
            continue
        if is_sound:
            assert micro == to_micros(at) and format_iso(at) == text
        else:
            assert format_iso(at) != text or not datetime(1970, 1, 1, tzinfo=UTC) <= at < datetime(
                2100, 1, 1, tzinfo=UTC
            )


@given(st.lists(st.integers(-10, 5 * 10**12), min_size=1, max_size=20))
def test_milliseconds_are_written_as_everywhere(millis: list[int]) -> None:
    usual = [
        each for each, is_usual in zip(millis, millis_are_usual(np.array(millis)).tolist(), strict=True) if is_usual
    ]
    assert [text.decode() for text in millis_texts(np.array(usual, np.int64))] == [
        format_iso(from_millis(each)) for each in usual
    ]
    assert all(each < 0 or each >= 4_102_444_800_000 for each in set(millis) - set(usual))


# -- which payloads have a template

PAYLOADS = (
    b'{"a": 5, "b": "x"}',
    b'{"a": 7, "b": "longer"}',
    b'{"a": 5, "b": ""}',
    *(b'{"a": 5,"b": "x"}', b'{"a": 5, "b": "x"} ', b'{"a": 5, "b": "x"', b'{"b": "x", "a": 5}', b"{}", b""),
    *(b'{"a": 5, "b": "x", "c": 1}', b'{"a": 5, "b": "x\\"y"}', b'{"a": 5, "b": "\xc3\xa9"}', b'{"a": 5, "b": "\n"}'),
    *(b'{"a": 5, "b": 5}', b'{"a": "5", "b": "x"}', b"x" * (LARGEST + 1)),
)


def test_the_payloads_of_a_template() -> None:
    template, _ = template_of(PAYLOADS[0])
    payloads = Payloads(PAYLOADS)
    fitting = payloads.fitting(template, np.flatnonzero(payloads.sound))
    assert fitting.index.tolist() == [0, 1, 2]
    assert [payloads.texts(span) for span in fitting.spans] == [[b"5", b"7", b"5"], [b"x", b"longer", b""]]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PAYLOADS[:-1]) | st.binary(max_size=25), min_size=1, max_size=30), st.integers(0))
def test_a_payload_has_a_template_if_it_is_its_text_with_values(payloads: list[bytes], which: int) -> None:
    template, _ = template_of(payloads[which % len(payloads)].translate(None, b'\\\n\xc3\xa9"'[:3]))
    joined = Payloads(payloads)
    fitting = joined.fitting(template, np.flatnonzero(joined.sound))
    for place, index in enumerate(fitting.index.tolist()):
        text = template.literals[0]
        for span, literal in zip(fitting.spans, template.literals[1:], strict=True):
            text += joined.texts(span)[place] + literal
        assert text == payloads[index]


# -- what nobody reads


def only_a(message: Message) -> None:
    payload = message.payload()
    message.read(into("battery.level"), payload.get("a"), "a", message.received)


@pytest.mark.parametrize("other", ["5", "-5", "0"])
def test_a_number_that_nobody_reads_must_be_one(other: str) -> None:
    """Else the payload is no JSON, and the general path makes a dead letter of it."""
    wrong = {"7,8", "07", "5-", "", "--1"}
    tokens = [other] * 40 + [*wrong] + [other] * 40
    records = [_record(f'{{"a": 5, "b": {token}, "c": "x"}}'.encode(), at) for at, token in enumerate(tokens)]
    normaliser = ColumnarNormaliser(
        raw_topic("karcher"), Subject("karcher", lambda _: only_a, lambda _: "karcher", Options(), ())
    )
    assert normaliser.normalise(run_of(records)) is None  # the shape is learned
    results = normaliser.normalise(run_of(records))
    assert results is not None
    assert results.index == [at for at, token in enumerate(tokens) if token not in wrong]


def _record(data: bytes, at: int, **fields: Any) -> FetchedRecord:
    received = T0 + timedelta(seconds=at)
    device = "karcher:1"
    one = Envelope(message_id([data, str(at)]), "karcher.datapoints", "t", device, received, data, received)
    return FetchedRecord(raw_topic("karcher"), 0, at, 0, one.key, one.data, tuple(one.headers()))
