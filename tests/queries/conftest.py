"""The small fleet, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.queries.fleet import build


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the small fleet's lake and `fleet.duckdb`."""
    return build(tmp_path_factory.mktemp("fleet") / "data")
