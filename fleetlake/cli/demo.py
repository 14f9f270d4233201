"""`fleetlake demo`: the whole pipeline against simulated vendors, then three answers from the tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fleetlake.cli.output import write_table

QUESTIONS = (
    (
        "Rows per vendor",
        "SELECT vendor, count(*) AS readings, count(DISTINCT device_id) AS devices, max(observed_at) AS latest "
        "FROM readings GROUP BY vendor ORDER BY vendor",
    ),
    (
        "Latest state of a few devices",
        "SELECT device_id, metric, coalesce(value_number::VARCHAR, value_text, value_boolean::VARCHAR) AS value, unit, "
        "observed_at FROM latest WHERE metric IN ('battery.level', 'environment.temperature') "
        "QUALIFY row_number() OVER (PARTITION BY vendor ORDER BY device_id, metric) <= 2 ORDER BY device_id, metric",
    ),
    (
        "Open alarms",
        "SELECT device_id, rule_name, severity, status, triggered_at, occurrence_count FROM alarms "
        "WHERE status <> 'resolved' ORDER BY triggered_at DESC LIMIT 10",
    ),
)

_SHOWN_ROWS = 1000


def demo(
    seconds: Annotated[int, typer.Option(min=0, help="Stop after this many seconds; 0 runs until Ctrl-C.")] = 0,
    devices: Annotated[int, typer.Option(min=4, help="Number of devices, of all four vendors together.")] = 44,
    data: Annotated[Path, typer.Option("--data", "-d", help="Data folder to write to.")] = Path("data"),
) -> None:
    """Run the whole pipeline against simulated vendors.

    Embedded Kafka, four simulated vendors, connectors, stream worker, both sinks; then three answers from the tables.
    """
    from fleetlake.local.demo import run_demo

    code = run_demo(seconds, devices, data)
    print_answers(data)
    raise typer.Exit(code)


def print_answers(data: Path) -> None:
    """Print the answers to three short questions, and how to ask more."""
    from fleetlake.session import Session

    for title, statement in QUESTIONS:
        with Session(data) as session:
            if answer := session.ask(statement):
                write_table(answer, sys.stdout, _SHOWN_ROWS, title)
    option = "" if data == Path("data") else f" --data {data}"
    print(f'Ask more:  .venv/bin/fleetlake sql{option} "SELECT * FROM alarms"')
