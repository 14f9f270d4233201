"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

import runtime.metrics
from runtime.batch_histogram import BatchHistogram

ROOT = Path(__file__).parents[2]


def _metrics() -> dict[str, str]:
    described = {}
    for value in vars(runtime.metrics).values():
        if isinstance(value, BatchHistogram):
            labels = ", ".join(f"`{label}`" for label in value.labelnames)
            described[value.name] = f"| `{value.name}` ({labels}) | {value.documentation} |"
        elif isinstance(value, MetricWrapperBase):
            family = next(iter(value.collect()))
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in value._labelnames)
            described[name] = f"| `{name}` ({labels}) | {family.documentation} |"
    return described


def test_operations_lists_every_metric() -> None:
    assert REGISTRY is not None
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = {line for line in text.splitlines() if line.startswith("| `fleetlake_")}
    assert rows == set(_metrics().values())


@pytest.mark.parametrize("path", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]), ids=lambda p: p.name)
def test_links_inside_the_project_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
