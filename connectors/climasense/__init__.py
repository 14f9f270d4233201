"""ClimaSense: settings, pure protocol, transports."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from connectors.climasense.settings import ClimasenseSettings
    from runtime.checks import CheckResult


async def check(settings: ClimasenseSettings, state_dir: Path) -> list[CheckResult]:
    """See `connector.check`; imported late, since whoever only reads the settings needs no transports."""
    from connectors.climasense import connector

    return await connector.check(settings, state_dir)
