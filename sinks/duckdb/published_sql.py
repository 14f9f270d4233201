"""The SQL of `fleet.duckdb`: its tables, its views over the lake, and their comments. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sinks.delta.tables import ALARM_EVENTS_TABLE, DEVICES_TABLE, READINGS_TABLE, Table
from sinks.duckdb import rollups
from sinks.duckdb.rollups import ROLLUPS
from sinks.duckdb.sql import ALARM_COLUMNS, LAKE, LATEST_COLUMNS, name, rows_of, text

STORAGE_VERSION = "v1.2.0"
"""Storage format of the published file, which DuckDB clients since 1.2 read. 1.5 cannot read 2.0's default."""

DATA_FOLDER = "fleetlake_data"
"""Variable of a session that names the data folder if `fleet.duckdb` is attached rather than opened."""

FILE_NAME = "fleet.duckdb"
LINK_PREFIX = ".fleet-"
"""Beginning of the names of readers' private links to the published file, beside it."""

_FILE = r"fleet\.duckdb\.tmp$"
_BESIDE = r"^(.*[/\\])?" + _FILE

UNKNOWN_COLUMN = "Not known to this version of fleetlake: a newer one has added it."

VIEW_OF = {
    "readings": "readings",
    "events": "events",
    "alarm_events": "alarm_events",
    "dead_letters": "dead_letters",
    "devices": "device_history",
}
"""View of the full history, by lake table."""


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A published table: the query that fills it, its comment, and its columns' comments."""

    query: str
    comment: str
    columns: dict[str, str]


PUBLISHED: dict[str, PublishedTable] = {
    "devices": PublishedTable(
        """
SELECT coalesce(r.device_id, s.device_id) AS device_id, coalesce(r.vendor, s.vendor) AS vendor,
  coalesce(r.registered AND NOT r.deleted, false) AS registered, r.name, r.model, r.serial_number, r.firmware_version,
  r.attributes, r.updated_at, s.first_seen, s.last_seen, s.heard
FROM work.registry r FULL JOIN (
  SELECT device_id, any_value(vendor) AS vendor, min(first_seen) AS first_seen, max(last_seen) AS last_seen,
    max(last_heard) AS heard
  FROM work.seen GROUP BY device_id
) s USING (device_id) ORDER BY device_id""",
        "Every device that a registry knows or that has sent something, in its current state.",
        {
            **DEVICES_TABLE.comments,
            "registered": "False for a device that sends but no registry knows, or knows no longer.",
            "first_seen": "When we first received readings or events of it, UTC.",
            "last_seen": "When we last received readings or events of it, UTC.",
            "heard": "When the device itself last spoke, UTC. What we asked for counts by the vendor's time of it.",
        },
    ),
    "latest": PublishedTable(
        f"SELECT {LATEST_COLUMNS} FROM work.latest ORDER BY device_id, metric",
        "The newest reading of each device and metric, by observed_at; times far in the future never win.",
        READINGS_TABLE.comments,
    ),
    "alarms": PublishedTable(
        f"SELECT {ALARM_COLUMNS} FROM work.alarms ORDER BY triggered_at, alarm_id",
        "Each alarm as it stands: all that are open, and those resolved lately. The full history: alarm_events.",
        ALARM_EVENTS_TABLE.comments
        | {"occurrence_count": "How often it occurred.", "status": "active, acknowledged, resolved."},
    ),
    "recent_readings": PublishedTable(
        "FROM work.recent_readings",
        "The readings of the last day or so (bounded by time and number), as a table: quicker than the view readings.",
        READINGS_TABLE.comments,
    ),
    **{
        rollup.name: PublishedTable(
            rollups.published(rollup),
            f"Numbers by device, metric and {rollup.unit} of observed_at, lately; each {rollup.unit} that is there has "
            "all its readings. Longer ago, or other widths: readings_every().",
            READINGS_TABLE.comments | rollups.COMMENTS,
        )
        for rollup in ROLLUPS
    },
    "published": PublishedTable(
        f"""
SELECT table_name, version AS delta_version, (now() AT TIME ZONE 'UTC')::TIMESTAMP AS published_at,
  coalesce(sum(rows), 0)::BIGINT AS rows, count(path) AS files, coalesce(sum(bytes), 0)::BIGINT AS bytes,
  getvariable({text(LAKE)}) || '/' || table_name AS location
FROM work.progress LEFT JOIN work.files USING (table_name) GROUP BY ALL ORDER BY table_name""",
        "What this file shows: the version of each lake table, and its size.",
        {
            "table_name": "Table of the lake.",
            "delta_version": "The version of it that all tables and views here show.",
            "published_at": "When this file was written, UTC.",
            "rows": "Rows in that version.",
            "files": "Parquet files in that version.",
            "bytes": "Their size.",
            "location": "Where the table is: a folder beside this file, or elsewhere, or a URL.",
        },
    ),
}
"""What is published as a table, by name."""


def data_folder(absolute: str) -> str:
    """Return SQL for the data folder, evaluated when a view is bound.

    DuckDB resolves a relative path against the reader's working directory, and an absolute one breaks when the folder
    is moved or mounted elsewhere. But a database that is opened as a file has its temporary directory beside it, so
    the place of `fleet.duckdb` is known wherever it was opened. If it was attached or renamed, the variable
    `fleetlake_data` names the folder; without it, the folder is the one the sink wrote to.
    """
    temporary = "current_setting('temp_directory')"
    return (
        f"coalesce(getvariable({text(DATA_FOLDER)}), CASE WHEN regexp_matches({temporary}, {text(_BESIDE)}) "
        f"THEN regexp_replace({temporary}, {text(_FILE)}, '.') END, {text(absolute)})"
    )


def attach(path: str) -> str:
    """Return SQL that creates the file to publish, in the storage format that older clients read."""
    return f"ATTACH {text(path)} AS published (STORAGE_VERSION {text(STORAGE_VERSION)})"


def publish_table(table: str) -> str:
    """Return SQL that creates a published table from the working tables."""
    return f"CREATE TABLE {name(table)} AS {PUBLISHED[table].query}"


def publish_view(table: Table, files: Sequence[tuple[str, Sequence[str]]], place: str) -> str:
    """Return SQL for a view over the full history of a lake table, which is the files of one version.

    `place` is SQL for the table's folder.
    """
    path = f"{place} || '/' || f"
    return f"CREATE VIEW {name(VIEW_OF[table.name])} AS {rows_of(table, files, path)}"


def comment(kind: str, of: str, comment: str, columns: dict[str, str], present: Iterable[str]) -> list[str]:
    """Return COMMENT ON statements for a table or view and each of its columns."""
    comments = {column: columns.get(column, UNKNOWN_COLUMN) for column in present}
    return [f"COMMENT ON {kind} {name(of)} IS {text(comment)}"] + [
        f"COMMENT ON COLUMN {name(of)}.{name(column)} IS {text(each)}" for column, each in comments.items()
    ]
