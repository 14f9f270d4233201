"""Rates, totals and the plain line are what the metrics say."""

from __future__ import annotations

from io import StringIO

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from rich.console import Console

from fleetlake.local.status import StatusModel, count_text, plain_line, render
from runtime.metrics import Sample, parse_samples
from schemas.vendors import BUILT_IN


def _out(stage: str, vendor: str, value: float) -> Sample:
    return ("fleetlake_records_out_total", {"stage": stage, "vendor": vendor}, value)


def test_rate_is_taken_over_the_last_seconds_and_never_negative() -> None:
    model = StatusModel(("karcher",))
    assert model.rate("connect", "karcher") == 0
    for second in range(10):
        model.update(float(second), [_out("connect", "karcher", second * 50.0)])
    assert model.rate("connect", "karcher") == 50
    assert model.total("connect", "karcher") == 450
    model.update(10.0, [_out("connect", "karcher", 0.0)])  # the stage was restarted
    assert model.rate("connect", "karcher") == 0


def test_plain_line_names_every_vendor_lag_alarms_and_what_is_not_ready() -> None:
    model = StatusModel(("karcher", "ogmen"))
    model.update(
        0.0,
        [
            _out("connect", "karcher", 7),
            ("fleetlake_readings_out_total", {"stage": "delta", "vendor": "karcher"}, 21.0),
            ("fleetlake_lag_records", {"stage": "normalise", "topic": "a"}, 3.0),
            ("fleetlake_lag_records", {"stage": "normalise", "topic": "b"}, 4.0),
            ("fleetlake_open_alarms", {"stage": "duckdb"}, 2.0),
            ("fleetlake_dead_letters_total", {"stage": "connect", "vendor": "ogmen"}, 1.0),
            ("fleetlake_dead_letters_total", {"stage": "normalise", "vendor": "ogmen"}, 1.0),
        ],
    )
    line = plain_line(model, 12.0, ["stream"])
    assert "karcher 0/s 7 in, 21 rows" in line
    assert "lag normalise 7" in line
    assert "open alarms 2" in line
    assert "dead letters 2" in line
    assert line.endswith("not ready: stream")


def test_table_shows_the_same() -> None:
    model = StatusModel(("climasense",))
    model.update(0.0, [_out("delta", "climasense", 1234), ("fleetlake_connections", {"vendor": "climasense"}, 5.0)])
    console = Console(file=StringIO(), width=160)
    console.print(render(model, 3.0, [], "demo", 160))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1,234" in text
    assert "climasense" in text
    assert "open alarms: 0" in text


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("size", [3, 12_345, 9_999_999, 2_345_678_901])
def test_names_and_numbers_are_whole_at_every_width(width: int, size: int) -> None:
    model = StatusModel(BUILT_IN)
    samples = [_out(stage, vendor, float(size)) for stage in ("connect", "normalise", "delta") for vendor in BUILT_IN]
    for vendor in BUILT_IN:
        samples.append(("fleetlake_readings_out_total", {"stage": "delta", "vendor": vendor}, float(size)))
        samples.append(("fleetlake_connections", {"vendor": vendor}, 54_321.0))
        samples.append(("fleetlake_dead_letters_total", {"stage": "connect", "vendor": vendor}, 123_456.0))
    model.update(0.0, [])
    model.update(1.0, samples)
    console = Console(file=StringIO(), width=width)
    console.print(render(model, 3.0, ["stream", "delta"], "fleetlake demo: 44 devices of 4 vendors", width))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width
    assert not [line for line in lines if "…" in line]
    (row,) = (line.split() for line in lines if line.startswith("climasense"))
    assert row.count(count_text(size)) == (6 if width >= 110 else 4), row
    assert "54,321 devices" in " ".join(row) and row[-1] == "123,456"
    assert len(lines) == 10, "no line is broken"


def test_samples_are_read_from_a_metrics_page() -> None:
    registry = CollectorRegistry()
    Counter("fleetlake_things", "Things.", ["stage"], registry=registry).labels("x").inc(3)
    Counter("other_things", "Others.", registry=registry).inc()
    samples = parse_samples(generate_latest(registry).decode())
    assert ("fleetlake_things_total", {"stage": "x"}, 3.0) in samples
    assert not [name for name, _, _ in samples if name.startswith("other")]


def test_a_stage_is_late_when_its_event_loop_lags_by_more_than_a_second() -> None:
    model = StatusModel(())
    model.update(0.0, [("fleetlake_event_loop_lag_seconds", {"stage": s}, v) for s, v in (("delta", 3.21), ("x", 0.9))])
    assert model.late() == ["delta (3.2 s late)"]
