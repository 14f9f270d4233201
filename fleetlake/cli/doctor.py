"""`fleetlake doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from fleetlake.cli.options import ConfigOption, DataOption, read_settings
from fleetlake.cli.output import print_table


def doctor(
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Examine the running pipeline: what is wrong, and what to do.

    Looks at topics and their partitions, lag, offsets against retention, members of our groups, clocks, connection
    gaps, dead letters, silent devices, disk, file descriptors, permissions and versions. Writes nothing. Status 1 if
    something is wrong; notes do not count.
    """
    from rich.text import Text

    from fleetlake.ops.doctor.examination import examine
    from fleetlake.ops.doctor.findings import Verdict
    from fleetlake.stages import resolve_kafka

    settings = read_settings(config, data)
    findings = examine(settings, lambda: resolve_kafka(settings))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        colours = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.WRONG: "bold red"}
        rows = [(Text(f.verdict, colours[f.verdict]), f.subject, f.what, f.advice) for f in findings]
        print_table(("", "subject", "what is so", "what to do"), rows)
    raise typer.Exit(1 if any(finding.verdict is Verdict.WRONG for finding in findings) else 0)
