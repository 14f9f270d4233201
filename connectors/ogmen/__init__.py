"""Ogmen: settings, pure protocol, transports."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectors.ogmen.settings import OgmenSettings
    from runtime.checks import CheckResult


async def check(settings: OgmenSettings) -> list[CheckResult]:
    """See `connector.check`; imported late, since whoever only reads the settings needs no transports."""
    from connectors.ogmen import connector

    return await connector.check(settings)
