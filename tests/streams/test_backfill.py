"""Live and back-filled: each reading is emitted once, whatever was lost, wherever requests and records are cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectors.wayscloud import objects
from schemas import wire
from schemas.envelope import BackfillWindow, Envelope
from schemas.timestamps import format_iso, to_micros
from schemas.topics import READINGS, raw_topic
from streams.normalise.operator import NormaliseOperator
from tests.support.normalising import normalise_step, of, raw

TOPIC = raw_topic("wayscloud")
T0 = datetime(2026, 3, 16, tzinfo=UTC)
PERIOD = 0.35
REACH = 2.0
ROWS = [round(number * PERIOD, 3) for number in range(171)]
"""Seconds at which a value was measured, and stored."""


def at(second: float) -> datetime:
    return T0 + timedelta(seconds=second)


def emitted(step: NormaliseOperator, envelopes: Sequence[Envelope]) -> list[float]:
    """The seconds at which the emitted readings were observed."""
    outputs = step.process([raw(envelope, n, TOPIC) for n, envelope in enumerate(envelopes)], 0)
    made = [wire.decode_observation(output.value or b"") for output in of(outputs, READINGS)]
    return [(to_micros(r.observed_at) - to_micros(T0)) / 1e6 for each in made for r in each.readings]


def live(value: int, received: float) -> Envelope:
    name, data = f"live {received}", b"%d" % value
    attributes = {"mqtttopic": "devices/s/sensors/temperature"}
    return Envelope(
        name, "wayscloud.publish", "wayscloud/mqtt", "wayscloud:s", at(received), data, attributes=attributes
    )


def stored(rows: Sequence[dict[str, Any]], window: BackfillWindow) -> list[Envelope]:
    return list(objects.stored_telemetry(json.dumps(rows).encode(), "wayscloud:s", window, at(3600)))


def back_fill(values: Sequence[int], start: float, end: float, step: float, rows_a_record: int) -> list[Envelope]:
    rows = [
        {"name": "temperature", "value": v, "measured_at": format_iso(at(t))} for v, t in zip(values, ROWS, strict=True)
    ]
    body = json.dumps(rows).encode()
    with patch.object(objects, "_ROWS", rows_a_record):
        return [
            envelope
            for since, until in objects.steps(at(start), at(end), timedelta(seconds=step))
            for envelope in objects.stored_telemetry(body, "wayscloud:s", BackfillWindow(since, until, REACH), at(3600))
        ]


@settings(max_examples=12, deadline=None)
@given(
    kinds=st.sampled_from([1, 2, 5]),
    outage=st.floats(20, 30),
    length=st.floats(0, 12),
    more=st.sets(st.integers(45, 125), max_size=10),
    skew=st.floats(-0.1, 0.05),
    jitter=st.lists(st.floats(0, 0.06), min_size=7, max_size=7),
    start=st.floats(10, 15),
    end=st.floats(46, 50),
    step=st.floats(3, 60),
    rows_a_record=st.sampled_from([1, 7, 500]),
)
@example(1, 20, 12, set(), -0.1, [0.06] * 7, 10.2, 46.2, 60, 500)
def test_each_reading_is_emitted_once_wherever_anything_is_cut(
    kinds: int,
    outage: float,
    length: float,
    more: set[int],
    skew: float,
    jitter: list[float],
    start: float,
    end: float,
    step: float,
    rows_a_record: int,
) -> None:
    """The same values again and again, without a time: a live one comes up to 0.11 s off the time it is stored by."""
    values = [number % kinds for number in range(len(ROWS))]
    missed = {n for n, t in enumerate(ROWS) if outage <= t < outage + length} | more
    came = [live(values[n], t + skew + jitter[n % 7]) for n, t in enumerate(ROWS) if n not in missed]
    normaliser = normalise_step(TOPIC)
    assert len(emitted(normaliser, came)) == len(came)
    back = back_fill(values, start, end, step, rows_a_record)
    assert emitted(normaliser, back) == [ROWS[n] for n in sorted(missed)]
    once_more = back_fill(values, start + 1, end + 1, step, rows_a_record)
    assert emitted(normaliser, once_more) == [], "back-filled once more, cut otherwise"


@given(came=st.integers(0, 5), lost=st.integers(0, 3))
def test_of_equal_readings_within_a_tenth_of_a_second_each_live_one_stands_for_one_stored(came: int, lost: int) -> None:
    normaliser = normalise_step(TOPIC)
    assert len(emitted(normaliser, [live(1, 20 + number / 100) for number in range(came)])) == came
    rows = [
        {"name": "temperature", "value": 1, "measured_at": format_iso(at(20 + n / 100))} for n in range(came + lost)
    ]
    back = stored(rows, BackfillWindow(at(15), at(25), REACH))
    assert len(emitted(normaliser, back)) == lost
    assert emitted(normaliser, stored(rows, BackfillWindow(at(16), at(25), REACH))) == []


@settings(max_examples=8, deadline=None)
@given(
    skew=st.floats(-0.9, 0.9),
    outage=st.floats(24, 30),
    length=st.floats(0, 10),
    step=st.floats(3, 60),
    rows_a_record=st.sampled_from([7, 500]),
)
def test_their_number_is_right_even_if_the_clocks_differ_by_more_than_a_period(
    skew: float, outage: float, length: float, step: float, rows_a_record: int
) -> None:
    """One value all the time, and clocks off by up to three of its periods: which is which nobody can say."""
    missed = {n for n, t in enumerate(ROWS) if outage <= t < outage + length}
    came = [live(1, t + skew) for n, t in enumerate(ROWS) if n not in missed]
    normaliser = normalise_step(TOPIC)
    emitted(normaliser, came)
    found = emitted(normaliser, back_fill([1] * len(ROWS), 12, 48, step, rows_a_record))
    assert len(found) == len(missed)
