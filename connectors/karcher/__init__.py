"""Kärcher: settings, pure protocol, transports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectors.karcher.settings import KarcherSettings
    from runtime.checks import CheckResult


async def check(settings: KarcherSettings, state_dir: Path | None = None) -> list[CheckResult]:
    """See `cloud.check`; imported late, since whoever only reads the settings needs no HTTP client."""
    from connectors.karcher import cloud

    return await cloud.check(settings, state_dir)
