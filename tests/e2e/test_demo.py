"""The whole pipeline as a new user runs it, held against what the simulators planted.

One bounded demo with forty devices; ten processes read the published tables while it runs. Then the truth file, the
raw topics, the lake and fleet.duckdb are compared. Under `make chaos` the same, while every stage and the broker's Java
are killed (-9) in turn.
"""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord

import fleetlake
from fleetlake.cli.demo import QUESTIONS
from fleetlake.local.broker import EmbeddedKafka
from schemas import wire
from schemas.contract import FOLDER, PUBLIC
from schemas.envelope import Envelope, read_envelope
from schemas.records import RECORDS
from schemas.topics import ALARMS, DEAD_LETTER, EVENTS, READINGS, raw_topic
from schemas.vendors import BUILT_IN
from streams.normalise import Normalised, Options, normalise
from tests.support.plain_client import OPEN
from tests.support.waiting import eventually_blocking, passing_blocking

SECONDS = {"calm": 45, "chaos": 90}
VICTIMS = (
    "fleetlake stream",
    "fleetlake sink delta",
    "fleetlake sink duckdb",
    "fleetlake connect",
    "java-runtime/bin/java",
)
RECEIVED_ONCE = ("wayscloud", "climasense")
"""Vendors whose messages come again until they are acknowledged. A socket's are lost while nobody listens."""
DEVICES = 40
READERS = 10

READER = (
    OPEN
    + """
import sys, time
path, deadline = sys.argv[1], time.monotonic() + 600
seen, opened = 0, 0
while time.monotonic() < deadline:
    with open_published(path) as c:
        count = c.execute("SELECT count(*) FROM readings").fetchone()[0]
        recent = c.execute("SELECT count(*) FROM latest").fetchone()[0]
    assert count >= seen, f"count went back from {seen} to {count}"
    seen, opened = count, opened + 1
    print(opened, seen, flush=True)
    time.sleep(0.3)  # the pace of a reader
"""
)

Origin = tuple[str, int, int]


@dataclass
class Run:
    """What a demo left behind."""

    data: Path
    output: str
    errors: str
    status: int
    weather: str
    readers: list[tuple[int, str, str]] = field(default_factory=list)

    def must_arrive(self, planted: dict[str, Any]) -> bool:
        """Whether something planted has to have come through."""
        return self.weather == "calm" or planted["vendor"] in RECEIVED_ONCE

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with fleetlake.connect(self.data) as connection:
            return connection.execute(statement).fetchall()

    def truth(self, kind: str) -> list[dict[str, Any]]:
        lines = (self.data / "truth.jsonl").read_text(encoding="utf-8").splitlines()
        return [entry for line in lines if (entry := json.loads(line))["kind"] == kind]


@pytest.fixture(scope="module", params=["calm", pytest.param("chaos", marks=pytest.mark.chaos)])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    weather: str = request.param
    folder = tmp_path_factory.mktemp("demo")
    data = folder / "data"
    command = [sys.executable, "-m", "fleetlake", "demo", "--seconds", str(SECONDS[weather]), "--devices", str(DEVICES)]
    demo = subprocess.Popen(
        [*command, "--data", str(data)], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    published = data / "fleet.duckdb"
    eventually_blocking(lambda: published.exists() or demo.poll() is not None, 120)
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(published)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(READERS if published.exists() else 0)
    ]
    if weather == "chaos":
        threading.Thread(target=_kill_in_turn, args=(data, SECONDS[weather] - 40), daemon=True).start()
    try:
        output, errors = demo.communicate(timeout=300)
        result = Run(data, output, errors, demo.returncode, weather)
        for reader in readers:
            alive = reader.poll() is None
            reader.send_signal(signal.SIGTERM)
            out, err = reader.communicate(timeout=30)
            result.readers.append((0 if alive else reader.returncode, out, err))
        yield result
    finally:
        for process in (demo, *readers):
            if process.poll() is None:
                process.kill()


def test_it_stops_by_itself_and_answers_three_questions(run: Run) -> None:
    assert run.status == 0, f"{run.output}\n{run.errors}\n{_logs(run.data)}"
    for title, _ in QUESTIONS:
        assert title in run.output
    assert "fleetlake sql" in run.output
    assert re.search(r"karcher \d+/s \d+ in", run.output), "no plain status line"
    assert "Traceback" not in run.errors + _logs(run.data)


def test_no_secret_is_in_a_log_or_in_the_tables(run: Run) -> None:
    secrets = ["karcher-demo-secret", "ogmen-demo-secret", "accessToken=", "sk_device_", "sk_sensor_"]
    logs = _logs(run.data) + run.output + run.errors
    assert [secret for secret in secrets if secret in logs] == []
    texts = {str(row) for row in run.rows("SELECT value_text, value_json FROM readings")}
    texts |= {str(row) for row in run.rows("SELECT payload FROM dead_letters")}
    assert [t for t in texts if any(secret in t for secret in secrets)] == []


def test_every_vendor_has_readings_in_both_tables(run: Run) -> None:
    published = dict(run.rows("SELECT vendor, count(*) FROM readings GROUP BY vendor"))
    lake = fleetlake.scan("readings", run.data).group_by("vendor").len().collect()
    assert set(published) == set(BUILT_IN)
    assert published == dict(lake.iter_rows())
    latest = dict(run.rows("SELECT vendor, count(DISTINCT device_id) FROM latest GROUP BY vendor"))
    assert sum(latest.values()) >= DEVICES * 0.9


async def test_origins_in_the_tables_are_those_of_the_raw_topics(run: Run) -> None:
    raw = await _raw_records(run.data)
    for tables in (_published_origins(run), _lake_origins(run)):
        assert tables <= set(raw), "an origin that no raw topic has"
        missing = set(raw) - tables
        first_seen: dict[str, Origin] = {}
        for origin in sorted(raw):
            first_seen.setdefault(raw[origin].id, origin)
        lost = [(origin, raw[origin]) for origin in missing if first_seen[raw[origin].id] == origin]
        # Untimed MQTT packets have no id of their own to be recognised by: a packet sent again is marked by the broker.
        lost = [(origin, envelope) for origin, envelope in lost if "mqttdup" not in envelope.attributes]
        facts = _facts(run)
        lost = [(origin, envelope) for origin, envelope in lost if not _says_nothing_new(envelope, facts)]
        assert lost == [], "raw records that led to nothing and repeat nothing"
        assert missing, "no repeat was planted"


async def test_every_record_keeps_the_contract(run: Run) -> None:
    """Headers by the AsyncAPI document, keys, and values by the records' models, of whatever all vendors sent."""
    document = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))
    channels = {channel["address"]: channel["messages"] for channel in document["channels"].values()}
    seen: Counter[tuple[str, str]] = Counter()
    for record in await _records(run.data):
        messages = channels[record.topic]
        name = next(name for name in messages if name.endswith("-deleted") is (record.value is None))
        schema = document["components"]["messages"][name].get("headers", {"properties": {}})
        headers = {header: value.decode() for header, value in record.headers}
        assert len(headers) == len(record.headers), "a header is there twice"
        unknown = headers.keys() - schema["properties"].keys()
        assert not unknown, f"{record.topic}: {unknown} are not in the document"
        assert headers.keys() >= set(schema.get("required", ())), f"{record.topic}: {headers}"
        assert all(headers[h] == p["const"] for h, p in schema["properties"].items() if h in headers and "const" in p)
        if name in RECORDS and name != "alarm-rule":
            value: Any = RECORDS[name].model_validate_json(record.value)
            device = value.alarm.device_id if record.topic == ALARMS else getattr(value, "device_id", None)
            assert record.key.decode() == (device or value.vendor)
        seen.update((record.topic, header) for header in headers)
    topics = {topic for topic, _ in seen}
    assert topics >= {raw_topic(vendor) for vendor in BUILT_IN} | {READINGS, EVENTS, ALARMS, DEAD_LETTER}
    assert {header for _, header in seen} >= {"ce_mqtttopic", "ce_datapoints", "ce_id", "ce_time", "content-type"}


def test_no_row_is_there_twice(run: Run) -> None:
    doubled = run.rows(
        "SELECT origin_topic, origin_partition, origin_offset, metric, observed_at, count(*) AS n, "
        "count(DISTINCT coalesce(value_number::VARCHAR, value_text, value_boolean::VARCHAR, value_json)) AS different "
        "FROM readings GROUP BY ALL HAVING n > different"
    )
    assert doubled == []


async def test_no_fact_is_there_twice_unless_the_vendor_said_it_twice(run: Run) -> None:
    doubled = run.rows(
        "SELECT device_id, metric, observed_at, value_number, value_text, value_boolean, value_json, "
        "list((origin_topic, origin_partition, origin_offset)) FROM readings GROUP BY ALL HAVING count(*) > 1"
    )
    raw = await _raw_records(run.data)
    for *fact, origins in doubled:
        messages = [raw[tuple(origin)] for origin in origins]
        polls = sum(_normalised(message).is_polled_state for message in messages)
        assert polls <= 1, f"a poll repeats {fact}"  # a socket may say the same as a poll, at the very same time
        assert len({message.data for message in messages}) == len(messages), f"a message repeats {fact}"


def test_each_planted_crossing_is_one_alarm_triggered_and_resolved_once(run: Run) -> None:
    planted = [t for t in run.truth("crossing") if t["detail"]["phase"] == "started"]
    started = Counter((t["device_id"], t["detail"]["metric"]) for t in planted)
    assert len(started) >= 4
    assert set(started.values()) == {1}
    due = {(t["device_id"], t["detail"]["metric"]) for t in planted if run.must_arrive(t)}
    alarms = run.rows(
        "SELECT device_id, metric, status, occurrence_count, resolved_at > triggered_at FROM alarms "
        "WHERE metric IS NOT NULL"
    )
    raised = [(a[0], a[1]) for a in alarms]
    assert len(raised) == len(set(raised))
    assert due <= set(raised) <= set(started)
    assert {a[2:] for a in alarms} == {("resolved", 1, True)}
    events = run.rows(
        "SELECT alarm_id, list(event_type ORDER BY sequence) FROM alarm_events WHERE metric IS NOT NULL GROUP BY 1"
    )
    assert {tuple(kinds) for _, kinds in events} == {("triggered", "resolved")}


def test_every_planted_malformed_message_is_a_dead_letter(run: Run) -> None:
    bad = [t for t in run.truth("malformed") if t["detail"]["expect"] == "dead_letter"]
    planted = {t["detail"]["sha256"]: t for t in bad if run.must_arrive(t)}
    assert len(planted) >= 8
    found = {row[0] for row in run.rows("SELECT payload_sha256 FROM dead_letters")}
    assert [t for digest, t in planted.items() if digest not in found] == []


def test_unknown_fields_are_kept(run: Run) -> None:
    kept = {row[0] for row in run.rows("SELECT DISTINCT vendor FROM readings WHERE metric ILIKE '%vendorExtension%'")}
    planted = {t["vendor"] for t in run.truth("malformed") if t["detail"]["expect"] == "kept" and run.must_arrive(t)}
    assert planted and planted <= kept


def test_ten_readers_saw_no_error_and_no_count_going_back(run: Run) -> None:
    assert len(run.readers) == READERS
    for status, output, errors in run.readers:
        assert status == 0, errors
        assert "Error" not in errors, errors
        assert len(output.splitlines()) >= 5


def _kill_in_turn(data: Path, seconds: float) -> None:
    """Kill -9 one process after the other, for so many seconds from now."""
    ends = time.monotonic() + seconds
    for victim in itertools.cycle(VICTIMS):
        passing_blocking(4, "the pace of the kills")
        if time.monotonic() > ends:
            return
        subprocess.run(["pkill", "-9", "-f", f"{victim}.*{data}"], check=False)


def _logs(data: Path) -> str:
    return "\n".join(path.read_text(errors="replace") for path in sorted((data / "logs").glob("*.log")))


def _published_origins(run: Run) -> set[Origin]:
    statement = " UNION ".join(
        f"SELECT origin_topic, origin_partition, origin_offset FROM {table} WHERE origin_topic IS NOT NULL"
        for table in ("readings", "events", "dead_letters")
    )
    return {tuple(row) for row in run.rows(statement)}  # type: ignore[misc]


def _lake_origins(run: Run) -> set[Origin]:
    columns = ["origin_topic", "origin_partition", "origin_offset"]
    frames = [fleetlake.scan(table, run.data).select(columns) for table in ("readings", "events", "dead_letters")]
    return set(pl.concat(frames).drop_nulls().unique().collect().iter_rows())


Fact = tuple[Any, ...]
"""Device, metric, the vendor's time if there is one, and the value as number, text, boolean and JSON."""


def _facts(run: Run) -> set[Fact]:
    rows = run.rows(
        "SELECT device_id, metric, CASE time_source WHEN 'vendor' THEN observed_at END, "
        "value_number, value_text, value_boolean, value_json FROM readings"
    )
    return {tuple(row) for row in rows}


def _normalised(envelope: Envelope) -> Normalised:
    return normalise(envelope, wire.Origin("", 0, 0), Options())


def _says_nothing_new(envelope: Envelope, facts: set[Fact]) -> bool:
    """Whether this is a polled state of which the tables have every reading."""
    made = _normalised(envelope)
    if not made.is_polled_state or made.observation is None:
        return False
    for r in made.observation.readings:
        at = r.observed_at.replace(tzinfo=None) if r.time_source == "vendor" else None
        if (envelope.device_id, r.metric, at, r.value_number, r.value_text, r.value_boolean, r.value_json) not in facts:
            return False
    return True


_read: dict[Path, list[ConsumerRecord[bytes, bytes]]] = {}


async def _records(data: Path) -> list[ConsumerRecord[bytes, bytes]]:
    """Every committed record of the public topics, read once from the demo's own broker started again."""
    if data in _read:
        return _read[data]
    found: list[ConsumerRecord[bytes, bytes]] = []
    async with EmbeddedKafka(data) as broker:
        consumer = AIOKafkaConsumer(
            *map(raw_topic, BUILT_IN),
            *PUBLIC,
            bootstrap_servers=broker.bootstrap,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            group_id=None,
        )
        async with consumer:
            ends = await consumer.end_offsets(consumer.assignment())
            assert len(ends) >= len(BUILT_IN) + len(PUBLIC)
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    found.extend(records)
    _read[data] = found
    return found


async def _raw_records(data: Path) -> dict[Origin, Envelope]:
    """Origin → envelope of every raw record."""
    raw = set(map(raw_topic, BUILT_IN))
    return {
        (record.topic, record.partition, record.offset): read_envelope(record.value, record.headers)
        for record in await _records(data)
        if record.topic in raw
    }
