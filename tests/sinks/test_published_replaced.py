"""Our own readers open `fleet.duckdb` while it is replaced in a tight loop, and never see two files mixed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

import fleetlake
from fleetlake import published_file
from sinks.duckdb.published import PublishedDatabase

OPENS = 300
REPLACE = """
import os, shutil, sys
folder, files = sys.argv[1], sys.argv[2:]
while True:
    for file in files:
        shutil.copyfile(file, f"{folder}/new")
        os.rename(f"{folder}/new", f"{folder}/fleet.duckdb")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in which two files of different layout replace one another."""
    folder = tmp_path / "data"
    folder.mkdir()
    files = []
    for rows, tables in ((10, 1), (100_000, 8)):
        files.append(str(tmp_path / f"{rows}.duckdb"))
        with duckdb.connect(files[-1]) as connection:
            connection.execute("CREATE TABLE published (location VARCHAR)")
            for number in range(tables):
                connection.execute(f"CREATE TABLE t{number} AS SELECT range AS n, {rows} AS rows FROM range({rows})")
    os.link(files[0], folder / "fleet.duckdb")
    with _replacing(folder, files):
        yield folder


@contextmanager
def _replacing(folder: Path, files: list[str]) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", REPLACE, str(folder), *files])
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def _open_often(folder: Path) -> set[int]:
    seen = set()
    for _ in range(OPENS):
        with fleetlake.connect(folder) as connection:
            rows, count = connection.execute("SELECT any_value(rows), count(*) FROM t0").fetchall()[0]
            assert rows == count
            seen.add(rows)
    return seen


def test_connect_never_mixes_two_files(folder: Path) -> None:
    assert _open_often(folder) == {10, 100_000}
    assert not list(folder.glob(".fleet-*")), "links are removed"


def test_connect_never_mixes_two_files_where_no_link_can_be_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(published_file.os, "link", refuse)
    assert _open_often(folder) == {10, 100_000}


def test_links_of_killed_readers_are_removed(data: Path, sink: PublishedDatabase) -> None:
    sink.publish()
    link = data / ".fleet-1-stray.duckdb"
    os.link(data / "fleet.duckdb", link)
    sink.publish()
    assert link.exists(), "it may be in use"
    later = time.time() + 120
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sinks.duckdb.published.time.time", lambda: later)
        sink.publish()
    assert not link.exists()
