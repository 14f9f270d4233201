"""The options that many commands share, and the settings that they choose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fleetlake.config import Settings

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file; default fleetlake.toml or $FLEETLAKE_CONFIG.")
]
DataOption = Annotated[Path | None, typer.Option("--data", "-d", help="Data folder; default [pipeline] data.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def read_settings(config: Path | None, data: Path | None) -> Settings:
    """The settings as configured, of the data folder that is named; from now on the log is as they say."""
    from fleetlake.config import load_settings
    from runtime.log import configure_logging

    settings = load_settings(config, **({"pipeline": {"data": data}} if data else {}))
    configure_logging(settings.pipeline.log_level)
    return settings
