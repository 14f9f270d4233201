"""The columnar path of normalising gives what the general path gives: outputs, state and counters."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from runtime.kafka_records.fetched import FetchedRecord
from schemas.envelope import Envelope, message_id
from schemas.timestamps import parse_iso
from schemas.topics import raw_topic
from streams.engine.step import Output, single_outputs
from streams.normalise import Options
from streams.normalise.duplicates import BYTES_PER_ID, SeenIds
from streams.normalise.operator import NormaliseOperator
from tests.support.columns import run_of
from tests.support.recordings import RECORDINGS, payload_of

T0 = datetime(2026, 3, 16, 12, tzinfo=UTC)
SCALARS = {
    "type": "karcher.datapoints",
    "device_id": "karcher:1.533-002.0/000001",
    "payload": {
        "type": "datapoints",
        "data": {
            "charging": "true",
            "docked": "false",
            "inorbitEnabled": 1,
            "batteryChargeLevel": "0.55",
            "wifiSignal": 0.41,
            "phoneSignal": "-1",
            "machineOperatingDuration": "PT4H12M45S",
            "time": "2026-03-16T07:21:07Z",
            "unheard": 5,
        },
        "timestamp": 1773662399000,
    },
}
LOADED = [*((path.parent.name, json.loads(path.read_text())) for path in RECORDINGS), ("karcher", SCALARS)]
VENDORS = sorted({vendor for vendor, _ in LOADED})
STRANGE: Sequence[Any] = (
    *(None, True, False, {}, [], [1], {"a": 1}, "", " ", "true", "1", "NaN", "{}", '{"uniqueMapId": "m"}'),
    *(0, -0.0, 1e300, -1, 10**15, 10**16, -(10**15), 1 << 64, 0.1, 1e-7, 123456.789, float("inf"), float("nan")),
    *("é", "a\\b", 'a"b', "\x7f", "\n", "2026-03-16T11:59:59Z", "2026-03-16T11:59:59.123456+02:00", "-5", "1.50"),
    *(1773662399000, 4102444800001, -1, "1773662399000", "PT4H12M45S", "98:53:50.29", "2026-02-30T00:00:00Z"),
)


def leaves(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    return [at] if inner is None else [leaf for key, item in inner for leaf in leaves(item, (*at, key))]


def changed(value: Any, at: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    if not at:
        return change(value)
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = changed(value[at[0]], at[1:], change)
    return copy


def usual(value: Any, chance: random.Random) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value + chance.choice((0, 1, -1, 7, 1000, -40))
    if isinstance(value, float):
        return round(value + chance.uniform(-2, 2), chance.choice((0, 1, 2, 6)))
    if chance.random() < 0.5 or "-" in value or "{" in value:
        return value
    return chance.choice((value, f"{chance.random():.2f}", "kitchen", "a, b: {c}", value.upper()))


def varied(recording: dict[str, Any], chance: random.Random, strange: float) -> bytes:
    """The recorded payload with other values, some of them strange, and some of the payloads broken."""
    if "payload" not in recording:
        return payload_of(recording)
    payload = recording["payload"]
    for at in leaves(payload):
        if at and chance.random() < 0.5:
            payload = changed(payload, at, lambda value: usual(value, chance))
        if at and chance.random() < strange / 4:
            payload = changed(payload, at, lambda _: chance.choice(STRANGE))
    text = json.dumps(payload, ensure_ascii=chance.random() < 0.5, separators=chance.choice(((",", ":"), (", ", ": "))))
    data = text.encode()
    if chance.random() < strange / 4:
        at = chance.randrange(len(data))
        data = chance.choice((data[:at], data + data, data[:at] + b"\xff" + data[at:], b"\xef\xbb\xbf" + data, b""))
        data = chance.choice((data, data.replace(b":", b":\n"), data.replace(b"0", b"00", 1), data.replace(b'"', b"'")))
    return data


def envelope(recording: dict[str, Any], data: bytes, number: int, chance: random.Random, strange: float) -> Envelope:
    received = T0 + timedelta(milliseconds=10 * number)
    if "received_at" in recording:
        received = parse_iso(recording["received_at"]) + timedelta(milliseconds=10 * number)
    if chance.random() < strange / 4:
        received += timedelta(seconds=chance.choice((-3600, 700, 90_000)), microseconds=chance.randrange(1_000_000))
    identity = message_id([recording["device_id"], data, str(number)])
    if chance.random() < strange / 4:
        identity = chance.choice(("one", "one", "é", 'a"b', identity[:31] + " ", identity.upper(), "x" * 32, "7" * 32))
    device = chance.choice((recording["device_id"], f"{recording['device_id']}-{chance.randrange(5)}"))
    if chance.random() < strange / 8:
        device = chance.choice(("nocolon", "ogmen:é", "wayscloud:x", 'karcher:"', "karcher:1"))
    return Envelope(
        identity,
        recording["type"],
        chance.choice(("test", "test", "test", "climasense/http")) if strange else "test",
        device,
        received,
        data,
        received if chance.random() < 0.9 else None,
        attributes=recording.get("attributes", {}),
    )


def strange_headers(headers: list[tuple[str, bytes | None]], chance: random.Random) -> list[tuple[str, bytes | None]]:
    at = chance.randrange(len(headers))
    name, value = headers[at]
    other = chance.choice((None, b"", b"\xff", b"2026-02-30T00:00:00Z", b"2026-03-16T12:00:00.5Z", value, b"0" * 27))
    made = chance.choice(
        (
            [*headers[:at], *headers[at + 1 :]],
            [*headers[:at], (name, other), *headers[at + 1 :]],
            [*headers[:at], (name.upper(), value), *headers[at + 1 :]],
            [*headers, ("ce_replay", b"1")],
            [*headers, ("other", None)],
            headers[::-1],
            [],
        )
    )
    return list(made)


def record_of(vendor: str, one: Envelope, offset: int, chance: random.Random, strange: float) -> FetchedRecord:
    headers: list[tuple[str, bytes | None]] = list(one.headers())
    key: bytes | None = one.key
    value: bytes | None = one.data
    if chance.random() < strange / 8:
        headers = strange_headers(headers, chance)
    if chance.random() < strange / 8:
        key, value = chance.choice(((None, value), (b"", value), (b"other", value), (key, None), (None, None)))
    return FetchedRecord(raw_topic(vendor), 0, offset, 1773662399000 + offset, key, value, tuple(headers))


def stream(vendor: str, chance: random.Random, kinds: int, strange: float, runs: int) -> list[list[FetchedRecord]]:
    """Runs of records of a few message types, with gaps between their offsets."""
    of_vendor = [recording for name, recording in LOADED if name == vendor]
    chosen = chance.sample(of_vendor, min(kinds, len(of_vendor)))
    made, offset, number = [], chance.randrange(1000), 0
    for _ in range(runs):
        records: list[FetchedRecord] = []
        for _ in range(chance.choice((33, 64, 150))):
            if records and chance.random() < strange / 8:
                records.append(_again(chance.choice(records), offset))
            else:
                recording = chance.choice(chosen)
                one = envelope(recording, varied(recording, chance, strange), number, chance, strange)
                records.append(record_of(vendor, one, offset, chance, strange))
            offset += chance.choice((1, 1, 1, 1, 5))
            number += 1
        made.append(records)
    return made


def _again(record: FetchedRecord, offset: int) -> FetchedRecord:
    return FetchedRecord(
        record.topic, record.partition, offset, record.timestamp, record.key, record.value, record.headers
    )


COUNTED = ("records_in", "records_out", "readings_out", "duplicates", "dead_letters", "left_out")


def counted() -> dict[tuple[str, str], float]:
    return {
        (sample.name, json.dumps(sample.labels, sort_keys=True)): sample.value
        for metric in REGISTRY.collect()
        if metric.name.removeprefix("fleetlake_") in COUNTED
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


def columnar_records(vendor: str) -> float:
    labels = {"vendor": vendor, "path": "columnar"}
    return REGISTRY.get_sample_value("fleetlake_normalised_records_total", labels) or 0.0


Result = tuple[list[dict[str, list[Output]]], Any, dict[tuple[str, str], float]]


def by_topic(outputs: Iterable[Output]) -> dict[str, list[Output]]:
    topics: dict[str, list[Output]] = {}
    for output in outputs:
        topics.setdefault(output.topic, []).append(output._replace(headers=tuple(output.headers)))
    return topics


def normalised(
    vendor: str, runs: Sequence[Sequence[FetchedRecord]], *, columnar: bool, dedupe_bytes: int = 64 << 20
) -> Result:
    """Outputs of each run by topic, the state afterwards, and what was counted."""
    operator = NormaliseOperator(raw_topic(vendor), Options(), dedupe_bytes)
    before, outputs = counted(), []
    for records in runs:
        made = operator.process(run_of(records) if columnar else records, 0)
        outputs.append(by_topic(single_outputs(made)))
    after = counted()
    state = (
        [_remembered(seen) for seen in (operator._duplicates.short, operator._duplicates.long)],
        operator.source_progress,
        operator._states.__dict__,
    )
    return outputs, state, {name: value - before.get(name, 0.0) for name, value in after.items()}


def _remembered(seen: SeenIds) -> Any:
    return list(seen._last_seen.items()), list(seen._order), list(seen._order_at), seen._latest, seen.cut


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(VENDORS), st.integers(0, 1 << 32), st.integers(1, 6), st.sampled_from((0.0, 0.1, 1.0)))
def test_both_paths_give_the_same(vendor: str, seed: int, kinds: int, strange: float) -> None:
    runs = stream(vendor, random.Random(seed), kinds, strange, 4)
    assert normalised(vendor, runs, columnar=True) == normalised(vendor, runs, columnar=False)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 300))
def test_both_paths_remember_the_same_ids_within_a_small_bound(seed: int, ids: int) -> None:
    runs = stream("karcher", random.Random(seed), 2, 0.3, 4)
    both = [
        normalised("karcher", runs, columnar=columnar, dedupe_bytes=ids * BYTES_PER_ID) for columnar in (True, False)
    ]
    assert both[0] == both[1]


@pytest.mark.parametrize(("vendor", "recording"), LOADED, ids=lambda each: each if isinstance(each, str) else "")
def test_every_recording_gives_the_same(vendor: str, recording: dict[str, Any]) -> None:
    """Each recording, good or hostile, many times with other values and as it is."""
    chance = random.Random(7)
    records: list[list[FetchedRecord]] = []
    for run in range(3):
        run_records = []
        for number in range(40):
            strange = 1.0 if number % 8 == 7 else 0.0
            data = payload_of(recording) if number % 4 == 3 else varied(recording, chance, strange)
            at = 40 * run + number
            run_records.append(record_of(vendor, envelope(recording, data, at, chance, 0.0), at, chance, 0.0))
        records.append(run_records)
    assert normalised(vendor, records, columnar=True) == normalised(vendor, records, columnar=False)


def _columnar_share(vendor: str, recording: dict[str, Any]) -> float:
    """Of the recording, many times with other values of the same kind, once its shape is known."""
    chance = random.Random(7)
    operator = NormaliseOperator(raw_topic(vendor), Options())
    before = 0.0
    for run in range(3):
        before = columnar_records(vendor)
        records = []
        for at in range(100 * run, 100 * run + 100):
            data = json.dumps(_renumbered(recording["payload"], chance)).encode()
            records.append(record_of(vendor, envelope(recording, data, at, chance, 0.0), at, chance, 0.0))
        operator.process(run_of(records), 0)
    return (columnar_records(vendor) - before) / 100


def _renumbered(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        return {name: _renumbered(inner, chance) for name, inner in value.items()}
    return value + chance.randrange(100) if type(value) is int else value


@pytest.mark.parametrize(
    "name",
    [
        *("karcher/datapoints_location", "karcher/datapoints_kira", "karcher/datapoints_mcu_main_info"),
        *("climasense/telemetry", "climasense/all_types"),
    ],
)
def test_messages_of_a_known_shape_take_the_columnar_path(name: str) -> None:
    vendor, stem = name.split("/")
    (recording,) = (json.loads(p.read_text()) for p in RECORDINGS if (p.parent.name, p.stem) == (vendor, stem))
    assert _columnar_share(vendor, recording) > 0.7  # a tenth has no time in its envelope
