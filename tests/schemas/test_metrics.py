"""The catalogue of metrics, and the page made from it."""

from __future__ import annotations

import re
from pathlib import Path

from schemas.metrics import COMMON, catalogue, markdown, sources, unit_of, vendor_metric
from schemas.units import UNITS
from schemas.vendors import BUILT_IN

PAGE = Path(__file__).parent.parent.parent / "docs" / "metrics.md"


def test_the_page_is_the_catalogue() -> None:
    assert PAGE.read_text() == markdown(), "write it anew: docs/metrics.md = schemas.metrics.markdown()"


def test_metrics_are_well_formed() -> None:
    fields = sources(BUILT_IN)
    for name, metric in COMMON.items():
        assert metric.name == name
        assert re.fullmatch(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*", name)
        assert name.partition(".")[0] not in BUILT_IN
        assert (metric.unit is not None) is (metric.kind == "number")
        assert fields.get(name), name
        assert set(fields[name]) <= set(BUILT_IN)
    assert catalogue().items() >= COMMON.items()


def test_units_are_known_codes() -> None:
    assert {metric.unit for metric in COMMON.values() if metric.unit} - set(UNITS) == {"rad/s"}


def test_every_metric_is_listed_once() -> None:
    from schemas import metrics

    assert len(metrics._METRICS) == len(COMMON)


def test_unknown_fields_have_the_vendors_name_and_no_unit() -> None:
    assert vendor_metric("karcher", "someNewState") == "karcher.someNewState"
    assert unit_of("karcher.someNewState") == "1"
    assert unit_of("battery.level") == "%"
    assert unit_of("robot.status") is None
