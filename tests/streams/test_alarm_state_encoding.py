"""State as earlier versions wrote it: it is read, written as the same bytes, and goes on to the same alarms."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.detect.operators import OPERATORS
from streams.detect.options import DetectOptions
from streams.detect.state import decode_state, encode_state
from tests.streams.alarm_story import HALF, STEPS, Story

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "alarm_state.json").read_text())
"""`full`, `empty` and `states` (of the story, cut in half) were made by the code before the packages of 2026-11-28.
`states_now` are the same states today, with the fields that were added since; `before` and `after` are digests of the
story's outputs today, states included."""

OPTIONS = DetectOptions(late_allowance=6_000_000, inhibition_wait=5_000_000, quiet={"ogmen": 120_000_000})


def story() -> Story:
    return Story(lambda topic, partition: OPERATORS[topic](partition, OPTIONS))


def digest(outputs: Iterable[tuple[str, bytes, bytes]]) -> str:
    made = hashlib.sha256()
    for topic, key, value in outputs:
        made.update(b"%d %d %d " % (len(topic), len(key), len(value)) + topic.encode() + key + value)
    return made.hexdigest()


def stored(name: str, which: str = "states") -> dict[bytes, bytes]:
    return {b64decode(key): b64decode(value) for key, value in GOLDEN[which][name].items()}


@pytest.mark.parametrize("name", ["full", "empty"])
def test_every_field_is_written_as_it_was(name: str) -> None:
    assert_is_kept(b64decode(GOLDEN[name]))


def assert_is_kept(before: bytes) -> None:
    """Read and written, the state has all fields as they were, and behind them only new ones that are empty."""
    written, was = (msgspec.msgpack.decode(each) for each in (encode_state(decode_state(before)), before))
    assert written[: len(was)] == was
    assert not any(written[len(was) :])


def test_states_of_the_story_are_written_as_they_were() -> None:
    values = [value for name in GOLDEN["states"] for key, value in stored(name).items() if not key.endswith(b"#seen")]
    assert len(values) >= 5
    for value in values:
        assert_is_kept(value)


def test_the_story_has_the_same_outputs_byte_by_byte() -> None:
    """Alarms, states and what goes to other partitions: nothing has changed, and the second half goes on from state."""
    played = story()
    assert digest(played.run(0, HALF)) == GOLDEN["before"]
    assert played.states == {name: stored(name, "states_now") for name in GOLDEN["states_now"]}
    played.restart()
    assert digest(played.run(HALF, STEPS)) == GOLDEN["after"]
