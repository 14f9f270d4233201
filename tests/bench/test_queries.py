"""The questions of `make bench ONLY=queries` mean the same in every layout, and the layouts hold the same."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import duckdb

from bench.history import bytes_a_reading, days_of, generate
from bench.queries import questions, systems
from sinks.duckdb.published import PublishedDatabase
from sinks.settings import DuckdbSettings


def test_all_layouts_answer_alike(tmp_path: Path) -> None:
    rows = generate(tmp_path, days=0.05, robots=1)
    assert 0.04 < days_of(rows, robots=1) < 0.06
    (tmp_path / "work").mkdir()
    with closing(PublishedDatabase(tmp_path, DuckdbSettings())) as sink:
        sink.publish()
    for system in systems(tmp_path):
        with closing(system.connect()) as connection:
            assert connection.execute(f"SELECT count(*) FROM {system.readings}").fetchone() == (rows,)
    answers = {}
    for question in questions():
        results = []
        for system in systems(tmp_path):
            with closing(system.connect()) as connection:
                results.append(connection.execute(system.sql(question)).fetchall())
        assert results[0] == results[1] == results[2], question.name
        answers[question.name] = len(results[0])
    assert answers.pop("vendor_day") == 0  # of a day before this lake begins
    assert all(answers.values())
    taken = bytes_a_reading(tmp_path, rows)
    assert max(taken["fleetlake"], taken["parquet"], taken["duckdb"]) < taken["json"]


def test_what_is_generated_is_taken_as_it_is(tmp_path: Path) -> None:
    rows = generate(tmp_path, days=0.02, robots=1)
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    assert generate(tmp_path, days=5) == rows
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
    with duckdb.connect(tmp_path / "plain.db", read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM readings").fetchone() == (rows,)
