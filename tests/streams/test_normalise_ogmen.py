"""What an Ogmen event may hold: bounded, whatever is relayed."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import wire
from schemas.envelope import Envelope
from streams.normalise import Normalised, Options, normalise
from streams.normalise.ogmen import yaw_of
from streams.normalise.values import FieldError
from tests.support.normalised import events_of, normalised, problems_of

NOW = datetime(2026, 3, 16, 7, 21, 7, tzinfo=UTC)


def channel(message: dict[str, Any]) -> Normalised:
    envelope = Envelope("id", "ogmen.channel", "t", "ogmen:r", NOW, json.dumps(message).encode())
    return normalise(envelope, wire.Origin("t", 0, 0), Options())


def only_event(result: Normalised) -> wire.Event:
    assert result.dead_letter is None and result.events is not None
    (event,) = result.events.events
    return event


def test_what_is_too_large_for_an_event_is_described() -> None:
    event = only_event(channel({"topic": "costmap", "frame": "map", "cells": [0] * 20_000}))
    facts = json.loads(event.data)
    assert (event.type, facts["topic"], facts["frame"]) == ("relayed", "costmap", "map")
    assert facts["members"] == ["topic", "frame", "cells"] and facts["characters"] > 40_000
    many = only_event(channel({"topic": "x"} | {f"name{n}": "v" * 100 for n in range(5000)}))
    assert len(many.data) < 32_768


def test_a_map_of_millions_of_cells_is_a_small_event() -> None:
    origin = {"position": {"x": 0, "y": 0, "z": 0}, "orientation": {"x": 0, "y": 0, "z": 0, "w": 1}}
    info = {"resolution": 0.05, "width": 2000, "height": 1300, "origin": origin}
    message = {"topic": "map", "header": {"frame_id": "map"}, "info": info, "data": [-1] * 2_600_000}
    started = time.process_time()
    event = only_event(channel(message))
    assert time.process_time() - started < 5
    assert json.loads(event.data)["cells"] == 2_600_000 and len(event.data) < 1000


def _product(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    """Of two quaternions (x, y, z, w): the rotation `b`, then `a`."""
    (x, y, z, w), (p, q, r, s) = a, b
    return (
        w * p + x * s + y * r - z * q,
        w * q - x * r + y * s + z * p,
        w * r + x * q - y * p + z * s,
        w * s - x * p - y * q - z * r,
    )


def _about(axis: int, degrees: float) -> tuple[float, ...]:
    half = math.radians(degrees) / 2
    return (*(math.sin(half) if each == axis else 0.0 for each in range(3)), math.cos(half))


@given(st.floats(-179, 179), st.floats(-80, 80), st.floats(-80, 80), st.floats(0.001, 1000))
def test_the_heading_of_a_quaternion_whatever_pitch_and_roll_and_length(
    yaw: float, pitch: float, roll: float, length: float
) -> None:
    turned = _product(_product(_about(2, yaw), _about(1, pitch)), _about(0, roll))
    quaternion = dict(zip("xyzw", (part * length for part in turned), strict=True))
    assert yaw_of(quaternion) == pytest.approx(yaw, abs=1e-6)


@pytest.mark.parametrize(
    ("quaternion", "reason"),
    [
        (None, "wrong_type"),
        ([0, 0, 0, 1], "wrong_type"),
        ({"x": 0, "y": 0, "z": 0}, "missing"),
        ({"x": 0, "y": 0, "z": 0, "w": 0}, "out_of_range"),
    ],
)
def test_what_is_no_rotation_has_no_heading(quaternion: Any, reason: str) -> None:
    with pytest.raises(FieldError) as error:
        yaw_of(quaternion)
    assert error.value.reason == reason


def test_transforms_have_the_time_of_the_latest() -> None:
    seconds = int(NOW.timestamp())
    stamped = [{"header": {"stamp": {"sec": seconds - ago, "nanosec": 0}}} for ago in (60, 10, 30)]
    observation = channel({"topic": "tf", "transforms": stamped}).observation
    assert observation is not None
    assert [reading.observed_at for reading in observation.readings] == [NOW - timedelta(seconds=10)]


@pytest.mark.parametrize(("severity", "word"), [(1, "critical"), (5, "info")])
def test_an_alert_has_the_severity_of_its_number(severity: int, word: str) -> None:
    alert = {"timestamp": "2026-03-16T07:00:00Z", "uuid": "u", "source": "s", "header": "h", "body": "b"}
    (event,) = events_of(normalised("ogmen.alert", alert | {"severity": severity}))
    assert event.severity == word


@pytest.mark.parametrize("severity", [0, 6, 2.5, "two", True])
def test_an_alert_whose_severity_is_none_of_five_is_kept_and_says_so(severity: Any) -> None:
    alert = {"timestamp": "2026-03-16T07:00:00Z", "uuid": "u", "source": "s", "header": "h", "body": "b"}
    result = normalised("ogmen.alert", alert | {"severity": severity})
    assert len(events_of(result)) == 1
    assert [path for path, _ in problems_of(result)] == ["severity"]
