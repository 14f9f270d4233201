"""The parts of `make release-check` and `make sbom` that need no environment of their own."""

from __future__ import annotations

from pathlib import Path

import fleetlake
from fleetlake.local.broker.jars import read_lock
from release.check import missing_links
from release.sbom import JARS, browser_libraries, jars, version

ROOT = Path(__file__).parents[2]


def test_the_version_is_read_without_importing_the_package() -> None:
    assert version() == fleetlake.__version__


def test_the_bill_lists_every_jar_with_its_digest() -> None:
    listed = list(jars(JARS.read_text(encoding="utf-8")))
    assert {(j["group"], j["name"], j["version"], j["hashes"][0]["content"]) for j in listed} == {
        (jar.group, jar.artifact, jar.version, jar.sha256) for jar in read_lock()
    }


def test_the_bill_lists_what_the_page_ships_and_not_what_tests_use() -> None:
    listed = {each["name"]: each["purl"] for each in browser_libraries((ROOT / "Makefile").read_text(encoding="utf-8"))}
    shipped = {path.stem.removeprefix("LICENSE-") for path in (ROOT / "ui/static/vendor").glob("LICENSE-*.txt")}
    assert listed.keys() == shipped
    assert listed["leaflet"].startswith("pkg:npm/leaflet@1.")


def test_links_to_files_that_are_not_shipped_are_named() -> None:
    text = "[a](docs/a.md#part) [b](docs/gone.md) [c](https://example.org/x) [d](docs)"
    assert missing_links(text, {"docs", "docs/a.md"}) == ["docs/gone.md"]
