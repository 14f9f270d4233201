"""What the doctor looks at: Kafka, the published tables, this machine."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import duckdb

import fleetlake
from fleetlake.config import Settings
from fleetlake.errors import UserError
from fleetlake.ops.doctor import findings as say
from fleetlake.ops.doctor.findings import Finding, Verdict
from fleetlake.ops.doctor.kafka import examine_kafka
from runtime.kafka import KafkaSettings
from schemas import topics
from schemas.vendors import vendors
from sinks.delta.location import LakeLocation
from sinks.delta.tables import TABLES

_DAY = "now()::TIMESTAMP - INTERVAL 24 HOUR"
_GAPS = f"SELECT vendor, count(*) FROM events WHERE type = 'connection_gap' AND received_at > {_DAY} GROUP BY 1"
_LETTERS = (
    "SELECT coalesce(vendor, '?') || ' ' || coalesce(problems::JSON->0->>'reason', '?'), count(*) FROM dead_letters "
    f"WHERE received_at > {_DAY} GROUP BY 1"
)
_SILENT = f"SELECT device_id FROM devices WHERE registered AND (heard IS NULL OR heard < {_DAY})"
_AGE = "SELECT epoch(now()::TIMESTAMP - max(published_at)) FROM published"


def examine(settings: Settings, find_kafka: Callable[[], KafkaSettings]) -> list[Finding]:
    """Everything that can be seen from here. What cannot be looked at is a finding too."""
    data = settings.pipeline.data
    kafka = _kafka(settings, find_kafka)
    running = not any(f.verdict is Verdict.WRONG and f.subject in ("Kafka", "delta") for f in kafka)
    return [*kafka, *_tables(data, running), *_machine(settings), _versions()]


def _kafka(settings: Settings, find_kafka: Callable[[], KafkaSettings]) -> list[Finding]:
    try:
        kafka = find_kafka()
    except UserError as error:
        return [Finding(Verdict.WRONG, "Kafka", str(error), "start `fleetlake up`")]
    read = {
        "stream": [*(topics.raw_topic(name) for name in vendors()), topics.READINGS],
        "delta": [table.topic for table in TABLES],
    }
    return asyncio.run(examine_kafka(kafka, _lake_id(settings), read))


def _lake_id(settings: Settings) -> str | None:
    """The id of the lake, which names its consumer group; None while there is none."""
    location = LakeLocation.of(settings.pipeline.data, settings.sink.delta)
    try:
        return str(location.open(TABLES[0].name).metadata().id)
    except Exception:  # no lake yet, or a store that does not answer: the tables' findings say so
        return None


def _tables(data: Path, running: bool) -> list[Finding]:
    try:
        with fleetlake.connect(data) as tables:
            return _table_findings(tables, running)
    except FileNotFoundError:
        return [Finding(Verdict.WRONG, "tables", "nothing has been published yet", "start `fleetlake up`")]
    except duckdb.Error as error:
        return [Finding(Verdict.WRONG, "tables", f"they cannot be read: {error}", "`fleetlake lake verify`")]


def _table_findings(tables: duckdb.DuckDBPyConnection, running: bool) -> list[Finding]:
    def counts(query: str) -> dict[str, int]:
        return dict(tables.execute(query).fetchall())

    (age,) = tables.execute(_AGE).fetchone() or (None,)
    (devices,) = tables.execute("SELECT count(*) FROM devices WHERE registered").fetchone() or (0,)
    silent = [name for (name,) in tables.execute(_SILENT).fetchall()]
    return [
        say.published_finding(float(age or 0), running),
        say.count_finding("gaps", counts(_GAPS), "what was sent meanwhile over a WebSocket is not in the tables"),
        say.count_finding("dead letters", counts(_LETTERS), "`fleetlake dead-letters list` shows them"),
        say.stale_finding(silent, devices),
    ]


def _machine(settings: Settings) -> list[Finding]:
    data, umask = settings.pipeline.data, settings.pipeline.umask
    usage = shutil.disk_usage(data if data.exists() else Path.cwd())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    folders = [data / name for name in ("kafka", "lake", "logs", "state", "work")]
    hidden = int(umask, 8)
    readable = [str(folder) for folder in folders if folder.exists() and folder.stat().st_mode & hidden & 0o055]
    most = 2**31 if hard == resource.RLIM_INFINITY else hard
    findings = [say.disk_finding(usage.free, usage.total), say.descriptor_finding(most)]
    return [*findings, say.privacy_finding(readable, umask)]


def _versions() -> Finding:
    packages = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "deltalake", "aiokafka", "faust-streaming"))
    system = f"Python {platform.python_version()} on {platform.system()} {os.uname().release}"
    return Finding(Verdict.OK, "versions", f"fleetlake {fleetlake.__version__}, {packages}, {system}")
