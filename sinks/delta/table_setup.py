"""Opening the lake's tables for writing: creation, new columns, table properties, and the topic a table belongs to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from deltalake import DeltaTable, Field, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError

from sinks.delta.durability import sync_commits
from sinks.delta.location import LakeLocation
from sinks.delta.tables import Table
from sinks.settings import DeltaSettings
from sinks.writer import SinkError

log = logging.getLogger(__name__)

TOPIC_ID = "fleetlake.topic_id"
LOG_CLEANUP = "delta.enableExpiredLogCleanup"
"""Table property: whether every commit deletes old log entries. Ours say false, since maintenance does it."""


class TableSetup:
    """Opens tables at a location and compares the topics they were written from with `ids`, the topics' ids now."""

    def __init__(self, location: LakeLocation, settings: DeltaSettings, ids: Mapping[str, str]) -> None:
        self._location = location
        self._settings = settings
        self._ids = ids

    def open(self, table: Table) -> DeltaTable:
        """Return the table, created if missing, with the columns and properties that the product needs.

        Raise SinkError if it was written from another topic and `accept_new_topics` is not set.
        """
        delta = self._create(table)
        before = delta.version() if delta.version() else -1  # the commit that created the table is synced too
        self._add_columns(table, delta)
        if delta.metadata().configuration.get(LOG_CLEANUP) != "false":
            _set_property(delta, LOG_CLEANUP, "false")
        self._accept_topic(table, delta)
        if self._settings.sync:
            sync_commits(delta, before)
        self.check_topic(table, delta)
        return delta

    def check_topic(self, table: Table, delta: DeltaTable) -> None:
        """Raise SinkError if the table was written from another topic than the one that has its name now."""
        written, current = _topic_of(table, delta), self._ids[table.topic]
        if written != current:
            path = self._location.uri(table.name)
            raise SinkError(
                f"topic {table.topic} (id {current}) is not the one that {path} was written from (id {written}): "
                "it was deleted and created again, or this is another cluster. Use another data folder, or set "
                "accept_new_topics = true in [sink.delta] to append the new topic's records from their start."
            )

    def _create(self, table: Table) -> DeltaTable:
        try:
            return self._location.open(table.name)
        except TableNotFoundError:
            pass
        try:
            return DeltaTable.create(
                self._location.uri(table.name),
                table.schema,
                storage_options=dict(self._location.options) or None,
                partition_by=list(table.partition_by),
                name=table.name,
                description=table.comment,
                configuration=self._properties(table),
                raise_if_key_not_exists=False,
            )
        except DeltaError:  # another process was quicker
            return self._location.open(table.name)

    def _properties(self, table: Table) -> dict[str, Any]:
        return {
            _property(table): self._ids[table.topic],
            "delta.logRetentionDuration": f"interval {self._settings.log_retention_hours} hours",
            LOG_CLEANUP: "false",
            "delta.deletedFileRetentionDuration": f"interval {self._settings.retention_hours} hours",
        }

    @staticmethod
    def _add_columns(table: Table, delta: DeltaTable) -> None:
        known = {field.name for field in delta.schema().fields}
        missing = [field for field in Schema.from_arrow(table.schema).fields if field.name not in known]
        if missing:
            delta.alter.add_columns([Field(field.name, field.type, nullable=True) for field in missing])
            delta.update_incremental()

    def _accept_topic(self, table: Table, delta: DeltaTable) -> None:
        """Bind the table to the current topic if it has none yet, or if new topics are accepted."""
        written = _topic_of(table, delta)
        if (self._settings.accept_new_topics or not written) and written != self._ids[table.topic]:
            if written:
                log.warning("delta: table %s continues with the new topic %s", table.name, table.topic)
            _set_property(delta, _property(table), self._ids[table.topic])


def _set_property(delta: DeltaTable, name: str, value: str) -> None:
    delta.alter.set_table_properties({name: value}, raise_if_not_exists=False)
    delta.update_incremental()


def _topic_of(table: Table, delta: DeltaTable) -> str:
    unknown = "" if _property(table) != TOPIC_ID else str(UUID(int=0))
    return str(delta.metadata().configuration.get(_property(table), unknown))


def _property(table: Table) -> str:
    """Return the table property that holds the topic's id; the table `raw` has one per topic."""
    return TOPIC_ID if table.record is not None else f"{TOPIC_ID}.{table.topic}"
