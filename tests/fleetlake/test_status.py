"""Rates, totals and the plain line are what the metrics say."""

from __future__ import annotations

from io import StringIO

from prometheus_client import CollectorRegistry, Counter, generate_latest
from rich.console import Console

from fleetlake.local.status import StatusModel, plain_line, render
from runtime.metrics import Sample, parse_samples


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
    model.update(0.0, [_out("normalise", "climasense", 1234), ("fleetlake_connections", {"vendor": "climasense"}, 5.0)])
    console = Console(file=StringIO(), width=160)
    console.print(render(model, 3.0, [], "demo"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1,234" in text
    assert "climasense" in text
    assert "open alarms: 0" in text


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
