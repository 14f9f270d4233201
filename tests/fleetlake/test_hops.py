"""Each hop of a message is measured where it ends, in seconds, by vendor."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from prometheus_client import REGISTRY

from connectors.common.publishing.record_sender import observe_ages as observe_acknowledged
from schemas import wire
from schemas.envelope import GAP, Envelope
from schemas.timestamps import to_micros
from schemas.topics import EVENTS, READINGS
from sinks.delta.lake_writer import observe_ages as observe_written
from sinks.delta.rows import to_rows
from sinks.delta.tables import TABLES
from sinks.duckdb.sink import PublishSchedule
from streams.engine.options import BatchStats
from streams.worker import BatchObserver
from tests.support.records import DEVICE, record_of
from tests.support.samples import observation

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Hop:
    """What a hop's histogram gained since this was made."""

    def __init__(self, hop: str, vendor: str) -> None:
        self._labels = {"hop": hop, "vendor": vendor}
        self._before = self._read()

    def _read(self) -> tuple[float, float]:
        names = ("fleetlake_hop_seconds_count", "fleetlake_hop_seconds_sum")
        count, total = (REGISTRY.get_sample_value(name, self._labels) or 0.0 for name in names)
        return count, total

    def gained(self) -> tuple[float, float]:
        """How many values, and their sum."""
        count, total = self._read()
        return count - self._before[0], round(total - self._before[1], 1)


def envelope(kind: str, received_before: float, own_before: float | None) -> Envelope:
    own = NOW - timedelta(seconds=own_before) if own_before is not None else None
    received = NOW - timedelta(seconds=received_before)
    return Envelope("1", kind, "karcher/websocket", DEVICE, received, b"{}", own)


def test_an_acknowledged_message_has_come_from_the_vendor_and_into_kafka() -> None:
    raw, receipt = Hop("receipt_raw", "karcher"), Hop("vendor_receipt", "karcher")
    observe_acknowledged(
        [envelope("karcher.datapoints", 0.5, 3.5), envelope("karcher.x", 1, None), envelope(GAP, 2, 9)], NOW
    )
    assert raw.gained() == (3, 3.5)
    assert receipt.gained() == (1, 3.0), "what has no time of its own, and our own gaps, say nothing of the vendor"


def test_a_committed_batch_of_raw_records_is_normalised_and_one_of_readings_is_not() -> None:
    hop = Hop("receipt_readings", "ogmen")
    for topic in ("telemetry.raw.ogmen.v1", EVENTS):
        at = int((time.time() - 2) * 1000)
        BatchObserver().batch_committed(BatchStats(topic, 0, 3, 3, 100, 0.1, 0.2, 3, 0, [at] * 3, []))
    count, total = hop.gained()
    assert count == 3 and 6 <= total < 9


def test_a_written_batch_counts_each_message_once_whatever_readings_it_has() -> None:
    normalised, whole = Hop("readings_table", "karcher"), Hop("receipt_table", "karcher")
    made = [observation(n, received=NOW - timedelta(seconds=10)) for n in range(4)]
    (table,) = (table for table in TABLES if table.topic == READINGS)
    records = [record_of(wire.encode(one), offset) for offset, one in enumerate(made)]
    now = to_micros(NOW) / 1_000_000
    rows = to_rows(table, records)
    assert rows.table.num_rows == 8
    observe_written(records, rows.table, now)
    assert whole.gained() == (4, 40.0)
    assert normalised.gained()[0] == 4


def test_a_publication_counts_what_it_shows() -> None:
    class Database:
        news = True

        def catch_up(self) -> bool:
            self.news, news = False, self.news
            return news

        def publish(self) -> None:
            pass

    hop = Hop("table_published", "")
    schedule = PublishSchedule(Database(), 0)  # type: ignore[arg-type]
    schedule.publish()
    schedule.step()
    schedule.step()
    assert hop.gained()[0] == 2, "at the start, and the news; nothing that is not new"
