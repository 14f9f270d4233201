"""Makes Grafana's JSON of `dashboards.yml`: `python deploy/observability/dashboards.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
FOLDER = HERE / "grafana" / "dashboards"

PROMETHEUS = {"type": "prometheus", "uid": "fleetlake-prometheus"}
TABLES = {"type": "grafana-postgresql-datasource", "uid": "fleetlake-sql"}

_COLUMNS = 24


def _target(panel: dict[str, Any], number: int, query: dict[str, str]) -> dict[str, Any]:
    ref = chr(ord("A") + number)
    if "sql" in query:
        sql = query["sql"].strip()
        return {
            "refId": ref,
            "datasource": TABLES,
            "rawSql": sql,
            "format": "table",
            "rawQuery": True,
            "editorMode": "code",
        }
    target = {"refId": ref, "datasource": PROMETHEUS, "expr": query["promql"].strip()}
    target["legendFormat"] = query.get("legend", "__auto")
    return {**target, "instant": True, "range": False} if panel.get("kind") == "stat" else target


def _defaults(panel: dict[str, Any], kind: str) -> dict[str, Any]:
    """How values look."""
    custom: dict[str, Any] = {}
    if kind == "timeseries":
        stacked = panel.get("stacked", False)
        mode = "normal" if stacked else "none"
        custom = {"lineWidth": 1, "fillOpacity": 30 if stacked else 0, "stacking": {"mode": mode}}
    values = {value: {"text": text, "color": color} for value, (text, color) in panel.get("values", {}).items()}
    colors = panel.get("colors", [{"color": "green"}])
    return {
        "unit": panel.get("unit", "short"),
        "custom": custom,
        "mappings": [{"type": "value", "options": values}] if values else [],
        "thresholds": {"mode": "absolute", "steps": [{"value": c.get("from"), "color": c["color"]} for c in colors]},
        "color": {"mode": "palette-classic" if kind in ("timeseries", "piechart") else "thresholds"},
    }


def _panel(panel: dict[str, Any], number: int, place: dict[str, int]) -> dict[str, Any]:
    kind = panel.get("kind", "timeseries")
    is_sql = "sql" in panel["queries"][0]
    made: dict[str, Any] = {
        "id": number,
        "type": kind,
        "title": panel["title"],
        "description": panel["help"],
        "datasource": TABLES if is_sql else PROMETHEUS,
        "gridPos": place,
        "fieldConfig": {"defaults": _defaults(panel, kind), "overrides": []},
        "options": {},
        "targets": [_target(panel, n, query) for n, query in enumerate(panel["queries"])],
    }
    if is_sql and kind in ("stat", "piechart"):
        fields = "" if kind == "piechart" else "/.*/"
        made["options"] = {"reduceOptions": {"values": kind == "piechart", "calcs": ["lastNotNull"], "fields": fields}}
    if is_sql and kind == "timeseries":
        made["transformations"] = [{"id": "prepareTimeSeries", "options": {"format": "multi"}}]
    return made


def _placed(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows and their panels, from left to right and top to bottom."""
    y, number = 0, 1
    for row in rows:
        head = {"id": number, "type": "row", "title": row["row"], "collapsed": False, "panels": []}
        yield {**head, "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1}}
        y, x, tallest, number = y + 1, 0, 0, number + 1
        for panel in row["panels"]:
            width, height = panel.get("width", 8), panel.get("height", 8)
            if x + width > _COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            yield _panel(panel, number, {"x": x, "y": y, "w": width, "h": height})
            x, tallest, number = x + width, max(tallest, height), number + 1
        y += tallest


def dashboards() -> dict[str, str]:
    """The content of each file by its name."""
    made = {}
    for name, each in yaml.safe_load((HERE / "dashboards.yml").read_text(encoding="utf-8")).items():
        dashboard = {
            "uid": f"fleetlake-{name}",
            "title": f"fleetlake: {name}",
            "tags": ["fleetlake"],
            "timezone": "browser",
            "schemaVersion": 39,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": each["since"], "to": "now"},
            "templating": {"list": []},
            "annotations": {"list": []},
            "panels": [*_placed(each["rows"])],
        }
        made[f"{name}.json"] = json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n"
    return made


if __name__ == "__main__":
    for name, text in dashboards().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
