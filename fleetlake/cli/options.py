"""The options that many commands share, the settings that they choose, and times as options give them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
SPANS = "90s, 30m, 4h, 1h30m or 7d"


def parse_span(text: str, unit: str | None = None) -> timedelta:
    """A span of time such as `30m` or `1h30m`; a number alone is in `unit`, if there is one. UserError for others."""
    plain = text.strip().lower()
    if unit is not None and re.fullmatch(r"\d+(\.\d+)?", plain):
        plain += unit
    if not _SPAN.fullmatch(plain):
        raise UserError(f"{text!r} is not a span of time: write {SPANS}")
    seconds = sum(float(number) * _UNITS[of] for number, of in _PART.findall(plain))
    try:
        return timedelta(seconds=seconds)
    except OverflowError as error:
        raise UserError(f"{text!r} is too long") from error


def span_in(unit: str | None = None) -> Callable[[Any], timedelta]:
    """A parser for options and arguments that take a span of time; a number alone is in `unit`."""
    return lambda value: value if isinstance(value, timedelta) else parse_span(str(value), unit)


def for_option(purpose: str) -> Any:
    """The option `--for`, also `--seconds`: a span of time, in which a number alone is in seconds."""
    return typer.Option("--for", "--seconds", parser=span_in("s"), metavar="SPAN", show_default=False, help=purpose)


RunTimeOption = Annotated[
    timedelta, for_option(f"Stop after this time: {SPANS}, or seconds; default: runs until Ctrl-C.")
]


def moment(value: Any) -> datetime:
    """A parser for options that take a time; see `parse_time`."""
    found = value if isinstance(value, datetime) else parse_time(str(value))
    assert found is not None
    return found


def parse_time(text: str | None) -> datetime | None:
    """A time (UTC unless it names a zone), or a time ago: `90m`, `24h`, `7d`. UserError for anything else."""
    if text is None:
        return None
    if _SPAN.fullmatch(text.strip().lower()):
        try:
            return datetime.now(UTC) - parse_span(text)
        except OverflowError as error:
            raise UserError(f"{text!r} ago is before all times") from error
    try:
        return as_utc(datetime.fromisoformat(text))
    except ValueError as error:
        raise UserError(f"{text!r} is not a time: write 2026-11-21T08:00Z, or 90m, 24h or 7d for a time ago") from error


def as_utc(moment: datetime) -> datetime:
    """The time, in UTC if it names no zone."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
