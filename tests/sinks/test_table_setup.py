"""Opening tables: properties, new columns, and the topic that a table belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable

from sinks.delta.location import LakeLocation
from sinks.delta.table_setup import LOG_CLEANUP, TOPIC_ID, TableSetup
from sinks.delta.tables import READINGS_TABLE, raw_tables
from sinks.settings import DeltaSettings
from sinks.writer import SinkError

NIL = "00000000-0000-0000-0000-000000000000"


def setup(folder: Path, topic_id: str = "1", **settings: object) -> TableSetup:
    ids = {table.topic: topic_id for table in (READINGS_TABLE, *raw_tables())}
    return TableSetup(LakeLocation(str(folder)), DeltaSettings(**settings), ids)  # type: ignore[arg-type]


def properties(table: DeltaTable) -> dict[str, str]:
    return {name: value for name, value in table.metadata().configuration.items() if value is not None}


def test_a_new_table_has_the_products_schema_and_properties(tmp_path: Path) -> None:
    table = setup(tmp_path, log_retention_hours=7, retention_hours=3).open(READINGS_TABLE)
    assert [field.name for field in table.schema().fields] == READINGS_TABLE.schema.names
    assert table.metadata().partition_columns == list(READINGS_TABLE.partition_by)
    assert properties(table) == {
        TOPIC_ID: "1",
        LOG_CLEANUP: "false",
        "delta.logRetentionDuration": "interval 7 hours",
        "delta.deletedFileRetentionDuration": "interval 3 hours",
    }


def test_opening_a_table_that_is_right_commits_nothing(tmp_path: Path) -> None:
    setup(tmp_path).open(READINGS_TABLE)
    assert setup(tmp_path).open(READINGS_TABLE).version() == 0


def test_another_topic_is_refused_with_both_ids(tmp_path: Path) -> None:
    setup(tmp_path).open(READINGS_TABLE)
    with pytest.raises(SinkError, match=rf"{READINGS_TABLE.topic} \(id 2\) is not the one .* \(id 1\)"):
        setup(tmp_path, "2").open(READINGS_TABLE)


def test_another_topic_is_accepted_if_the_settings_say_so_and_then_stays(tmp_path: Path) -> None:
    setup(tmp_path).open(READINGS_TABLE)
    assert properties(setup(tmp_path, "2", accept_new_topics=True).open(READINGS_TABLE))[TOPIC_ID] == "2"
    setup(tmp_path, "2").open(READINGS_TABLE)
    with pytest.raises(SinkError):
        setup(tmp_path, "1").open(READINGS_TABLE)


def test_a_table_without_a_topics_id_belongs_to_a_broker_without_ids(tmp_path: Path) -> None:
    DeltaTable.create(str(tmp_path / "readings"), READINGS_TABLE.schema, partition_by=list(READINGS_TABLE.partition_by))
    setup(tmp_path, NIL).open(READINGS_TABLE)
    with pytest.raises(SinkError, match=f"id {NIL}"):
        setup(tmp_path, "1").open(READINGS_TABLE)


def test_the_raw_table_is_bound_to_every_vendors_topic_separately(tmp_path: Path) -> None:
    first, second = raw_tables(("karcher", "ogmen"))
    setup(tmp_path).open(first)
    table = setup(tmp_path).open(second)
    assert {name for name in properties(table) if name.startswith(TOPIC_ID)} == {
        f"{TOPIC_ID}.{first.topic}",
        f"{TOPIC_ID}.{second.topic}",
    }


def test_columns_are_added_once(tmp_path: Path) -> None:
    older = READINGS_TABLE.schema.remove(READINGS_TABLE.schema.get_field_index("time_quality"))
    DeltaTable.create(
        str(tmp_path / "readings"), older,
        partition_by=list(READINGS_TABLE.partition_by), configuration={TOPIC_ID: "1"},
        raise_if_key_not_exists=False,
    )  # fmt: skip
    names = [field.name for field in setup(tmp_path).open(READINGS_TABLE).schema().fields]
    assert sorted(names) == sorted(READINGS_TABLE.schema.names)
    version = setup(tmp_path).open(READINGS_TABLE).version()
    assert setup(tmp_path).open(READINGS_TABLE).version() == version
