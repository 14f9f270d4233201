"""`fleetlake status` and `logs`, about a pipeline that another terminal runs; and `init`, before there is one."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from fleetlake.cli.options import ConfigOption, DataOption, JsonOption, read_settings
from fleetlake.errors import UserError, reason
from schemas.vendors import BUILT_IN

if TYPE_CHECKING:
    pass

_POLL_SECONDS = 0.3
_RATE_SECONDS = 2.0  # over which rates are taken


def status(as_json: JsonOption = False, config: ConfigOption = None, data: DataOption = None) -> None:
    """Show the pipeline that runs on the data folder: its stages, and what it has received and stored.

    Status 1 if none runs, or a stage is not ready.
    """
    from fleetlake.local.status import StatusModel, render
    from runtime.running import read_stages, sampled

    settings = read_settings(config, data)
    stages = read_stages(settings.pipeline.data)
    if stages is None:
        raise UserError(f"no pipeline runs on {settings.pipeline.data}; `fleetlake up` or `fleetlake demo` starts one")
    model = StatusModel(tuple(stages.vendors))
    _, first = asyncio.run(sampled(stages))
    model.update(time.monotonic(), first)
    time.sleep(_RATE_SECONDS)
    down, last = asyncio.run(sampled(stages))
    model.update(time.monotonic(), last)
    if as_json:
        answer = {
            "not_ready": down,
            "vendors": {
                v: {"received": model.total("connect", v), "readings": model.readings(v)} for v in model.vendors
            },
            "lag": model.lag(),
            "open_alarms": model.open_alarms(),
        }
        typer.echo(json.dumps(answer, indent=1))
    else:
        from rich.console import Console

        console = Console()
        title = f"{settings.pipeline.data}: {len(stages.ports)} stages"
        console.print(render(model, time.time() - stages.started_at, down, title, console.width))
    raise typer.Exit(1 if down else 0)


def logs(
    stage: Annotated[str | None, typer.Argument(help="The stage: broker, connect, stream, delta, …")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is logged later.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Begin with this many lines.")] = 20,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Print the end of a stage's log, or the names of the logs."""
    folder = read_settings(config, data).pipeline.data / "logs"
    names = sorted(path.stem for path in folder.glob("*.log"))
    if stage is None:
        typer.echo("\n".join(names) or f"there are no logs in {folder} yet")
        return
    if stage not in names:
        raise UserError(f"no log of {stage!r} in {folder}; there are: {', '.join(names) or 'none'}")
    try:
        _print_log(folder / f"{stage}.log", lines, follow)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _print_log(path: Path, lines: int, follow: bool) -> None:
    file = path.open(encoding="utf-8", errors="replace")
    try:
        for line in file.read().splitlines()[-lines:] if lines else []:
            typer.echo(line)
        while follow:
            if text := file.read():
                typer.echo(text, nl=False)
            elif _is_replaced(path, file):
                file.close()
                file = path.open(encoding="utf-8", errors="replace")
            else:
                time.sleep(_POLL_SECONDS)
    finally:
        file.close()


def _is_replaced(path: Path, file: TextIO) -> bool:
    """Whether the log goes on in a new file of this name."""
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:  # between the two renames
        return False


def init(
    vendors: Annotated[list[str], typer.Argument(help=f"{', '.join(BUILT_IN)}, or another registered vendor.")],
    to: Annotated[Path, typer.Option("--to", help="The file to write.")] = Path("fleetlake.toml"),
) -> None:
    """Write a short configuration file for some vendors, with what each needs."""
    from fleetlake.config import require_vendors
    from fleetlake.starter import starter_toml

    require_vendors(vendors)
    try:
        with to.open("x", encoding="utf-8") as file:
            file.write(starter_toml(vendors))
    except FileExistsError as error:
        raise UserError(f"{to} exists already; --to names another file") from error
    except OSError as error:
        raise UserError(f"cannot write {to}: {reason(error)}") from error
    typer.echo(f"{to} is written. Fill it in, then: fleetlake check, fleetlake up")
