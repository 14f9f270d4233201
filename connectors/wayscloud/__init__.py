"""WAYSCloud: settings, pure protocol, transports."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectors.wayscloud.settings import WayscloudSettings
    from runtime.checks import CheckResult


async def check(settings: WayscloudSettings) -> list[CheckResult]:
    """See `connector.check`; imported late, since whoever only reads the settings needs no transports."""
    from connectors.wayscloud import connector

    return await connector.check(settings)
