"""Go's PostgreSQL driver, by which Grafana reads, with the SQL server."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
import trustme

from alarm_service.settings import AlarmsSettings
from alarm_service.store.database import alarm_database
from schemas.words import KeyRole
from tests.queries.fleet import build
from tests.sql_server.serving import served

pytestmark = pytest.mark.consumers


def test_pgx_reads(tmp_path: Path) -> None:
    data = build(tmp_path / "data")
    store = alarm_database(AlarmsSettings(), data)
    key = store.keys.create("go", KeyRole.READ, datetime.now(UTC))
    store.close()
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    chain, private, ca = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    issued.cert_chain_pems[0].write_to_path(chain)
    issued.private_key_pem.write_to_path(private)
    authority.cert_pem.write_to_path(ca)
    with served(data, key, (chain, private, ca)) as server:
        url = f"postgres://go:{key}@localhost:{server.port}/fleet?sslmode=verify-full&sslrootcert={ca}"
        done = subprocess.run(
            ["go", "run", ".", url], cwd=Path(__file__).parent / "pgx", capture_output=True, text=True, timeout=240
        )
    assert done.returncode == 0, done.stderr
    with duckdb.connect(data / "fleet.duckdb", read_only=True) as plain:
        rows = plain.execute(
            "SELECT device_id, value_number, strftime(observed_at, '%Y-%m-%dT%H:%M:%SZ') FROM readings "
            "WHERE metric = 'battery.level' AND observed_at > '2026-11-17' ORDER BY observed_at, device_id LIMIT 2"
        ).fetchall()
        counted = plain.execute("SELECT count(*) FROM readings").fetchone()
    assert counted is not None
    expected = [f"{device} {value:g} {at} [1 2] 1.5" for device, value, at in rows]
    assert done.stdout.splitlines() == [*expected, f"{counted[0]} 42703"]
