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


def _steps() -> list[tuple[str, str]]:
    """The rows of the tables that follow a message and an alarm through the files: files, what happens there."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return re.findall(r"^\| \d+ \| (.+?) \| (.+) \|$", text, re.MULTILINE)


def _paths(cell: str) -> list[Path]:
    """The files and folders of a cell; a name without a folder is in that of the file before it."""
    paths: list[Path] = []
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", cell):
        paths.append(ROOT / name if "/" in name.rstrip("/") else paths[-1].parent / name)
    return paths


@pytest.mark.parametrize(("files", "what"), _steps(), ids=lambda text: text[:60])
def test_the_ways_through_the_files_name_what_is_there(files: str, what: str) -> None:
    paths = _paths(files)
    assert all(path.exists() for path in [*paths, *_paths(what)]), files
    code = "".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())
    for name in re.findall(r"`([A-Z_a-z][\w.]*)(?:\(\))?`", what):
        if name[0].isupper() or f"`{name}()`" in what:
            for part in name.split("."):
                assert re.search(rf"\b{part}\b", code), f"{name} is not in {files}"


def test_both_ways_are_followed() -> None:
    assert len(_steps()) == 14 + 12


def test_tests_that_documents_name_exist() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for name in re.findall(r"`(tests/[\w/]+\.py)`", path.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{path.name} names {name}"


@pytest.mark.parametrize("path", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]), ids=lambda p: p.name)
def test_links_inside_the_project_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
