"""Nothing a vendor sends raises, and whatever comes out keeps the contract."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import wire
from schemas.envelope import Envelope
from streams.normalise import Options, normalise
from tests.support.recordings import RECORDINGS, assert_contract, envelope_of

ORIGIN = wire.Origin("telemetry.raw.karcher.v1", 0, 0)
KEYS = st.sampled_from(
    [
        "data",
        "location",
        "value",
        "timestamp",
        "states",
        "name",
        "readings",
        "sensor_type",
        "topic",
        "pose",
        "header",
        "x",
    ]
) | st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("{}") | st.just("1e999"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
LOADED = [json.loads(path.read_text()) for path in RECORDINGS]
TYPES = sorted({(r["type"], r["device_id"], r.get("attributes", {}).get("mqtttopic", "")) for r in LOADED})
WITH_PAYLOAD = [r for r in LOADED if "payload" in r]


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(found for key, item in inner for found in paths(item, (*at, key)))]


def replaced(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = replaced(value[at[0]], at[1:], new)
    return copy


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TYPES), JSON)
def test_any_json_as_any_message(kind: tuple[str, str, str], payload: Any) -> None:
    message_type, device, topic = kind
    check(message_type, device, topic, json.dumps(payload).encode())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TYPES), st.binary(max_size=40))
def test_any_bytes_as_any_message(kind: tuple[str, str, str], data: bytes) -> None:
    check(*kind, data)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_one_bad_field_costs_no_exception(data: st.DataObject) -> None:
    recording = data.draw(st.sampled_from(WITH_PAYLOAD))
    at = data.draw(st.sampled_from(paths(recording["payload"])))
    payload = replaced(recording["payload"], at, data.draw(JSON))
    check(
        recording["type"],
        recording["device_id"],
        recording.get("attributes", {}).get("mqtttopic", ""),
        json.dumps(payload).encode(),
    )


def check(message_type: str, device: str, topic: str, data: bytes) -> None:
    attributes = {"mqtttopic": topic} if topic else {}
    envelope = Envelope(
        "id", message_type, "test", device, datetime(2026, 3, 16, tzinfo=UTC), data, attributes=attributes
    )
    assert_contract(normalise(envelope, ORIGIN, Options()))


def test_a_bad_field_costs_that_field_only() -> None:
    """Each scalar of each documented payload in turn becomes an object: the others are read as before."""
    for recording in WITH_PAYLOAD:
        if not recording["documented"] or recording["type"] != "karcher.datapoints":
            continue
        whole = normalise(envelope_of(recording), ORIGIN, Options()).observation
        assert whole is not None
        for name in recording["payload"]["data"]:
            for key in recording["payload"]["data"][name]:
                broken = replaced(recording, ("payload", "data", name, key), {"not": "this"})
                result = normalise(envelope_of(broken), ORIGIN, Options())
                assert result.observation is not None
                assert result.dead_letter is not None
                assert len(result.observation.readings) == len(whole.readings) - 1
                assert [p.path for p in result.dead_letter.problems] == [f"data.{name}.{key}"]


def test_unknown_type_and_bad_device_id_are_dead_letters() -> None:
    at = datetime(2026, 3, 16, tzinfo=UTC)
    for kind, device, reason in (
        ("karcher.unheard", "karcher:1", "unknown_type"),
        ("nobody.thing", "karcher:1", "unknown_type"),
        ("karcher.datapoints", "nocolon", "bad_device_id"),
        ("karcher.datapoints", "Karcher:1", "bad_device_id"),
    ):
        letter = normalise(Envelope("id", kind, "test", device, at, b"{}"), ORIGIN, Options()).dead_letter
        assert letter is not None
        assert letter.problems[0].reason == reason


def test_a_flood_of_fields_is_bounded() -> None:
    payload = json.dumps({"type": "datapoints", "data": {f"k{i}": i for i in range(500)}, "timestamp": 1}).encode()
    envelope = Envelope("id", "karcher.datapoints", "test", "karcher:1", datetime(2026, 3, 16, tzinfo=UTC), payload)
    result = normalise(envelope, ORIGIN, Options(max_readings=100))
    assert result.observation is not None
    assert result.dead_letter is not None
    assert len(result.observation.readings) == 100
    assert [p.reason for p in result.dead_letter.problems] == ["too_many"]


def test_a_megabyte_of_garbage_is_cut() -> None:
    data = b'{"data":"' + b"x" * (1 << 20)
    envelope = Envelope("id", "karcher.datapoints", "test", "karcher:1", datetime(2026, 3, 16, tzinfo=UTC), data)
    letter = normalise(envelope, ORIGIN, Options()).dead_letter
    assert letter is not None
    assert letter.payload_bytes == len(data)
    assert letter.payload == '{"data":"', "a value cut in two is left out: it could not be recognised as a secret"
