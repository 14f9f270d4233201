"""docs/tables.md states every table and column that there is, in the words of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from sinks.delta.tables import RAW_TABLE, TABLES, Table
from sinks.duckdb import sql
from sinks.duckdb.published_sql import PUBLISHED, VIEW_OF
from sinks.duckdb.views import MACROS, VIEWS
from sinks.settings import DeltaSettings, DuckdbSettings

TYPES = {**sql._TYPES, pa.binary(): "BLOB"}
TEXT = (Path(__file__).parents[2] / "docs" / "tables.md").read_text()


@pytest.mark.parametrize("table", [*TABLES, RAW_TABLE], ids=lambda table: table.name)
def test_every_column_is_documented_and_no_other(table: Table) -> None:
    section = TEXT.split(f"### `{table.name}`")[1].split("###")[0]
    documented = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", section, re.MULTILINE)
    assert {name: comment for name, _, comment in documented} == table.comments
    assert [(name, kind) for name, kind, _ in documented] == [(f.name, TYPES[f.type]) for f in table.schema], (
        "types are stable"
    )


def test_every_published_table_and_every_setting_named_exists() -> None:
    for name in [*PUBLISHED, *VIEW_OF.values(), *VIEWS]:
        assert f"`{name}`" in TEXT
    documented = dict(re.findall(r"^\| `(\w+)\(([\w, ]*)\)` \|", TEXT, re.MULTILINE))
    assert documented == {name: re.sub(r" := [^,]*", "", macro.parameters) for name, macro in MACROS.items()}
    settings = {**DeltaSettings.model_fields, **DuckdbSettings.model_fields}
    for name, value in re.findall(r"`(\w+_(?:days|rows|hours))` \(([\d,]+)\)", TEXT):
        assert settings[name].default == int(value.replace(",", "")), name
