"""The tables of the lake: columns, order, partitions, and what each means. Pure.

A table is fed by one topic. Each column names the record field that it comes from, so that rows are built column by
column without code for each table. Times are UTC in microseconds, stored without a zone: every reader then shows them
unchanged, and a filter on them can use the files' statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import pyarrow as pa

from schemas import topics, wire
from schemas.vendors import vendor_names

TIMESTAMP = pa.timestamp("us")
PARTITION_DATE = "received_date"
ROW_GROUP_ROWS = 128 * 1024
"""Rows of a Parquet row group: few enough that a sorted file can be read in part."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column and the field it comes from.

    `source` is a path in the record (`origin.topic`), in its item where the table explodes a list (`item.metric`),
    or of the Kafka record itself (`@topic`, `@partition`, `@offset`, `@time`, `@deleted`, `@key`, `@vendor`,
    `@headers`, `@value`).
    """

    name: str
    type: pa.DataType
    source: str
    comment: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the lake.

    `items` names the list of the record that is exploded to one row per entry, if any. `record` is the type that a
    record's value is decoded as; None keeps the bytes.
    """

    name: str
    topic: str
    record: type[msgspec.Struct] | None
    comment: str
    columns: tuple[Column, ...]
    sort_by: tuple[str, ...]
    partition_by: tuple[str, ...] = (PARTITION_DATE,)
    items: str = ""

    @property
    def schema(self) -> pa.Schema:
        """Return the columns as they are written, the partition date last."""
        fields = [pa.field(column.name, column.type) for column in self.columns]
        return pa.schema([*fields, pa.field(PARTITION_DATE, pa.date32())])

    @property
    def order(self) -> tuple[str, ...]:
        """Return the columns by which rows are sorted within a file of one partition."""
        return tuple(name for name in self.sort_by if name not in self.partition_by)

    @property
    def packed(self) -> tuple[str, ...]:
        """Return the columns stored as differences to the previous row: they mostly rise within a device's rows."""
        return tuple(c.name for c in self.columns if c.type in (TIMESTAMP, pa.int64()))

    @property
    def comments(self) -> dict[str, str]:
        """Return comments by column name, in the order of the columns."""
        return {c.name: c.comment for c in self.columns} | {
            PARTITION_DATE: "UTC date of received_at; the lake is partitioned by it: filter on it to read fewer files."
        }


_TEXT = pa.string()

_RECEIVED = Column("received_at", TIMESTAMP, "received_at", "When we received it, UTC.")
_RECORDED = Column("received_at", TIMESTAMP, "@time", "When the record was written to its topic, UTC.")
_DEVICE = Column("device_id", _TEXT, "device_id", "vendor:native-id.")
_VENDOR = Column("vendor", _TEXT, "vendor", "karcher, ogmen, wayscloud, climasense…")
_MESSAGE = Column(
    "message_id", _TEXT, "id", "Id of the vendor message; the same message delivered again has the same one."
)


def _origin(of: str, prefix: str = "origin.") -> tuple[Column, ...]:
    return (
        Column("origin_topic", _TEXT, f"{prefix}topic", f"Topic of {of}."),
        Column("origin_partition", pa.int32(), f"{prefix}partition", f"Partition of {of}."),
        Column("origin_offset", pa.int64(), f"{prefix}offset", f"Offset of {of}."),
    )


_RAW_ORIGIN = _origin("the raw record it was made of")

READINGS_TABLE = Table(
    name="readings",
    topic=topics.READINGS,
    record=wire.Observation,
    items="readings",
    comment="One row per reading: one value of one metric of one device.",
    columns=(
        _DEVICE,
        _VENDOR,
        Column("metric", _TEXT, "item.metric", "Dotted lower case, e.g. battery.level; see the metric catalogue."),
        Column(
            "value_number",
            pa.float64(),
            "item.value_number",
            "The value, if a number. Exactly one value column is set.",
        ),
        Column("value_text", _TEXT, "item.value_text", "The value, if a text."),
        Column("value_boolean", pa.bool_(), "item.value_boolean", "The value, if true or false."),
        Column("value_json", _TEXT, "item.value_json", "The value, if structured: JSON text."),
        Column("unit", _TEXT, "item.unit", "UCUM code for numbers (1 for an index), null for the others."),
        Column("observed_at", TIMESTAMP, "item.observed_at", "When the device says the value held, UTC."),
        _RECEIVED,
        Column("time_source", _TEXT, "item.time_source", "vendor, or received where the vendor gave no time."),
        Column(
            "time_quality", _TEXT, "item.time_quality", "ok, or future or ancient: far off the clock when received."
        ),
        Column("polled", pa.bool_(), "polled", "True: we asked for it. False: the device sent it. Null in old rows."),
        Column("heard_at", TIMESTAMP, "heard_at", "If polled: when the device last spoke, UTC, or null."),
        _MESSAGE,
        *_RAW_ORIGIN,
    ),
    sort_by=("vendor", "device_id", "observed_at", "metric"),
    partition_by=(PARTITION_DATE, "vendor"),
)

EVENTS_TABLE = Table(
    name="events",
    topic=topics.EVENTS,
    record=wire.EventSet,
    items="events",
    comment="One row per discrete fact: cleaning report, alert, activity, command result, connection gap…",
    columns=(
        Column("event_id", _TEXT, "item.event_id", "UUIDv5: the same event received again has the same one."),
        _DEVICE,
        _VENDOR,
        Column("type", _TEXT, "item.type", "cleaning_report, alert, connection_gap…"),
        Column("severity", _TEXT, "item.severity", "critical, major, minor, warning, info, or null."),
        Column("title", _TEXT, "item.title", "A line for people, if there is one."),
        Column("data", _TEXT, "item.data", "The vendor's fields: JSON text."),
        Column("occurred_at", TIMESTAMP, "item.occurred_at", "When it happened, UTC."),
        _RECEIVED,
        Column("time_source", _TEXT, "item.time_source", "vendor, or received where the vendor gave no time."),
        _MESSAGE,
        *_RAW_ORIGIN,
    ),
    sort_by=("device_id", "occurred_at"),
)

ALARM_EVENTS_TABLE = Table(
    name="alarm_events",
    topic=topics.ALARMS,
    record=wire.AlarmEvent,
    comment="The timeline of every alarm: one row per change, with the alarm as it stood then.",
    columns=(
        Column("event_id", _TEXT, "event_id", "UUIDv5 of alarm and sequence."),
        Column("alarm_id", _TEXT, "alarm.alarm_id", "UUIDv5 of device, rule and first trigger."),
        Column("sequence", pa.int32(), "sequence", "1, 2, 3… per alarm."),
        Column(
            "event_type",
            _TEXT,
            "event_type",
            "What changed: triggered, resolved, snooze_ended and so on.",
        ),
        Column("actor", _TEXT, "actor", "rule_engine, vendor, or who did it."),
        Column("note", _TEXT, "note", "What the actor said."),
        Column("metadata", _TEXT, "metadata", "Further facts: JSON text."),
        Column("created_at", TIMESTAMP, "created_at", "When the change happened, UTC."),
        _RECORDED,
        Column("device_id", _TEXT, "alarm.device_id", "vendor:native-id."),
        Column("vendor", _TEXT, "alarm.vendor", "Vendor of the device."),
        Column("rule_id", _TEXT, "alarm.rule_id", "The rule that raised it."),
        Column("rule_name", _TEXT, "alarm.rule_name", "Its name then."),
        Column("severity", _TEXT, "alarm.severity", "critical, major, minor, warning, info."),
        Column("title", _TEXT, "alarm.title", "The alarm in a line."),
        Column("message", _TEXT, "alarm.message", "The alarm in a sentence."),
        Column("status", _TEXT, "alarm.status", "active, acknowledged, resolved: after this change."),
        Column("metric", _TEXT, "alarm.metric", "The metric that crossed the rule's threshold, if one did."),
        Column("triggered_at", TIMESTAMP, "alarm.triggered_at", "When the alarm was first triggered, UTC."),
        Column("last_triggered_at", TIMESTAMP, "alarm.last_triggered_at", "When it last occurred, UTC."),
        Column("acknowledged_at", TIMESTAMP, "alarm.acknowledged_at", "When somebody took note, UTC."),
        Column("resolved_at", TIMESTAMP, "alarm.resolved_at", "When it ended, UTC."),
        Column("occurrence_count", pa.int64(), "alarm.occurrence_count", "How often it occurred, until this change."),
        Column("snoozed_until", TIMESTAMP, "alarm.snoozed_until", "Until when it is not notified, UTC."),
        Column("flapping", pa.bool_(), "alarm.flapping", "Whether it occurred too often lately."),
        *_RAW_ORIGIN,
    ),
    sort_by=("device_id", "alarm_id", "sequence"),
)

DEVICES_TABLE = Table(
    name="devices",
    topic=topics.DEVICES,
    record=wire.Device,
    comment="History of the devices' attributes: one row each time a registry reported them.",
    columns=(
        _DEVICE,
        _VENDOR,
        Column("registered", pa.bool_(), "registered", "False for a device that sends but no registry knows."),
        Column(
            "deleted", pa.bool_(), "@deleted", "True where the registry entry was deleted (a tombstone on the topic)."
        ),
        Column("name", _TEXT, "name", "Its name."),
        Column("model", _TEXT, "model", "Its model."),
        Column("serial_number", _TEXT, "serial_number", "Its serial number."),
        Column("firmware_version", _TEXT, "firmware_version", "Its firmware."),
        Column("attributes", _TEXT, "attributes", "The vendor's further attributes: JSON text."),
        Column("updated_at", TIMESTAMP, "updated_at", "When the registry reported this, UTC."),
        _RECORDED,
        *_origin("the registry record", prefix="@"),
    ),
    sort_by=("device_id", "updated_at"),
)

DEAD_LETTERS_TABLE = Table(
    name="dead_letters",
    topic=topics.DEAD_LETTER,
    record=wire.DeadLetter,
    comment="Messages, or bad parts of them, that could not be used, with the reason.",
    columns=(
        _MESSAGE,
        _DEVICE,
        _VENDOR,
        Column("stage", _TEXT, "stage", "connector, normalise, detect or sink: who could not use it."),
        Column("message_type", _TEXT, "message_type", "Type of the envelope, if it was read."),
        _RECEIVED,
        Column("problems", _TEXT, "problems", "JSON list of path, reason, detail: what was wrong and where."),
        Column(
            "payload", _TEXT, "payload", "The payload as text, cut, and masked where it cannot be redacted by field."
        ),
        Column("payload_bytes", pa.int64(), "payload_bytes", "Its full length in bytes."),
        Column("payload_sha256", _TEXT, "payload_sha256", "Its digest."),
        *_RAW_ORIGIN,
    ),
    sort_by=("vendor", "device_id", "received_at"),
)

RAW_TABLE = Table(
    name="raw",
    topic=topics.raw_topic("*"),
    record=None,
    comment="The raw records, redacted, as they stand in Kafka: for reprocessing when Kafka no longer holds them.",
    columns=(
        Column("device_id", _TEXT, "@key", "vendor:native-id: the record's key."),
        Column("vendor", _TEXT, "@vendor", "Vendor of the raw topic."),
        _RECORDED,
        Column("headers", _TEXT, "@headers", "The headers: a JSON list of name and value, CloudEvents as `ce_…`."),
        Column("value", pa.binary(), "@value", "The vendor's bytes, redacted."),
        *_origin("the record", prefix="@"),
    ),
    sort_by=("vendor", "device_id", "received_at"),
    partition_by=(PARTITION_DATE, "vendor"),
)
"""Optional; each vendor's raw topic feeds it (`raw_tables`)."""


def raw_tables(vendors: Sequence[str] | None = None) -> tuple[Table, ...]:
    """Return the table `raw` once per vendor, each fed by the vendor's topic; by default for all vendors."""
    names = vendor_names() if vendors is None else vendors
    return tuple(replace(RAW_TABLE, topic=topics.raw_topic(name)) for name in names)


TABLES: tuple[Table, ...] = (READINGS_TABLE, EVENTS_TABLE, ALARM_EVENTS_TABLE, DEVICES_TABLE, DEAD_LETTERS_TABLE)
BY_NAME: dict[str, Table] = {table.name: table for table in (*TABLES, RAW_TABLE)}
