"""A data folder, and the database that is published in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sinks.duckdb.published import PublishedDatabase
from sinks.settings import DuckdbSettings


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "da'ta"
    (folder / "work").mkdir(parents=True)
    return folder


@pytest.fixture
def sink(data: Path) -> Iterator[PublishedDatabase]:
    with closing(PublishedDatabase(data, DuckdbSettings())) as published:
        yield published
