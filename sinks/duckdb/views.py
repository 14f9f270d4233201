"""Views and macros that `fleet.duckdb` brings: what people would write themselves, each with its comment. Pure.

They read the published tables and the views of the lake by name, so they show the same state. No macro's parameter has
the name of a column, because inside the macro it would hide the column.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.coverage import NOT_LISTENING, OURS
from sinks.duckdb import rollups
from sinks.duckdb.sql import HEARD_AT

_NOW = "(SELECT max(last_seen) FROM devices)"
_ORDER = "observed_at, received_at, origin_offset"


@dataclass(frozen=True, slots=True)
class View:
    """A view: its query, its comment, and its columns' comments."""

    query: str
    comment: str
    columns: dict[str, str]


@dataclass(frozen=True, slots=True)
class Macro:
    """A macro: its parameters (with defaults), its query or expression, and its comment."""

    parameters: str
    body: str
    comment: str
    table: bool = True


_DEVICE = {"device_id": "vendor:native-id.", "vendor": "karcher, ogmen, wayscloud, climasense…"}

_RANK = "CASE severity WHEN 'critical' THEN 1 WHEN 'major' THEN 2 WHEN 'minor' THEN 3 WHEN 'warning' THEN 4 ELSE 5 END"

_FLEET_HEALTH = f"""
WITH reported AS (
  SELECT device_id,
    max(value_number) FILTER (metric = 'battery.level') AS battery_level,
    max(value_number) FILTER (metric = 'network.signal_strength') AS signal_strength,
    coalesce(max(value_text) FILTER (metric = 'robot.status'), max(value_text) FILTER (metric = 'machine.state'),
      max(value_text) FILTER (metric = 'robot.movement'), max(value_text) FILTER (metric = 'power.state'),
      max(value_text) FILTER (metric = 'device.mode')) AS state
  FROM latest GROUP BY device_id
), raised AS (
  SELECT device_id, count(*) AS open_alarms, min_by(severity, {_RANK}) AS worst_severity
  FROM alarms WHERE status <> 'resolved' GROUP BY device_id
)
SELECT device_id, vendor, name, model,
  CASE WHEN last_seen IS NULL THEN 'never seen'
    WHEN heard IS NULL OR heard < {_NOW} - INTERVAL 1 HOUR THEN 'silent'
    WHEN worst_severity IN ('critical', 'major') THEN 'alarm'
    WHEN battery_level < 20 THEN 'battery low'
    ELSE 'ok' END AS health,
  last_seen, heard, {_NOW} - heard AS silent_for, battery_level, signal_strength, state,
  coalesce(open_alarms, 0) AS open_alarms, worst_severity
FROM devices LEFT JOIN reported USING (device_id) LEFT JOIN raised USING (device_id)"""

_CLEANING_SESSIONS = """
SELECT event_id, device_id, vendor, data ->> '$.reportId' AS report_id,
  try_cast(data ->> '$.startedAt' AS TIMESTAMP) AS started_at,
  try_cast(data ->> '$.finishedAt' AS TIMESTAMP) AS finished_at,
  try_cast(data ->> '$.actualOperatingTimeInSeconds' AS DOUBLE) / 60 AS operating_minutes,
  try_cast(data ->> '$.cleanedSquareMeter' AS DOUBLE) AS area,
  try_cast(data ->> '$.distance' AS DOUBLE) AS distance,
  try_cast(data ->> '$.battery' AS DOUBLE) AS battery,
  try_cast(data ->> '$.water' AS DOUBLE) AS water,
  try_cast(data ->> '$.detergents' AS DOUBLE) AS detergents,
  data ->> '$.executionMode' AS execution_mode, data ->> '$.suctionMode' AS suction_mode, occurred_at, received_at
FROM events WHERE type = 'cleaning_report'
QUALIFY row_number() OVER (PARTITION BY device_id, event_id ORDER BY received_at DESC, origin_offset DESC) = 1"""

_ALARM_MTTR = """
WITH timeline AS (
  SELECT vendor, rule_id, rule_name, severity, event_type, created_at,
    last_value(CASE WHEN event_type IN ('triggered', 'reopened') THEN created_at END IGNORE NULLS) OVER alarm AS began,
    lag(event_type) OVER alarm AS before
  FROM alarm_events WINDOW alarm AS (PARTITION BY device_id, alarm_id ORDER BY sequence)
), timed AS (
  SELECT *, epoch(created_at - began) / 60 AS minutes,
    event_type IN ('triggered', 'reopened') AS begins, event_type = 'resolved' AS ends,
    event_type = 'acknowledged' AND before <> 'acknowledged' AS taken
  FROM timeline
)
SELECT rule_id, max_by(rule_name, created_at) AS rule_name, vendor, max_by(severity, created_at) AS severity,
  count(*) FILTER (begins) AS raised, count(*) FILTER (ends) AS resolved,
  count(*) FILTER (begins) - count(*) FILTER (ends) AS open,
  avg(minutes) FILTER (taken) AS mean_minutes_to_acknowledge,
  avg(minutes) FILTER (ends) AS mean_minutes_to_resolve,
  median(minutes) FILTER (ends) AS median_minutes_to_resolve,
  max(minutes) FILTER (ends) AS longest_minutes_to_resolve
FROM timed GROUP BY rule_id, vendor"""

VIEWS: dict[str, View] = {
    "fleet_health": View(
        _FLEET_HEALTH,
        "One row per device: is it well? As of the newest moment in this file (fleet_now()).",
        {
            **_DEVICE,
            "name": "Its name.",
            "model": "Its model.",
            "health": "The first that holds: never seen, silent (over an hour), alarm (critical or major), "
            "battery low (under 20 %), ok.",
            "last_seen": "When we last received readings or events of it, UTC.",
            "heard": "When the device itself last spoke, UTC.",
            "silent_for": "How long before fleet_now() that was.",
            "battery_level": "Latest battery.level, %.",
            "signal_strength": "Latest network.signal_strength, dB[mW].",
            "state": "What it does, in the vendor's words: robot.status, machine.state, robot.movement, power.state or "
            "device.mode, the first that it reports.",
            "open_alarms": "Alarms that are not resolved.",
            "worst_severity": "The worst severity of those.",
        },
    ),
    "cleaning_sessions": View(
        _CLEANING_SESSIONS,
        "One row per cleaning report, in its newest version. Full history.",
        {
            **_DEVICE,
            "event_id": "The event it was read from.",
            "report_id": "The vendor's id of the report.",
            "started_at": "When the session began, UTC.",
            "finished_at": "When it ended, UTC.",
            "operating_minutes": "Time in operation, minutes.",
            "area": "Cleaned area, m².",
            "distance": "Distance, m (unit assumed).",
            "battery": "Battery, as the vendor reports it: a ratio, taken to be the share used.",
            "water": "Water, as the vendor reports it; unit not documented.",
            "detergents": "Detergents, as the vendor reports them; unit not documented.",
            "execution_mode": "ROUTINE… in the vendor's words.",
            "suction_mode": "Eco… in the vendor's words.",
            "occurred_at": "Time of the event, UTC: the session's end.",
            "received_at": "When we received the report, UTC.",
        },
    ),
    "alarm_mttr": View(
        _ALARM_MTTR,
        "Alarms by rule and vendor: how often, and the mean time to acknowledge and to resolve (MTTR). Each "
        "reopening of an alarm counts separately. Full history.",
        {
            "rule_id": "The rule.",
            "rule_name": "Its newest name.",
            "vendor": "Vendor of the devices.",
            "severity": "Its newest severity.",
            "raised": "How often such an alarm was triggered or reopened.",
            "resolved": "How often one was resolved.",
            "open": "How many are open.",
            "mean_minutes_to_acknowledge": "Mean time from trigger to acknowledgement, minutes.",
            "mean_minutes_to_resolve": "Mean time from trigger to resolution, minutes: MTTR.",
            "median_minutes_to_resolve": "Median of it, minutes.",
            "longest_minutes_to_resolve": "Longest of it, minutes.",
        },
    ),
}

_VALUES = "value_number, value_text, value_boolean, value_json, unit, vendor"
_PACKED = "{'observed_at': observed_at, 'received_at': received_at, 'offset': origin_offset, " + (
    ", ".join(f"'{column}': {column}" for column in _VALUES.split(", ")) + "}"
)

_FLEET_AT = f"""
SELECT device_id, newest.vendor, metric, newest.value_number, newest.value_text, newest.value_boolean,
  newest.value_json, newest.unit, newest.observed_at
FROM (
  SELECT device_id, metric, max({_PACKED}) AS newest FROM readings
  WHERE observed_at <= moment::TIMESTAMP AND observed_at > moment::TIMESTAMP - within
  GROUP BY device_id, metric
)"""

_SERIES = """
SELECT device_id, observed_at, value_number AS value FROM readings
WHERE metric = metric_name AND value_number IS NOT NULL"""


def _series(parameter: str) -> str:
    """Return a query for the numbers of the metric that a parameter names: of each moment, the one received last."""
    return f"""(
  SELECT device_id, observed_at, max_by(value_number, (received_at, origin_offset)) AS value FROM readings
  WHERE metric = {parameter} AND value_number IS NOT NULL GROUP BY device_id, observed_at
)"""


# No common table expressions in macros: DuckDB 1.4 does not find them there.
_OUTAGES = f"""
SELECT vendor, list({{subject: device_id, began: began, ended: ended}}) AS outages FROM (
  SELECT device_id, vendor, min(try_cast(metadata ->> '$.last_listened_at' AS TIMESTAMP)) AS began,
    max(created_at) FILTER (event_type = 'resolved') AS ended
  FROM alarm_events WHERE rule_id = '{NOT_LISTENING}' GROUP BY alarm_id, device_id, vendor
) GROUP BY vendor"""
"""When nobody listened to a vendor (subject `<vendor>:fleetlake`), or to one device."""

_HEARD = f"""
SELECT device_id, list(DISTINCT date_trunc('minute', {HEARD_AT})) AS minutes FROM readings
WHERE {HEARD_AT} >= since::TIMESTAMP AND {HEARD_AT} < until::TIMESTAMP
  AND received_date >= since::DATE AND received_date <= until::DATE + 1
GROUP BY device_id"""

# In lists, parameters stand as columns: an argument may be a subquery, as fleet_now() is.
_UPTIME_MOMENTS = f"""
SELECT device_id, vendor, name, unnest([
    {{instant: begun, heard: false, blind: 0}}, {{instant: finish, heard: false, blind: 0}}
  ] || [{{instant: x, heard: true, blind: 0}} for x in coalesce(minutes, [])]
    || [{{instant: least(greatest(x.began, begun), finish), heard: false, blind: 1}} for x in ours]
    || [{{instant: least(greatest(x.ended, begun), finish), heard: false, blind: -1}} for x in ours]
  ) AS moment
FROM (
  SELECT device_id, d.vendor, name, minutes, finish,
    least(finish, greatest(since::TIMESTAMP, least(first_seen, list_min(minutes)))) AS begun,
    [{{began: x.began, ended: coalesce(x.ended, finish)}} for x in coalesce(outages, [])
      if x.subject = device_id or x.subject = d.vendor || ':{OURS}'] AS ours
  FROM devices d CROSS JOIN (SELECT until::TIMESTAMP AS finish) f
  LEFT JOIN ({_HEARD}) h USING (device_id) LEFT JOIN ({_OUTAGES}) o ON o.vendor = d.vendor
)"""

_DEVICE_UPTIME = f"""
SELECT device_id, vendor, name,
  100 * (1 - coalesce(sum(gap) FILTER (gap > epoch(silence)), 0) / nullif(sum(gap), 0)) AS uptime,
  coalesce(sum(gap) FILTER (gap > epoch(silence)), 0) / 60 AS down_minutes,
  count(*) FILTER (gap > epoch(silence)) AS gaps, coalesce(max(gap), 0) / 60 AS longest_gap_minutes,
  max(heard_at) AS last_heard, coalesce(sum(unknown), 0) / 60 AS unknown_minutes
FROM (
  SELECT device_id, vendor, name, sum(lasted) FILTER (blind = 0) AS gap, sum(lasted) FILTER (blind > 0) AS unknown,
    max(moment.instant) FILTER (moment.heard) AS heard_at
  FROM (
    SELECT device_id, vendor, name, moment, epoch(lead(moment.instant) OVER moments - moment.instant) AS lasted,
      sum(moment.blind) OVER moments AS blind, count(*) FILTER (moment.heard) OVER moments AS spell
    FROM ({_UPTIME_MOMENTS}) WINDOW moments AS (PARTITION BY device_id ORDER BY moment.instant)
  ) GROUP BY device_id, vendor, name, spell
) GROUP BY device_id, vendor, name HAVING sum(gap) > 0 OR sum(unknown) > 0"""

_STATE_PERIODS = """
SELECT device_id, state, observed_at AS began,
  lead(observed_at) OVER (PARTITION BY device_id ORDER BY observed_at, received_at, origin_offset) AS ended,
  epoch(ended - began) / 60 AS minutes
FROM (
  SELECT *, lag(state) OVER (PARTITION BY device_id ORDER BY observed_at, received_at, origin_offset) AS before
  FROM (
    SELECT device_id, observed_at, received_at, origin_offset,
      coalesce(value_text, value_boolean::VARCHAR, value_number::VARCHAR, value_json) AS state
    FROM readings WHERE metric = metric_name
  )
) WHERE before IS DISTINCT FROM state"""

_EVENTS_WITH = f"""
SELECT e.event_id, e.device_id, e.vendor, e.type, e.severity, e.title, e.occurred_at, s.value,
  s.observed_at AS value_observed_at, e.data
FROM (FROM events WHERE type = event_type) e
ASOF LEFT JOIN {_series("metric_name")} s ON e.device_id = s.device_id AND e.occurred_at >= s.observed_at"""

_ALARMS_WITH = f"""
SELECT a.alarm_id, a.device_id, a.vendor, a.rule_name, a.severity, a.status, a.triggered_at, s.value,
  s.observed_at AS value_observed_at
FROM alarms a
ASOF LEFT JOIN {_series("metric_name")} s ON a.device_id = s.device_id AND a.triggered_at >= s.observed_at"""

_ALIGNED = f"""
SELECT a.device_id, a.observed_at, a.value, b.value AS other_value, b.observed_at AS other_observed_at
FROM {_series("metric_name")} a
ASOF LEFT JOIN {_series("other_metric")} b ON a.device_id = b.device_id AND a.observed_at >= b.observed_at"""

_VALUE_AT = f"""
(SELECT max_by(value_number, ({_ORDER})) FROM readings
WHERE device_id = device AND metric = metric_name AND observed_at <= moment::TIMESTAMP)"""

_BATTERY_HISTORY = f"""
SELECT observed_at, value_number AS level, value_number - lag(value_number) OVER (ORDER BY {_ORDER}) AS change,
  epoch(observed_at - lag(observed_at) OVER (ORDER BY {_ORDER})) / 60 AS minutes
FROM readings WHERE device_id = device AND metric = 'battery.level' ORDER BY {_ORDER}"""

_EVERY = rollups.over(
    "readings",
    "time_bucket(width, observed_at)",
    ["observed_at >= since::TIMESTAMP", "observed_at < until::TIMESTAMP"],
)

MACROS: dict[str, Macro] = {
    "fleet_now": Macro(
        "",
        _NOW,
        "The newest moment in this file, UTC. In place of now(): it is right on a copy too.",
        table=False,
    ),
    "value_at": Macro(
        "device, metric_name, moment",
        _VALUE_AT,
        "The number a device's metric had at a moment. For one moment; for many, use ASOF JOIN with series().",
        table=False,
    ),
    "readings_every": Macro(
        "width, since, until",
        _EVERY,
        "Roll-up of any width over any time, from the full history: columns as in readings_1h, "
        "e.g. readings_every(INTERVAL 15 MINUTE, fleet_now() - INTERVAL 7 DAY, fleet_now()).",
    ),
    "fleet_at": Macro(
        "moment, within := INTERVAL 1 DAY",
        _FLEET_AT,
        "The newest value of each device and metric as it was at a moment, none older than `within`.",
    ),
    "battery_history": Macro(
        "device",
        _BATTERY_HISTORY,
        "Battery of one device over time: level in %, change since the reading before, and minutes since then.",
    ),
    "device_uptime": Macro(
        "since, until, silence := INTERVAL 15 MINUTE",
        _DEVICE_UPTIME,
        "Percentage of the time in which a device was heard; a gap longer than `silence` counts as down. Time in which "
        "nobody listened (`unknown_minutes`) counts as neither. A device that is newer than `since` is counted from "
        "when it was first seen. To the minute.",
    ),
    "state_periods": Macro(
        "metric_name",
        _STATE_PERIODS,
        "When a device entered and left each state, by a metric such as robot.status; the last state has no end.",
    ),
    "series": Macro(
        "metric_name",
        _SERIES,
        "The numbers of one metric (device_id, observed_at, value): the right side of an ASOF JOIN.",
    ),
    "aligned": Macro(
        "metric_name, other_metric",
        _ALIGNED,
        "Each value of one metric with the value that another metric of the device had at that time (as-of join).",
    ),
    "events_with": Macro(
        "event_type, metric_name",
        _EVENTS_WITH,
        "Each event of a type with the value that a metric of the device had at that time (as-of join).",
    ),
    "alarms_with": Macro(
        "metric_name",
        _ALARMS_WITH,
        "Each alarm with the value that a metric of the device had when it was triggered (as-of join).",
    ),
}


def create_view(name: str) -> str:
    """Return CREATE VIEW for one of `VIEWS`."""
    return f"CREATE VIEW {name} AS {VIEWS[name].query}"


def create_macro(name: str) -> list[str]:
    """Return CREATE MACRO for one of `MACROS`, and its comment."""
    macro = MACROS[name]
    kind = "MACRO TABLE" if macro.table else "MACRO"
    body = f"TABLE {macro.body}" if macro.table else macro.body
    comment = macro.comment.replace("'", "''")
    return [f"CREATE MACRO {name}({macro.parameters}) AS {body}", f"COMMENT ON {kind} {name} IS '{comment}'"]
