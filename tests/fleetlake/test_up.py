"""Several stream workers side by side: they share the partitions, and the tables tell everything once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import LiteralString, cast

import aiohttp
import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

import fleetlake
from fleetlake.config import load_settings
from fleetlake.local.broker import find_bootstrap
from fleetlake.local.health_ports import FIRST_STREAM_WORKER, fixed_ports
from fleetlake.local.orchestrator import stream_workers
from runtime.metrics import parse_samples
from runtime.ports import free_port
from tests.support.otlp import Receiver, otlp_receiver
from tests.support.ports import free_ports
from tests.support.prometheus import Prometheus, alert_rules, queries, running_prometheus, without_macros
from tests.support.waiting import eventually, passing

HOST = "127.0.0.2"  # not the one that is asked where none is configured
SELDOM = {
    "Alarm events",
    "Duplicates dropped",
    "Connections lost and restored",
    "Dead letters",
    "Dead letters by reason",
}
SELDOM |= {"Alarm rules", "Cleaning sessions", "Alarms raised", "Open alarms by age"}
"""Panels about what may not happen within seconds."""

NAME = "FLEETLAKE_STREAM__INSTANCE_ID"


def test_each_worker_has_a_name_of_its_own(tmp_path: Path) -> None:
    here = {"data": tmp_path}
    (alone,) = stream_workers(load_settings(None, pipeline=here)).items()
    three = stream_workers(load_settings(None, pipeline={**here, "stream_workers": 3}))
    assert list(three) == ["stream", "stream-2", "stream-3"]
    assert (next(iter(three.items())), len({env[NAME] for env in three.values()})) == (alone, 3)
    named = stream_workers(load_settings(None, pipeline={**here, "stream_workers": 2}, stream={"instance_id": "a"}))
    assert [env[NAME] for env in named.values()] == ["a", "a-2"]


@pytest.fixture
async def otlp() -> AsyncIterator[Receiver]:
    async with otlp_receiver() as receiver:
        yield receiver


async def test_two_workers_share_the_work(tmp_path: Path, otlp: Receiver) -> None:
    data = tmp_path / "data"
    command = [sys.executable, "-m", "fleetlake", "demo", "--devices", "8", "--data", str(data)]
    base = free_ports(FIRST_STREAM_WORKER + 2)
    environment = {
        "FLEETLAKE_PIPELINE__STREAM_WORKERS": "2",
        "FLEETLAKE_PIPELINE__HEALTH_PORT": str(base),
        "FLEETLAKE_PIPELINE__HEALTH_HOST": HOST,
        "FLEETLAKE_SQL__ENABLED": "true",
        "FLEETLAKE_SQL__SIGN_IN": "false",
        "FLEETLAKE_SQL__PORT": str(sql_port := free_port()),
        "FLEETLAKE_TRACING__ENABLED": "true",
        "FLEETLAKE_TRACING__SAMPLE_RATIO": "1",
        "FLEETLAKE_TRACING__ENDPOINT": otlp.url,
    }
    demo = await asyncio.create_subprocess_exec(
        *command,
        cwd=tmp_path,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(90):
            while await _members(data, "fleetlake") < 2 or not (data / "fleet.duckdb").exists():
                assert demo.returncode is None
                await passing(0.3, "between two looks at Kafka")
        await passing(5, "both work for a while")
        await eventually(lambda: _way_is_measured(base), 60)
        with running_prometheus(tmp_path / "prometheus", _addresses(base)) as prometheus:
            await eventually(lambda: len(prometheus.query("process_start_time_seconds offset 5s")) == 6)
            _queries_have_answers(prometheus, sql_port)
        message = await eventually(lambda: _followed_to_the_lake(otlp), what=lambda: len(otlp.spans))
        print(f"one message through {', '.join(message)}")
        status, examined = await _doctor(data)
        assert (status, [f for f in examined if f["verdict"] == "WRONG"]) == (0, []), examined
        assert {"topics", "stream", "delta", "clocks", "tables", "gaps", "dead letters", "devices", "disk"} <= {
            finding["subject"] for finding in examined
        }
        assert any(f["subject"] == "stream" and f["what"].startswith("2 processes read") for f in examined)
        demo.send_signal(signal.SIGINT)
        output, _ = await asyncio.wait_for(demo.communicate(), 90)
    finally:
        if demo.returncode is None:
            demo.kill()
    assert demo.returncode == 0, output
    status, examined = await _doctor(data)
    assert (status, [f["subject"] for f in examined if f["verdict"] == "WRONG"]) == (1, ["Kafka"])
    with fleetlake.connect(data) as tables:
        partitions = "SELECT count(DISTINCT origin_partition) FROM readings"
        assert tables.execute(partitions).fetchone() == (2,)
        origin = "origin_topic, origin_partition, origin_offset"
        twice = f"SELECT {origin}, metric, observed_at FROM readings GROUP BY ALL HAVING count(*) > 1"
        assert tables.execute(twice).fetchall() == []
    exposed = [path for path in [data, *data.rglob("*")] if not path.is_symlink() and path.stat().st_mode & 0o077]
    assert not exposed, "nobody else may read tables, logs or state"
    left = (data / "effective.toml").read_text()
    assert "client_secret" in left, "the configuration can still be seen"
    assert load_settings(data / "effective.toml").karcher.client_secret.get_secret_value() == "********"
    for log in ("stream.log", "stream-2.log"):
        assert "CRITICAL" not in (data / "logs" / log).read_text()


async def _measured_hops(base: int) -> set[str]:
    """The hops that have been measured, by the metrics that each stage serves on its fixed port."""
    hops = set()
    for stage, port in fixed_ports(base, ["connect", "stream", "stream-2", "delta", "duckdb", "ui"]).items():
        async with aiohttp.ClientSession() as session, session.get(f"http://{HOST}:{port}/metrics") as answer:
            samples = parse_samples(await answer.text())
        assert samples, stage
        counts = [(labels, value) for name, labels, value in samples if name == "fleetlake_hop_seconds_count"]
        hops |= {labels["hop"] for labels, value in counts if value > 0}
    return hops


async def _way_is_measured(base: int) -> bool:
    return await _measured_hops(base) == {
        *("vendor_receipt", "receipt_raw", "receipt_readings"),
        *("readings_table", "receipt_table", "table_published"),
    }


def _followed_to_the_lake(otlp: Receiver) -> list[str]:
    """The stages that one message went through: the trace that its connector began, and the batches that link to it."""
    for span in otlp.spans:
        if span.service == "fleetlake-connect" and span.name == "receive karcher.datapoints":
            way = otlp.way_of(span)
            names = [f"{each.name} ({each.service})" for each in way.values()]
            if {"normalise telemetry.raw.karcher.v1", "write telemetry.readings.v1"} <= {w.name for w in way.values()}:
                return [span.name, *names]
    return []


def _addresses(base: int) -> dict[str, str]:
    ports = fixed_ports(base, ["connect", "stream", "delta", "duckdb", "alarms", "ui", "sql"])
    return {stage: f"{HOST}:{port}" for stage, port in ports.items()}


def _queries_have_answers(prometheus: Prometheus, sql_port: int) -> None:
    """Every query of the dashboards has an answer, and every alert rule is evaluated without an error."""
    without = {title for title, query in queries("pipeline") if not prometheus.query(query)}
    assert without <= SELDOM | {"Notifications"}, "no alarm service runs here"
    (group,) = prometheus.get("/api/v1/rules")["groups"]
    assert {rule["name"]: (rule["health"], rule.get("lastError")) for rule in group["rules"]} == {
        rule["alert"]: ("ok", None) for rule in alert_rules()
    }
    firing = {alert["labels"]["alertname"] for alert in prometheus.get("/api/v1/alerts")["alerts"]}
    assert firing <= {"FleetlakeStageDown", "FleetlakeNotListening"}, "pending for `alarms`, which does not run"
    with psycopg.connect(host="127.0.0.1", port=sql_port, dbname="fleet", user="grafana", autocommit=True) as tables:
        now = datetime.now(UTC)
        for title, query in queries("fleet"):
            asked = without_macros(query, _iso(now - timedelta(days=1)), _iso(now))
            answer = tables.execute(cast(LiteralString, asked))
            assert answer.description and (answer.fetchall() or title in SELDOM), title


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


async def _doctor(data: Path) -> tuple[int | None, list[dict[str, str]]]:
    """The exit status and the findings of `fleetlake doctor`."""
    command = [sys.executable, "-m", "fleetlake", "doctor", "--json", "--data", str(data)]
    doctor = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    output, _ = await asyncio.wait_for(doctor.communicate(), 90)
    return doctor.returncode, json.loads(output)


async def _members(data: Path, group: str) -> int:
    """How many members the group has; none as long as there is no broker."""
    if (bootstrap := find_bootstrap(data)) is None:
        return 0
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        (answer,) = await admin.describe_consumer_groups([group])
        return len(answer.groups[0][5])
    except (KafkaError, OSError):
        return 0
    finally:
        await admin.close()
