"""The SQL of the page, and which roll-up a chart reads (pure). Times leave as milliseconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

STATE_METRICS = ("robot.status", "machine.state", "robot.movement", "power.state", "device.mode")
"""The metrics that tell what a device is doing; the first one that it has counts."""
SHOWN_METRICS = (
    "battery.level",
    "network.signal_strength",
    "environment.temperature",
    "position.x",
    "position.y",
    "orientation.yaw",
    "location.latitude",
    "location.longitude",
    "map.id",
    *STATE_METRICS,
)
"""The metrics that the pages «Fleet» and «Map» show of each device."""

_VALUE = "coalesce(to_json(value_number), to_json(value_text), to_json(value_boolean))"
_METRICS = ", ".join(f"'{metric}'" for metric in SHOWN_METRICS)

_HAS_HEARD = "(SELECT count(*) FROM duckdb_columns() WHERE table_name = 'devices' AND column_name = 'heard')"
_DEVICES = f"""(
  SELECT * REPLACE (CASE WHEN {_HAS_HEARD} = 0 THEN last_seen ELSE heard END AS heard)
  FROM (FROM devices UNION ALL BY NAME SELECT NULL::TIMESTAMP AS heard WHERE false)
)"""
"""The devices; in a file of an older version, which does not know what was heard, what was seen stands for it."""

FLEET = f"""
WITH shown AS (
  SELECT device_id, json_group_object(metric, {_VALUE}) AS metrics
  FROM latest WHERE metric IN ({_METRICS}) GROUP BY device_id
)
SELECT device_id, vendor, name, model, registered, epoch_ms(heard) AS heard, metrics
FROM {_DEVICES} LEFT JOIN shown USING (device_id) ORDER BY device_id"""

PUBLISHED = (
    "SELECT table_name, delta_version, epoch_ms(published_at) AS published_at, rows, files, bytes FROM published"
)

DEVICE = f"""
SELECT device_id, vendor, name, model, registered, serial_number, firmware_version, attributes,
  epoch_ms(first_seen) AS first_seen, epoch_ms(heard) AS heard FROM {_DEVICES} WHERE device_id = ?"""

LATEST = f"""
SELECT metric, {_VALUE} AS value, value_json AS structured, unit, epoch_ms(observed_at) AS at, time_quality,
  value_number IS NOT NULL AS numeric
FROM latest WHERE device_id = ? ORDER BY metric"""

TIMELINE = """
SELECT * FROM (
  SELECT 'event' AS kind, type AS what, coalesce(title, type) AS title, severity, epoch_ms(occurred_at) AS at,
    data AS detail, NULL AS alarm_id
  FROM events WHERE device_id = $device AND occurred_at < make_timestamp($before * 1000)
    AND received_date >= make_timestamp($before * 1000)::DATE - 8
  UNION ALL
  SELECT 'alarm', event_type, title, severity, epoch_ms(created_at), note, alarm_id
  FROM alarm_events WHERE device_id = $device AND created_at < make_timestamp($before * 1000)
) ORDER BY "at" DESC LIMIT $most"""

DEAD_LETTERS = """
SELECT epoch_ms(received_at) AS at, stage, message_type, problems, payload, payload_bytes,
  origin_topic, origin_partition, origin_offset
FROM dead_letters WHERE device_id = ? ORDER BY received_at DESC LIMIT 50"""

ORIGINS = """
SELECT DISTINCT origin_topic AS topic, origin_partition AS partition, origin_offset AS offset
FROM recent_readings WHERE device_id = ? QUALIFY dense_rank() OVER (ORDER BY received_at DESC) <= 20
ORDER BY origin_offset DESC LIMIT 20"""

_ALARM_TIMES = ", ".join(
    f"epoch_ms({column}) AS {column}"
    for column in ("triggered_at", "last_triggered_at", "acknowledged_at", "resolved_at")
)
_ALARM = (
    "alarm_id, device_id, vendor, rule_id, rule_name, severity, title, message, status, metric, occurrence_count, "
    f"{_ALARM_TIMES}"
)
ALARMS = f"SELECT {_ALARM} FROM alarms ORDER BY triggered_at DESC LIMIT 20000"
ALARM = f"""
SELECT {_ALARM} FROM alarm_events WHERE alarm_id = ? ORDER BY sequence DESC LIMIT 1"""
LATER_ALARM = """
SELECT count(*) AS later FROM alarms WHERE device_id = ? AND rule_id = ? AND triggered_at > make_timestamp(? * 1000)"""
ALARM_TIMELINE = """
SELECT sequence, event_type, actor, note, metadata, epoch_ms(created_at) AS at FROM alarm_events
WHERE alarm_id = ? ORDER BY sequence LIMIT 1000"""

DEAD_LETTER_REASONS = """
SELECT vendor, stage, coalesce(json_extract_string(problems, '$[0].reason'), '') AS reason, count(*) AS count,
  epoch_ms(max(received_at)) AS latest
FROM dead_letters WHERE received_date >= current_date - 7 GROUP BY ALL ORDER BY count DESC LIMIT 100"""

GAPS = """
SELECT vendor, device_id, epoch_ms(occurred_at) AS at, title, data FROM events
WHERE type = 'connection_gap' AND received_date >= current_date - 2 ORDER BY occurred_at DESC LIMIT 50"""

NOT_LISTENED = """
SELECT vendor, device_id, epoch_ms(triggered_at) AS since, epoch_ms(resolved_at) AS until FROM alarms
WHERE rule_id = 'pipeline-not-listening' AND last_triggered_at >= now()::TIMESTAMP - INTERVAL 7 DAY
ORDER BY triggered_at DESC LIMIT 50"""

TRAILS = """
SELECT device_id, list({'at': epoch_ms(observed_at), 'x': x, 'y': y} ORDER BY observed_at) AS points FROM (
  SELECT device_id, observed_at, max(value_number) FILTER (metric = 'position.x') AS x,
    max(value_number) FILTER (metric = 'position.y') AS y
  FROM recent_readings WHERE metric IN ('position.x', 'position.y')
    AND observed_at > (SELECT max(observed_at) FROM latest WHERE coalesce(time_quality, 'ok') <> 'future')
      - INTERVAL 3 MINUTE
  GROUP BY device_id, observed_at HAVING x IS NOT NULL AND y IS NOT NULL
) GROUP BY device_id"""

TABLES = """
SELECT c.table_name AS name, any_value(coalesce(t.comment, v.comment)) AS comment,
  list({'name': column_name, 'type': data_type, 'comment': c.comment} ORDER BY column_index) AS columns
FROM duckdb_columns() c
LEFT JOIN duckdb_tables() t ON t.table_name = c.table_name AND t.database_name = 'fleet'
LEFT JOIN duckdb_views() v ON v.view_name = c.table_name AND v.database_name = 'fleet'
WHERE c.database_name = 'fleet' AND NOT c.internal GROUP BY c.table_name ORDER BY c.table_name"""
MACROS = """
SELECT DISTINCT function_name AS name, parameters, comment FROM duckdb_functions() WHERE database_name = 'fleet'
ORDER BY name"""

_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000


@dataclass(frozen=True)
class Series:
    """How a chart of a range of time is read: the query, and the width of its buckets in milliseconds (0: none)."""

    query: str
    width: int


_BUCKETS = """
SELECT metric, epoch_ms(bucket) AS at, min, max, mean, unit FROM {table}
WHERE device_id = $device AND metric IN (SELECT unnest($metrics::VARCHAR[])) AND mean IS NOT NULL
  AND bucket >= make_timestamp($since * 1000) AND bucket < make_timestamp($until * 1000)
ORDER BY metric, bucket"""

_RAW = """
SELECT metric, epoch_ms(observed_at) AS at, value_number AS min, value_number AS max, value_number AS mean, unit
FROM {table} WHERE device_id = $device AND metric IN (SELECT unnest($metrics::VARCHAR[]))
  AND value_number IS NOT NULL
  AND observed_at >= make_timestamp($since * 1000) AND observed_at < make_timestamp($until * 1000)
ORDER BY metric, observed_at LIMIT 50000"""

_EVERY = """
SELECT metric, epoch_ms(time_bucket(to_milliseconds({width}), observed_at)) AS at, min(value_number) AS min,
  max(value_number) AS max, avg(value_number) AS mean, max(unit) AS unit
FROM readings WHERE device_id = $device AND metric IN (SELECT unnest($metrics::VARCHAR[])) AND value_number IS NOT NULL
  AND observed_at >= make_timestamp($since * 1000) AND observed_at < make_timestamp($until * 1000)
GROUP BY ALL ORDER BY metric, "at" """


BEGINNINGS = f"""
SELECT width, epoch_ms(beginning) FROM (
  SELECT 0 AS width, min(received_at) AS beginning FROM recent_readings
  UNION ALL SELECT {_MINUTE}, min(bucket) FROM readings_1m
  UNION ALL SELECT {_HOUR}, min(bucket) FROM readings_1h
) WHERE beginning > (SELECT min(first_seen) FROM devices WHERE device_id = $device)"""
"""By width, from when on a table has a device's readings; without those that have all of them."""


def series(since: int, until: int, beginnings: Mapping[int, int]) -> Series:
    """The query for a chart from `since` to `until`, in milliseconds: single readings, or the roll-up that fits.

    Where the chart begins before the table does (`BEGINNINGS`), the same is read from the full history.
    """
    span = until - since
    for longest, width, table in (
        (90 * _MINUTE, 0, "recent_readings"),
        (30 * _HOUR, _MINUTE, "readings_1m"),
        (60 * _DAY, _HOUR, "readings_1h"),
    ):
        if span <= longest:
            return Series(_query(width, table if since >= beginnings.get(width, since) else "readings"), width)
    return Series(_query(_DAY, "readings"), _DAY)


def _query(width: int, table: str) -> str:
    if width == 0:
        return _RAW.format(table=table)
    return _EVERY.format(width=width) if table == "readings" else _BUCKETS.format(table=table)


DOWNLOAD = """
SELECT device_id, metric, value_number, value_text, value_boolean, value_json, unit, observed_at, received_at
FROM readings WHERE device_id = $device AND observed_at >= make_timestamp($since * 1000)
  AND observed_at < make_timestamp($until * 1000) ORDER BY observed_at, metric"""
