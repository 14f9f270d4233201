"""`fleetlake sql`, `plot` and `export`, as their user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
DEVICES = "SELECT device_id, name, registered FROM devices WHERE vendor = 'karcher' ORDER BY device_id"
ROBOT = "karcher:1.454-500.0/002005"


def run(*arguments: str, data: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLEETLAKE_")}
    return subprocess.run(
        [sys.executable, "-m", "fleetlake", *arguments, "--data", str(data)],
        cwd=data.parent,
        env={**env, "PYTHONPATH": str(ROOT)},
        input="" if text is None else text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_each_format_holds_the_same_rows(fleet: Path, tmp_path: Path) -> None:
    shown = run("sql", DEVICES, data=fleet).stdout
    assert ROBOT in shown and "Lobby" in shown and "true" in shown
    markdown = run("sql", DEVICES, "--format", "markdown", data=fleet).stdout.splitlines()
    assert markdown[0] == "| device_id | name | registered |" and len(markdown) == 6
    csv = run("sql", DEVICES, "--format", "csv", data=fleet).stdout
    assert csv.splitlines()[:2] == ["device_id,name,registered", f"{ROBOT},Lobby,true"]
    lines = run("sql", DEVICES, "--format", "json", data=fleet).stdout.splitlines()
    assert json.loads(lines[0]) == {"device_id": ROBOT, "name": "Lobby", "registered": True}
    for name, read in (("x.parquet", pl.read_parquet), ("x.csv", pl.read_csv), ("x.json", pl.read_ndjson)):
        assert run("sql", DEVICES + ";", "--output", str(tmp_path / name), data=fleet).returncode == 0
        assert read(tmp_path / name).rows() == pl.read_csv(csv.encode()).rows(), name
    run("sql", DEVICES, "--output", str(tmp_path / "x.md"), data=fleet)
    assert (tmp_path / "x.md").read_text().splitlines() == markdown


def test_a_query_comes_from_a_file_from_standard_input_or_as_an_argument(fleet: Path, tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text(
        "CREATE TEMP TABLE t AS SELECT 41 AS x; -- two statements\nSELECT x + 1 AS y FROM t"
    )
    asked = (
        run("sql", "-f", str(tmp_path / "q.sql"), "--format", "csv", data=fleet),
        run("sql", "--format", "csv", data=fleet, text="SELECT 42 AS y"),
        run("sql", "-", "--format", "csv", data=fleet, text="SELECT 42 AS y"),
    )
    assert [one.stdout for one in asked] == ["y\n42\n"] * 3


def test_a_limit_comes_with_a_word_about_it(fleet: Path) -> None:
    few = run("sql", "SELECT range AS n FROM range(5)", "--limit", "2", "--format", "markdown", data=fleet)
    assert few.stdout.splitlines()[2:] == ["| 0 |", "| 1 |"]
    assert "the first 2 rows; there are more" in few.stderr
    assert not run("sql", "FROM range(5)", "--limit", "5", data=fleet).stderr
    assert run("sql", "FROM range(1001)", data=fleet).stderr.startswith("the first 1,000 rows")
    assert len(run("sql", "FROM range(1001)", "--format", "csv", data=fleet).stdout.splitlines()) == 1002


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sql", "SELECT * FORM latest"], ["LINE 1: SELECT * FORM latest", "^"]),
        (["sql", "FROM nope"], ["nope does not exist", "fleetlake sql .tables"]),
        (["sql", "SELECT batery FROM fleet_health"], ["battery_level", ".columns"]),
        (["sql", "DELETE FROM latest"], ["read-only", "fleetlake export"]),
        (["sql", "SELECT 'x'::INTEGER"], ["Could not convert"]),
        (["sql", "FROM latest", "--format", "parquet"], ["--output FILE.parquet"]),
        (["sql", ""], ["the query is empty"]),
        (["sql", "-f", "none.sql"], ["none.sql"]),
        (["plot", "SELECT 1"], ["a column with a time", "readings_1h"]),
        (["plot", "SELECT bucket, mean FROM readings_1h WHERE false"], ["no row to plot"]),
        (["plot", "SELECT bucket, mean FROM readings_1h", "-o", "x.gif"], [".png, .svg"]),
        (["export", "FROM latest", "--to", "x.xls"], [".parquet, .csv"]),
        (["export", "FROM latest", "--to", "nowhere/x.csv"], ["no folder nowhere"]),
        (["export", "--to", "x.csv", "--table", "latest", "FROM latest"], ["not both"]),
        (["export", "--to", "x.csv"], ["no query"]),
    ],
    ids=lambda value: " ".join(value[:2])[:30],
)
def test_an_error_says_what_to_do_next_and_leaves_no_file(arguments: list[str], words: list[str], fleet: Path) -> None:
    result = run(*arguments, data=fleet)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr, result.stderr
    assert not list(fleet.parent.glob("*x.*"))


def test_nothing_published_and_a_lone_file_say_what_to_do(fleet: Path, tmp_path: Path) -> None:
    for command in (["sql", "FROM latest"], ["plot", "FROM latest"], ["export", "FROM latest", "--to", "x.csv"]):
        assert "fleetlake demo" in run(*command, data=tmp_path).stderr
    (tmp_path / "fleet.duckdb").write_bytes((fleet / "fleet.duckdb").read_bytes())
    assert run("sql", "FROM latest", data=tmp_path).returncode == 0
    assert "Copy the whole data folder" in run("sql", "FROM readings", data=tmp_path).stderr


def test_export_writes_a_selection_whole_or_not_at_all(fleet: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    where = "vendor = 'karcher' AND metric = 'water.fresh'"
    result = run("export", "--table", "readings", "--where", where, "--to", str(target), data=fleet)
    assert result.returncode == 0, result.stderr
    [(due,)] = (
        duckdb.connect(str(fleet / "fleet.duckdb"), read_only=True)
        .sql(f"SELECT count(*) FROM readings WHERE {where}")
        .fetchall()
    )
    assert pl.read_parquet(target).height == due and f"{due:,} rows" in result.stderr
    assert "--overwrite" in run("export", "FROM latest", "--to", str(target), data=fleet).stderr
    broken = run("export", "SELECT error('late') FROM readings", "--overwrite", "--to", str(target), data=fleet)
    assert broken.returncode == 1
    assert pl.read_parquet(target).height == due
    assert run("export", "FROM devices", "--to", str(tmp_path / "d.csv.gz"), data=fleet).returncode == 0
    assert pl.read_csv(tmp_path / "d.csv.gz").height == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.csv.gz", "out.parquet"]


def test_a_reader_that_has_had_enough_is_no_error(fleet: Path) -> None:
    command = f"{sys.executable} -m fleetlake sql 'FROM range(200000)' --format csv --data {fleet} | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("range\n", "")


def test_plot_draws_in_the_terminal_and_to_files(fleet: Path, tmp_path: Path) -> None:
    query = "SELECT bucket, device_id, mean FROM readings_1h WHERE metric = 'battery.level' AND vendor = 'karcher'"
    drawn = run("plot", query, "--width", "80", "--height", "12", "--title", "Batteries", data=fleet)
    assert drawn.returncode == 0, drawn.stderr
    assert "Batteries" in drawn.stdout and "\x1b" not in drawn.stdout
    assert len(drawn.stdout.rstrip().splitlines()) == 12 and ROBOT in drawn.stdout
    assert "16 Nov 00:00" in drawn.stdout
    assert run("plot", query, "--output", str(tmp_path / "x.svg"), data=fleet).returncode == 0
    assert "<svg" in (tmp_path / "x.svg").read_text()
