"""Envelopes survive Kafka's headers, and what is none is refused with the reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import Envelope, EnvelopeError, dedupe_window_seconds, message_id, read_envelope
from schemas.timestamps import format_iso, from_micros, from_millis, parse_iso, to_micros

TIMES = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))
WORD = st.text(min_size=1, max_size=20)
ENVELOPES = st.builds(
    Envelope,
    id=WORD,
    type=WORD,
    source=WORD,
    device_id=WORD,
    received_at=TIMES,
    data=st.binary(max_size=50),
    time=st.none() | TIMES,
    attributes=st.dictionaries(st.from_regex(r"x[a-z0-9]{0,8}", fullmatch=True), WORD, max_size=3),
)


@given(ENVELOPES)
def test_an_envelope_survives_the_headers(envelope: Envelope) -> None:
    assert read_envelope(envelope.data, envelope.headers()) == envelope
    shouted = [(name.upper(), value) for name, value in envelope.headers()]
    assert read_envelope(envelope.data, shouted) == envelope


SPOILT = st.sampled_from([None, b"", b"\xff", b"yesterday", b"1.0", b"2026-03-16T10:00:00Z"])


@given(ENVELOPES, st.dictionaries(st.integers(0, 7), SPOILT, max_size=2), st.randoms())
def test_the_order_of_headers_changes_nothing(
    envelope: Envelope, spoilt: dict[int, bytes | None], random: Random
) -> None:
    written: list[tuple[str, bytes | None]] = list(envelope.headers())
    for place, value in spoilt.items():
        if place < len(written):
            written[place] = (written[place][0], value)
    shuffled = random.sample(written, len(written))
    assert outcome(written) == outcome(shuffled)


def outcome(headers: list[tuple[str, bytes | None]]) -> Envelope | str:
    try:
        return read_envelope(b"x", headers)
    except EnvelopeError as error:
        return str(error)


def headers(**changes: bytes | None) -> list[tuple[str, bytes | None]]:
    values: dict[str, bytes | None] = dict(
        Envelope("1", "t", "s", "karcher:1", datetime(2026, 3, 16, tzinfo=UTC), b"").headers()
    )
    return list((values | changes).items())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ce_id": b""}, "ce_id is missing"),
        ({"ce_subject": None}, "ce_subject is missing"),
        ({"ce_receivedat": b"soon"}, "ce_receivedat"),
        ({"ce_time": b"soon"}, "ce_time"),
        ({"ce_receivedat": b"0001-01-01T00:00:00+10"}, "ce_receivedat"),
        ({"ce_type": b"\xff"}, "not UTF-8"),
        ({"ce_own": b"\xff"}, "not UTF-8"),
    ],
)
def test_what_is_no_envelope_is_refused(changes: dict[str, bytes | None], reason: str) -> None:
    with pytest.raises(EnvelopeError, match=reason):
        read_envelope(b"", headers(**changes))


def test_other_headers_do_not_disturb() -> None:
    assert read_envelope(None, headers(traceparent=b"x", ce_own=b"1")).attributes == {"own": "1"}


@given(st.lists(st.text(max_size=5) | st.binary(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_ids_of_different_parts_differ(first: list[str | bytes], second: list[str]) -> None:
    plain = [part.encode() if isinstance(part, str) else part for part in first]
    other = [part.encode() for part in second]
    assert (message_id(first) == message_id(second)) is (plain == other)


def test_windows() -> None:
    assert dedupe_window_seconds("ogmen.activity.log") == dedupe_window_seconds("karcher.cleaning.report") == 86400
    assert dedupe_window_seconds("karcher.datapoints") == dedupe_window_seconds("karcher.status", "karcher/rest") == 600
    assert dedupe_window_seconds("wayscloud.publish", "wayscloud/mqtt") == 86400
    assert dedupe_window_seconds("climasense.telemetry", "climasense/http") == 86400


@given(TIMES)
def test_times_survive_text_in_any_zone(at: datetime) -> None:
    assert parse_iso(format_iso(at)) == at
    assert parse_iso(at.replace(tzinfo=None).isoformat()) == at
    assert from_micros(to_micros(at)) == at


@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)), st.integers(-14, 14))
def test_zones(at: datetime, hours: int) -> None:
    zone = timezone(timedelta(hours=hours))
    assert parse_iso(at.replace(tzinfo=zone).isoformat()) == at.replace(tzinfo=zone)
    assert parse_iso(f"{at.isoformat()}{hours:+03d}") == at.replace(tzinfo=zone)


@given(st.integers(-(10**14) // 2, 2 * 10**14))
def test_milliseconds_are_exact(millis: int) -> None:
    assert to_micros(from_millis(millis)) == millis * 1000
    assert abs(to_micros(from_millis(float(millis))) - millis * 1000) <= 1


@pytest.mark.parametrize(
    "text", ["", "soon", "2026", "2026-3-1", "2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z", "T", "Z"]
)
def test_what_is_no_time_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_iso(text)


def test_leap_seconds_and_nanoseconds() -> None:
    assert parse_iso("2016-12-31T23:59:60Z") == datetime(2017, 1, 1, tzinfo=UTC)
    assert parse_iso("2026-01-01T00:00:00.123456789Z").microsecond == 123456
