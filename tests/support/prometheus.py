"""A real Prometheus (Debian's), and what `deploy/observability` asks of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.ports import free_port
from tests.support.paths import ROOT
from tests.support.waiting import eventually_blocking

OBSERVABILITY = ROOT / "deploy" / "observability"


def prometheus_tool(name: str) -> str:
    """The path of `prometheus` or `promtool`. CI must have them."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {name}")
        pytest.skip(f"{name} is not installed (Debian: apt-get install prometheus)")
    return found


def alert_rules() -> list[dict[str, Any]]:
    """The alert rules."""
    groups = yaml.safe_load((OBSERVABILITY / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels(dashboard: str) -> list[dict[str, Any]]:
    """The panels of a dashboard's file, without its rows."""
    whole = json.loads((OBSERVABILITY / "grafana" / "dashboards" / f"{dashboard}.json").read_text())
    return [panel for panel in whole["panels"] if panel["type"] != "row"]


def queries(dashboard: str) -> Iterator[tuple[str, str]]:
    """Title of the panel and text of each query."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield panel["title"], target.get("expr") or target["rawSql"]


class Prometheus:
    """The HTTP API of a running one."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer; AssertionError with Prometheus' own words where it refuses."""
        try:
            with urllib.request.urlopen(
                f"{self._url}{path}?{urllib.parse.urlencode(parameters)}", timeout=10
            ) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression as of now, with what Grafana fills in replaced."""
        filled = expression.replace("$__rate_interval", "30s")
        result: list[dict[str, Any]] = self.get("/api/v1/query", query=filled)["result"]
        return result

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def running_prometheus(folder: Path, targets: Mapping[str, str]) -> Iterator[Prometheus]:
    """Prometheus with the configuration for `fleetlake up`, scraping these addresses by service every second."""
    program = prometheus_tool("prometheus")
    folder.mkdir()
    config = yaml.safe_load((OBSERVABILITY / "prometheus-up.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (job,) = config["scrape_configs"]
    for each in job["static_configs"]:
        each["targets"] = [targets[each["labels"]["service"]]]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(OBSERVABILITY / "alerts.yml", folder)
    address = f"127.0.0.1:{free_port()}"
    command = [program, "--config.file=prometheus.yml", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], cwd=folder, stderr=log)
    try:
        made = Prometheus(f"http://{address}")
        eventually_blocking(
            lambda: made.is_ready() or process.poll() is not None, what=lambda: (folder / "log").read_text()
        )
        assert process.poll() is None, (folder / "log").read_text()
        yield made
    finally:
        process.terminate()
        process.wait(20)


def without_macros(sql: str, since: str, until: str) -> str:
    """A query of the fleet's dashboard as Grafana sends it for this time range."""
    return re.sub(r"\$__timeFilter\(([^)]*)\)", rf"\1 BETWEEN '{since}' AND '{until}'", sql)
