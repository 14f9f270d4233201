"""The catalogue of metrics, and the page made from it."""

from __future__ import annotations

import re
from pathlib import Path

from schemas.metrics import CATALOGUE, markdown, unit_of, vendor_metric
from schemas.topics import VENDORS
from schemas.units import UNITS

PAGE = Path(__file__).parent.parent.parent / "docs" / "metrics.md"


def test_the_page_is_the_catalogue() -> None:
    assert PAGE.read_text() == markdown(), "write it anew: docs/metrics.md = schemas.metrics.markdown()"


def test_metrics_are_well_formed() -> None:
    for name, metric in CATALOGUE.items():
        assert metric.name == name
        assert re.fullmatch(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*", name)
        assert name.partition(".")[0] not in VENDORS
        assert (metric.unit is not None) is (metric.kind == "number")
        assert metric.sources, name
        assert set(metric.sources) <= set(VENDORS)


def test_units_are_known_codes() -> None:
    assert {metric.unit for metric in CATALOGUE.values() if metric.unit} - set(UNITS) == {"rad/s"}


def test_every_metric_is_listed_once() -> None:
    from schemas import metrics

    assert len(metrics._METRICS) == len(CATALOGUE)


def test_unknown_fields_have_the_vendors_name_and_no_unit() -> None:
    assert vendor_metric("karcher", "someNewState") == "karcher.someNewState"
    assert unit_of("karcher.someNewState") == "1"
    assert unit_of("battery.level") == "%"
    assert unit_of("robot.status") is None
