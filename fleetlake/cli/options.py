"""The options that many commands share, the settings that they choose, and times as options give them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetlake.errors import UserError

if TYPE_CHECKING:
    from fleetlake.config import Settings

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file; default fleetlake.toml or $FLEETLAKE_CONFIG.")
]
DataOption = Annotated[Path | None, typer.Option("--data", "-d", help="Data folder; default [pipeline] data.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def read_settings(config: Path | None, data: Path | None) -> Settings:
    """The configuration in force, with `data` as data folder if given. Configures the log as it says."""
    from fleetlake.config import load_settings
    from runtime.log import configure_logging

    settings = load_settings(config, **({"pipeline": {"data": data}} if data else {}))
    configure_logging(settings.log_options)
    require_no_file(settings.pipeline.data)
    return settings


def require_no_file(data: Path) -> None:
    """UserError where a file stands in the place of the data folder."""
    if data.exists() and not data.is_dir():
        raise UserError(f"data folder {data} is a file; name a folder with --data or in [pipeline]")


def parse_time(text: str | None) -> datetime | None:
    """A time (UTC unless it names a zone), or a time ago: `90m`, `24h`, `7d`. UserError for anything else."""
    if text is None:
        return None
    if ago := re.fullmatch(r"(\d+)([mhd])", text):
        unit = {"m": "minutes", "h": "hours", "d": "days"}[ago[2]]
        return datetime.now(UTC) - timedelta(**{unit: int(ago[1])})
    try:
        return as_utc(datetime.fromisoformat(text))
    except ValueError as error:
        raise UserError(f"{text!r} is not a time: write 2026-11-21T08:00Z, or 90m, 24h or 7d for a time ago") from error


def as_utc(moment: datetime) -> datetime:
    """The time, in UTC if it names no zone."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
