"""The dbt project of docs/examples/dbt runs on `fleet.duckdb`, which it leaves as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.dbt


def test_the_project_builds(fleet: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "docs" / "examples" / "dbt", project)
    before = (fleet / "fleet.duckdb").read_bytes()
    done = subprocess.run(
        [os.environ["FLEETLAKE_DBT"], "build", "--profiles-dir", "."],
        cwd=project,
        env=os.environ | {"FLEET_DATA": str(fleet), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS=14 WARN=0 ERROR=0 SKIP=0" in done.stdout
    with duckdb.connect(project / "report.duckdb", read_only=True) as report:
        [(rows, readings)] = report.execute("SELECT count(*), sum(readings) FROM daily_metrics").fetchall()
        alarms = report.execute("SELECT rule_id, alarms, open FROM alarm_response ORDER BY rule_id").fetchall()
    with duckdb.connect() as plain:
        plain.execute(f"ATTACH '{fleet / 'fleet.duckdb'}' AS fleet (READ_ONLY)")
        expected = plain.execute(
            "SELECT count(*) FROM fleet.readings WHERE value_number IS NOT NULL AND time_quality = 'ok'"
        ).fetchone()
        counted = plain.execute(
            "SELECT rule_id, count(*), count(*) FILTER (status <> 'resolved') FROM fleet.alarms GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert expected == (readings,) and rows > 20 and alarms == counted
    assert (fleet / "fleet.duckdb").read_bytes() == before
