"""`fleet.duckdb`: what its tables and views show of the lake."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow as pa
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.schema import PrimitiveType

from schemas import wire
from schemas.topics import ALARMS, DEAD_LETTER, DEVICES, EVENTS, READINGS
from sinks.delta.rows import to_rows
from sinks.delta.table_setup import TableSetup
from sinks.delta.tables import ALARM_EVENTS_TABLE
from sinks.duckdb.published import PublishedDatabase
from sinks.duckdb.published_sql import PUBLISHED, UNKNOWN_COLUMN, VIEW_OF
from sinks.duckdb.views import MACROS, VIEWS
from tests.support.lake import Writing, ask, number_of
from tests.support.records import DEVICE, record_of
from tests.support.samples import NOON, alarm_event, dead_letter, device, event_set, observation


def test_before_anything_arrives_every_table_is_there_and_empty(data: Path, sink: PublishedDatabase) -> None:
    sink.publish()
    for name in [*PUBLISHED, *VIEW_OF.values(), *VIEWS]:
        assert number_of(data, name) == 0


def test_every_lake_table_is_shown(data: Path, sink: PublishedDatabase) -> None:
    writing = Writing(data)
    writing.write(READINGS, observation(1), observation(2, device="ogmen:7"))
    writing.write(EVENTS, event_set(1))
    writing.write(ALARMS, alarm_event(1, "active", "triggered"), alarm_event(2, "resolved", "resolved"))
    writing.write(DEVICES, device("old name"), device("Robot 5"))
    writing.write(DEAD_LETTER, dead_letter(1))
    sink.publish()
    assert {view: number_of(data, view) for view in VIEW_OF.values()} == {
        "readings": 4,
        "events": 1,
        "alarm_events": 2,
        "device_history": 2,
        "dead_letters": 1,
    }
    assert number_of(data, "recent_readings") == 4
    assert number_of(data, "latest") == 4
    assert ask(data, "SELECT status, occurrence_count, resolved_at IS NOT NULL FROM alarms") == [("resolved", 2, True)]
    assert ask(data, "SELECT device_id, registered, name, last_seen FROM devices ORDER BY ALL") == [
        (DEVICE, True, "Robot 5", NOON.replace(tzinfo=None)),
        ("ogmen:7", False, None, NOON.replace(tzinfo=None)),
    ]
    assert {type(moment) for (moment,) in ask(data, "SELECT observed_at FROM readings")} == {datetime}
    assert ask(data, "SELECT typeof(observed_at) FROM readings LIMIT 1") == [("TIMESTAMP",)]
    assert ask(data, "SELECT rows, files FROM published WHERE table_name = 'readings'") == [(4, 2)]


def test_an_alarm_shows_its_snooze_and_whether_it_flaps_also_in_a_lake_of_before(
    data: Path, sink: PublishedDatabase
) -> None:
    older = ALARM_EVENTS_TABLE.schema
    for name in ("snoozed_until", "flapping"):
        older = older.remove(older.get_field_index(name))
    rows = to_rows(
        ALARM_EVENTS_TABLE, [record_of(wire.encode(alarm_event(1, "active", "triggered")), topic=ALARMS)]
    ).table
    path = data / "lake" / "alarm_events"
    write_deltalake(path, rows.select(older.names), partition_by=["received_date"])
    sink.publish()
    assert ask(data, "SELECT snoozed_until, flapping FROM alarms") == [(None, None)]
    delta = DeltaTable(path)
    TableSetup._add_columns(ALARM_EVENTS_TABLE, delta)
    event = alarm_event(2, "active", "snoozed")
    event.alarm = msgspec.structs.replace(
        event.alarm, snoozed_until=datetime(2026, 3, 16, 12, tzinfo=UTC), flapping=True
    )
    changed = record_of(wire.encode(event), 1, ALARMS)
    write_deltalake(path, to_rows(ALARM_EVENTS_TABLE, [changed]).table, mode="append")
    sink.publish()
    expected = [(datetime(2026, 3, 16, 12), True)]
    assert ask(data, "SELECT snoozed_until, flapping FROM alarms") == expected
    assert ask(data, "SELECT snoozed_until, flapping FROM alarm_events ORDER BY sequence") == [(None, None), *expected]


def test_a_device_whose_registry_entry_is_deleted_is_shown_as_unregistered(data: Path, sink: PublishedDatabase) -> None:
    writing = Writing(data)
    writing.write(READINGS, observation(1))
    writing.write(DEVICES, device("Robot 5"), None)
    sink.publish()
    assert ask(data, "SELECT registered, name FROM devices") == [(False, None)]


def test_late_data_goes_to_the_day_it_was_received(data: Path, sink: PublishedDatabase) -> None:
    writing = Writing(data)
    writing.write(READINGS, *(observation(n, at=NOON - timedelta(days=n), received=NOON) for n in range(60)))
    sink.publish()
    assert number_of(data, "readings") == 120
    assert ask(data, "SELECT files FROM published WHERE table_name = 'readings'") == [(1,)]


def test_a_new_column_shows_in_the_view_beside_files_without_it(data: Path, sink: PublishedDatabase) -> None:
    writing = Writing(data)
    writing.write(READINGS, observation(1))
    sink.publish()
    DeltaTable(data / "lake" / "readings").alter.add_columns([Field("site", PrimitiveType("string"))])
    newer = DeltaTable(data / "lake" / "readings")
    old = newer.to_pyarrow_table()
    write_deltalake(
        newer, old.set_column(old.column_names.index("site"), "site", pa.array(["hall"] * 2)), mode="append"
    )
    sink.publish()
    assert sorted(ask(data, "SELECT site FROM readings"), key=repr) == [("hall",), ("hall",), (None,), (None,)]
    assert ask(data, "SELECT comment FROM duckdb_columns() WHERE column_name = 'site'") == [(UNKNOWN_COLUMN,)]


def test_every_table_view_and_column_explains_itself(data: Path, sink: PublishedDatabase) -> None:
    sink.publish()
    silent = ask(
        data,
        "SELECT table_name, NULL FROM duckdb_tables() WHERE comment IS NULL AND database_name = 'fleet' UNION ALL "
        "SELECT view_name, NULL FROM duckdb_views() WHERE comment IS NULL AND NOT internal "
        "AND database_name = 'fleet' UNION ALL "
        "SELECT table_name, column_name FROM duckdb_columns() WHERE comment IS NULL AND database_name = 'fleet' "
        "AND NOT internal UNION ALL "
        "SELECT function_name, NULL FROM duckdb_functions() WHERE comment IS NULL AND database_name = 'fleet'",
    )
    assert silent == []
    unknown = f"SELECT table_name, column_name FROM duckdb_columns() WHERE comment = '{UNKNOWN_COLUMN}'"
    assert ask(data, unknown) == []
    assert {
        name for (name,) in ask(data, "SELECT function_name FROM duckdb_functions() WHERE database_name = 'fleet'")
    } == set(MACROS)
