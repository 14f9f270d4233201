"""`fleetlake demo`: the whole pipeline against simulated vendors, then three answers from the tables."""

from __future__ import annotations

import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from fleetlake.cli.options import RunTimeOption
from fleetlake.cli.output import write_table
from fleetlake.hints import command

QUESTIONS = (
    (
        "Rows per vendor",
        "SELECT vendor, count(*) AS readings, count(DISTINCT device_id) AS devices, "
        "strftime(max(observed_at), '%H:%M:%S') AS latest_utc FROM readings GROUP BY vendor ORDER BY vendor",
    ),
    (
        "Latest state of a few devices",
        "SELECT device_id, max(value_number) FILTER (metric = 'battery.level') AS battery, "
        "max(value_number) FILTER (metric = 'environment.temperature') AS celsius, "
        "strftime(max(observed_at), '%H:%M:%S') AS utc FROM latest "
        "WHERE metric IN ('battery.level', 'environment.temperature') GROUP BY vendor, device_id "
        "QUALIFY row_number() OVER (PARTITION BY vendor ORDER BY device_id) <= 2 ORDER BY device_id",
    ),
    (
        "Open alarms",
        "SELECT device_id, severity, strftime(triggered_at, '%H:%M:%S') AS since_utc, rule_name FROM alarms "
        "WHERE status <> 'resolved' ORDER BY triggered_at DESC LIMIT 10",
    ),
)
"""Short questions to the tables. The answers are meant for a terminal of 80 columns."""

_SHOWN_ROWS = 1000


def demo(
    seconds: RunTimeOption = timedelta(),
    devices: Annotated[int, typer.Option(min=4, help="Number of devices, of all four vendors together.")] = 44,
    data: Annotated[Path, typer.Option("--data", "-d", help="Data folder to write to.")] = Path("data"),
) -> None:
    """Run the whole pipeline against simulated vendors.

    Embedded Kafka, four simulated vendors, connectors, stream worker, both sinks; then three answers from the tables.
    """
    signal.signal(signal.SIGINT, _leave)  # until the pipeline has a handler of its own
    print("preparing the demo …", flush=True)  # its modules take a moment to load
    from fleetlake.local.demo import run_demo

    code = run_demo(round(seconds.total_seconds()), devices, data)
    if (data / "fleet.duckdb").exists():
        print_answers(data)
    else:
        print("stopped before anything was published")
    raise typer.Exit(code)


def _leave(*_: object) -> None:
    print("stopped before anything was started")
    sys.exit(0)


def print_answers(data: Path) -> None:
    """Print the answers to three short questions, and how to ask more."""
    from fleetlake.session import Session

    for title, statement in QUESTIONS:
        with Session(data) as session:
            if answer := session.ask(statement):
                write_table(answer, sys.stdout, _SHOWN_ROWS, title)
    option = () if data == Path("data") else ("--data", data)
    print(f"Ask more:  {command('sql', *option, 'SELECT * FROM alarms')}")
