"""Scrape configuration, alert rules and dashboards: well-formed, and about metrics, ports and services that exist.

That each query has an answer is shown on a running pipeline (tests/fleetlake/test_up.py).
"""

from __future__ import annotations

import re
import runpy
import subprocess
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

import runtime.metrics
from fleetlake.local.health_ports import fixed_ports
from runtime.batch_histogram import BatchHistogram
from tests.support.paths import ROOT
from tests.support.prometheus import OBSERVABILITY, alert_rules, panels, prometheus_tool, queries

PROCESS = {"up", "process_start_time_seconds", "process_open_fds", "process_max_fds", "process_cpu_seconds_total"}
PROCESS |= {"process_resident_memory_bytes"}
SCRAPED = {"job", "instance", "service"}
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def catalogue() -> dict[str, set[str]]:
    """The labels of each series that the stages serve."""
    known: dict[str, set[str]] = {name: set() for name in PROCESS}
    for metric in vars(runtime.metrics).values():
        if isinstance(metric, BatchHistogram):
            name, kind, labels = metric.name, "histogram", set(metric.labelnames)
        elif isinstance(metric, MetricWrapperBase):
            (family,) = metric.collect()
            name, kind, labels = family.name, family.type, set(metric._labelnames)
        else:
            continue
        if kind == "histogram":
            known |= {f"{name}_count": labels, f"{name}_sum": labels, f"{name}_bucket": labels | {"le"}}
        else:
            known[f"{name}_total" if kind == "counter" else name] = labels
    return known


def expressions() -> list[tuple[str, str]]:
    """Every PromQL expression with the name of its alert or panel."""
    return [(rule["alert"], rule["expr"]) for rule in alert_rules()] + [*queries("pipeline")]


def names_in(expression: str) -> tuple[set[str], set[str]]:
    """The series and the labels that an expression names."""
    series = set(re.findall(r"\b(?:fleetlake_\w+|process_\w+|up)\b", expression))
    labels = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|=|!~|!=)", expression))
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        labels |= {label.strip() for label in group.split(",")}
    return series, labels


@pytest.mark.parametrize(("name", "expression"), expressions(), ids=lambda value: value[:40])
def test_every_series_and_label_is_in_the_catalogue(name: str, expression: str) -> None:
    known = catalogue()
    series, labels = names_in(expression)
    assert series and series <= set(known), name
    possible = set().union(*(known[one] for one in series)) | SCRAPED
    assert labels <= possible, name


def test_names_are_read_from_expressions() -> None:
    text = 'sum by (le, hop) (rate(fleetlake_hop_seconds_bucket{hop="x", vendor!~"y"}[5m])) / up{job="fleetlake"}'
    assert names_in(text) == ({"fleetlake_hop_seconds_bucket", "up"}, {"le", "hop", "vendor", "job"})


def test_the_dashboards_are_those_of_their_source() -> None:
    made = runpy.run_path(str(OBSERVABILITY / "dashboards.py"))["dashboards"]()
    written = {path.name: path.read_text() for path in (OBSERVABILITY / "grafana" / "dashboards").glob("*.json")}
    assert made == written, "python deploy/observability/dashboards.py writes them anew"


@pytest.mark.parametrize("dashboard", ["pipeline", "fleet"])
def test_panels_say_what_they_show_and_do_not_overlap(dashboard: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(dashboard):
        assert panel["description"] and panel["targets"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_the_data_sources_are_those_that_are_provisioned() -> None:
    file = OBSERVABILITY / "grafana" / "provisioning" / "datasources" / "fleetlake.yml"
    provisioned = {each["uid"]: each for each in yaml.safe_load(file.read_text())["datasources"]}
    used = {
        target["datasource"]["uid"] for name in ("pipeline", "fleet") for p in panels(name) for target in p["targets"]
    }
    assert used == set(provisioned)
    assert (
        provisioned["fleetlake-sql"]["url"] == f"sql:{COMPOSE['services']['sql']['environment']['FLEETLAKE_SQL__PORT']}"
    )


# -- promtool


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("check", "config", "prometheus-up.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts_them(arguments: tuple[str, ...]) -> None:
    command = [prometheus_tool("promtool"), *arguments]
    done = subprocess.run(command, cwd=OBSERVABILITY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_in_its_unit_test() -> None:
    tests = yaml.safe_load((OBSERVABILITY / "alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in alert_rules()}


@pytest.mark.parametrize("rule", alert_rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert not anchor or anchor in anchors
    assert rule["annotations"]["summary"] and rule["annotations"]["description"]


# -- what is scraped


def test_up_is_scraped_where_its_stages_are() -> None:
    (job,) = yaml.safe_load((OBSERVABILITY / "prometheus-up.yml").read_text())["scrape_configs"]
    scraped = {each["labels"]["service"]: each["targets"] for each in job["static_configs"]}
    ports = fixed_ports(9100, ["connect", "stream", "delta", "duckdb", "alarms", "ui", "sql"])
    assert scraped == {stage: [f"127.0.0.1:{port}"] for stage, port in ports.items()}


def test_compose_is_scraped_by_the_names_and_the_port_of_its_services() -> None:
    (job,) = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    services = COMPOSE["services"]
    checked = {
        name
        for name, service in services.items()
        if service["image"].startswith("fleetlake:") and not service["healthcheck"].get("disable")
    }
    assert set(found["names"]) == checked - {"simulate"}
    for name in found["names"]:
        assert services[name]["environment"]["FLEETLAKE_PIPELINE__HEALTH_PORT"] == str(found["port"])


def test_the_profile_mounts_what_is_there_and_publishes_on_loopback_only() -> None:
    named = {name: s for name, s in COMPOSE["services"].items() if s.get("profiles") == ["observability"]}
    assert set(named) == {"prometheus", "grafana", "sql"}
    for name, service in named.items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert name == "sql" or any(volume.startswith("./deploy/observability/") for volume in service["volumes"])
