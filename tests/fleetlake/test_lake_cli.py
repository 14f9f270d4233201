"""The commands that look after the lake, as one types them; and erasing a device."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fleetlake
from fleetlake.cli.main import app
from fleetlake.ops.erase import delete_files, erase_rows, wait_for_published
from sinks.duckdb.published import PublishedDatabase
from sinks.settings import DuckdbSettings
from tests.support.lake import count, filled


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["lake", *arguments])
    assert result.exit_code == status, result.output
    return result.output


def test_a_table_is_shown_merged_and_cleared_of_what_was_replaced(tmp_path: Path) -> None:
    filled(tmp_path, commits=5)
    folder = str(tmp_path)
    stats = {row["table"]: row for row in json.loads(run("stats", "--json", "-d", folder))}
    assert (stats["readings"]["rows"], stats["readings"]["files"]) == (70, 5)
    assert stats["readings"]["first day"] and stats["events"]["rows"] == 0
    assert json.loads(run("compact", "readings", "--json", "-d", folder)) == [
        {"table": "readings", "files merged": 5, "into": 1, "expired": 0}
    ]
    assert "readings" in run("compact", "-d", folder)
    assert json.loads(run("vacuum", "readings", "--json", "-d", folder)) == [{"table": "readings", "files deleted": 0}]
    replaced = json.loads(run("vacuum", "readings", "--dry-run", "--hours", "0", "--json", "-d", folder))
    assert replaced == [{"table": "readings", "files to delete": 5}]
    assert json.loads(run("vacuum", "readings", "--hours", "0", "--json", "-d", folder))[0]["files deleted"] == 5
    assert count(tmp_path, "readings") == 70


def test_a_wrong_table_or_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no lake in"):
        CliRunner().invoke(app, ["lake", "stats", "-d", str(tmp_path)], catch_exceptions=False)
    filled(tmp_path, commits=1)
    with pytest.raises(Exception, match="no table 'reading' in"):
        CliRunner().invoke(app, ["lake", "stats", "reading", "-d", str(tmp_path)], catch_exceptions=False)


def test_two_lakes_that_differ_end_with_status_1(tmp_path: Path) -> None:
    filled(tmp_path / "a", commits=3)
    run("diff", str(tmp_path / "a"), str(tmp_path / "a"))
    filled(tmp_path / "b", commits=2)
    differences = json.loads(run("diff", str(tmp_path / "a"), str(tmp_path / "b"), "--json", status=1))
    assert (differences[0]["missing"], differences[0]["extra"], len(differences[0]["examples"])) == (14, 0, 14)
    assert "missing" in run("diff", str(tmp_path / "a"), str(tmp_path / "b"), "--examples", "3", status=1)


def test_what_a_device_told_is_erased_from_tables_and_disk(tmp_path: Path) -> None:
    location = filled(tmp_path, commits=4)
    (tmp_path / "work").mkdir()
    with closing(PublishedDatabase(tmp_path, DuckdbSettings())) as sink:
        sink.publish()
        done = erase_rows(location, "karcher:3")
        assert (done.rows["readings"], done.rows["events"]) == (8, 0)
        assert not wait_for_published(tmp_path, done, 0), "fleet.duckdb still tells it"
        sink.publish()
        assert wait_for_published(tmp_path, done, 0)
    delete_files(location, done)
    with fleetlake.connect(tmp_path) as connection:
        for table in ("readings", "latest", "recent_readings", "devices"):
            devices = connection.execute(f"SELECT DISTINCT device_id FROM {table}").fetchall()
            assert len(devices) == 6 and ("karcher:3",) not in devices
    files = list((tmp_path / "lake" / "readings").rglob("*.parquet"))
    assert files and not any(b"karcher:3" in file.read_bytes() for file in files if "_delta_log" not in str(file))
