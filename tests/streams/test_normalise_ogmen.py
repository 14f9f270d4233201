"""What an Ogmen event may hold: bounded, whatever is relayed."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from schemas import wire
from schemas.envelope import Envelope
from streams.normalise import Normalised, Options, normalise

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
