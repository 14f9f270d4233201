"""A reader beside writers: `python -m tests.load.reader KIND DATA SECONDS` looks every so many seconds, until SIGTERM.

After each look it prints, as one JSON object in a line, its report so far.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb

import fleetlake
from tests.load.snapshots import Snapshot, snapshot, total, wrong

HOLD_SECONDS = 30
SHOWN = 5

COUNT = """SELECT device_id, metric, count(*), count(DISTINCT value_number), min(value_number), max(value_number)
FROM {readings} GROUP BY device_id, metric"""
ALIKE = f"""SELECT device_id, metric, newest, rows, rolled_up
FROM (SELECT device_id, metric, value_number AS newest FROM latest)
FULL JOIN (SELECT device_id, metric, sum(count) AS rolled_up FROM readings_1h GROUP BY ALL) USING (device_id, metric)
FULL JOIN ({COUNT.format(readings="readings")}) AS counted(device_id, metric, rows, different, least, most)
  USING (device_id, metric)
WHERE newest IS DISTINCT FROM rows OR rolled_up IS DISTINCT FROM rows"""

stop = threading.Event()


def published(data: Path) -> Snapshot:
    """`fleet.duckdb`, opened anew; its tables have to tell what its views tell."""
    with closing(fleetlake.connect(data)) as connection:
        return _of_published(connection)


def held(data: Path) -> Snapshot:
    """`fleet.duckdb`, kept open while many newer ones are published: it goes on telling the same."""
    with closing(fleetlake.connect(data)) as connection:
        first = _of_published(connection)
        stop.wait(HOLD_SECONDS)
        if first != _of_published(connection):
            raise AssertionError("an open fleet.duckdb changed its answer")
        return first


def files(data: Path) -> Snapshot:
    """DuckDB on the Parquet files of one version of the lake."""
    from deltalake import DeltaTable

    paths = DeltaTable(data / "lake" / "readings").file_uris()
    with duckdb.connect() as connection:
        connection.execute("SET VARIABLE files = $1::VARCHAR[]", [paths])
        return snapshot(connection.execute(COUNT.format(readings="read_parquet(getvariable('files'))")).fetchall())


def polars(data: Path) -> Snapshot:
    """`fleetlake.scan`, a Polars lazy frame."""
    import polars as pl

    value = pl.col("value_number")
    aggregates = (pl.len(), value.n_unique(), value.min().alias("least"), value.max().alias("most"))
    return snapshot(fleetlake.scan("readings", data).group_by("device_id", "metric").agg(*aggregates).collect().rows())


def deltalake(data: Path) -> Snapshot:
    """`deltalake` and Arrow."""
    from deltalake import DeltaTable

    keys = ["device_id", "metric"]
    rows = DeltaTable(data / "lake" / "readings").to_pyarrow_table(columns=[*keys, "value_number"])
    wanted = [("value_number", each) for each in ("count", "count_distinct", "min", "max")]
    counted = rows.group_by(keys).aggregate(wanted).select([*keys, *("_".join(each) for each in wanted)])
    return snapshot(tuple(row.values()) for row in counted.to_pylist())


KINDS: dict[str, Callable[[Path], Snapshot]] = {
    each.__name__: each for each in (published, held, files, polars, deltalake)
}


def _of_published(connection: duckdb.DuckDBPyConnection) -> Snapshot:
    if unlike := connection.execute(ALIKE).fetchall():
        raise AssertionError(f"tables and views tell different things: {unlike[:SHOWN]}")
    return snapshot(connection.execute(COUNT.format(readings="readings")).fetchall())


def main() -> None:
    """Look, count, tell; whatever goes wrong is counted, and the reader goes on."""
    kind, data, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    report: dict[str, Any] = {"kind": kind, "looks": 0, "news": 0, "readings": 0, "slowest": 0.0}
    report |= {"wrong": 0, "errors": 0, "said": []}
    before: Snapshot = {}
    while not stop.is_set():
        started = time.monotonic()
        try:
            seen = KINDS[kind](data)
        except Exception as error:
            report["errors"] += 1
            report["said"].append(repr(error)[:500])
        else:
            said = list(wrong(seen, before))
            report["looks"] += 1
            report["news"] += seen != before
            report["readings"] = total(seen)
            report["wrong"] += bool(said)
            report["said"] += said
            before = seen
        report["said"] = report["said"][:SHOWN]
        report["slowest"] = max(report["slowest"], round(time.monotonic() - started, 3))
        print(json.dumps(report), flush=True)
        stop.wait(max(0.1, seconds - (time.monotonic() - started)))


if __name__ == "__main__":
    main()
