"""The Prometheus metrics of all stages: `/metrics` shows them, and the live status reads them.

docs/operations.md explains each; a test compares both lists.
"""

from __future__ import annotations

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from runtime.batch_histogram import BatchHistogram

RECORDS_IN = Counter(
    "fleetlake_records_in_total",
    "Messages that a stage received, from a vendor or from Kafka.",
    ["stage", "vendor"],
    registry=REGISTRY,
)
RECORDS_OUT = Counter(
    "fleetlake_records_out_total", "Records that a stage wrote, acknowledged by their receiver.", ["stage", "vendor"]
)
NORMALISED = Counter(
    "fleetlake_normalised_records_total",
    "Raw records normalised, by path: `columnar`, many of one shape at once, or `general`, one by one.",
    ["vendor", "path"],
)
READINGS_OUT = Counter("fleetlake_readings_out_total", "Single readings that a stage wrote.", ["stage", "vendor"])
DUPLICATES = Counter(
    "fleetlake_duplicates_total", "Duplicates of a message, recognised by its id and dropped.", ["stage", "vendor"]
)
DEDUPE_CUT = Counter(
    "fleetlake_dedupe_ids_cut_total",
    "Ids of messages forgotten before their window was over, since they did not fit into `[stream] dedupe_max_bytes`. "
    "Duplicates of these messages are not recognised.",
    ["vendor"],
)
DEAD_LETTERS = Counter(
    "fleetlake_dead_letters_total",
    "Messages, or parts of them, that were written to the dead letters.",
    ["stage", "vendor"],
)
LEFT_OUT = Counter(
    "fleetlake_left_out_total",
    "Messages left out on purpose: by sampling, as retained, as chatter, in a flood, as another device's. Readings "
    "left out as back-fill of what was emitted live (`told_before`) or as polled states that did not change "
    "(`unchanged`).",
    ["stage", "vendor", "reason"],
)
GAPS = Counter("fleetlake_connection_gaps_total", "Connections lost and restored.", ["vendor"])
CONNECTED = Gauge(
    "fleetlake_connections", "Open connections to a vendor, or devices seen lately if they connect to us.", ["vendor"]
)
LAG = Gauge("fleetlake_lag_records", "Records that wait in a stage's input topics.", ["stage", "topic"])
OPEN_ALARMS = Gauge("fleetlake_open_alarms", "Alarms active or acknowledged.", ["stage"])
ALARM_EVENTS = Counter("fleetlake_alarm_events_total", "Alarm events written.", ["event_type"])
NOTIFICATIONS = Counter(
    "fleetlake_notifications_total",
    "Attempts to deliver a notification by outcome: delivered, retried, failed.",
    ["channel", "status"],
)
NOTIFICATIONS_WAITING = Gauge(
    "fleetlake_notifications_waiting", "Notifications that wait for their first or next attempt.", ["channel"]
)
BATCH_SECONDS = Histogram(
    "fleetlake_batch_seconds",
    "Seconds from the receipt of a batch to its commit.",
    ["stage"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
BATCH_RECORDS = Histogram(
    "fleetlake_batch_records",
    "Records of a batch that a stage committed.",
    ["stage"],
    buckets=(1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000),
)
HOP_SECONDS = BatchHistogram(
    "fleetlake_hop_seconds",
    "Age of a message at the end of a hop: `vendor_receipt` from the vendor's own time to the receipt; `receipt_raw` "
    "until Kafka has the raw record; `receipt_readings` from the receipt until its readings are committed; "
    "`readings_table` from normalising until its rows are in the lake; `receipt_table` the whole way. "
    "`table_published` from a new version of the lake until `fleet.duckdb` shows it (no vendor).",
    ["hop", "vendor"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21_600, 86_400),
)
READ_SECONDS = Histogram(
    "fleetlake_read_seconds",
    "Seconds that a connector took to parse and redact one message.",
    ["vendor"],
    buckets=(0.0001, 0.001, 0.01, 0.1, 1, 10),
)
TOKEN_REQUESTS = Counter(
    "fleetlake_token_requests_total",
    "Requests for an access token by outcome: granted, refused (credentials), limited (429), failed.",
    ["vendor", "outcome"],
)
COVERED = Gauge(
    "fleetlake_covered_sources",
    "Channels and device sockets that this process listens to; silence of a device counts only while one of them is.",
    ["vendor"],
)
COVERAGE_REPORTED_AT = Gauge(
    "fleetlake_coverage_reported_timestamp_seconds",
    "Up to when this process has reported to Kafka what it listens to; seconds behind, unless Kafka is away.",
    ["vendor"],
)
PUBLISHED_AT = Gauge("fleetlake_published_timestamp_seconds", "When a sink last made its rows visible.", ["stage"])
EVENT_LOOP_LAG = Gauge(
    "fleetlake_event_loop_lag_seconds",
    "Longest delay of a stage's event loop in the last ten seconds; above a second, the stage answers late.",
    ["stage"],
)

Sample = tuple[str, dict[str, str], float]
"""Name, labels, value."""


def parse_samples(text: str) -> list[Sample]:
    """The samples of a `/metrics` page that are fleetlake's own."""
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("fleetlake_")
    ]
