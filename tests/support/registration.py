"""Looking the vendors up again after a package was installed or removed."""

from __future__ import annotations

from fleetlake.config import settings_class
from schemas import redact
from schemas.metrics import catalogue
from schemas.vendors import forget_vendors
from simulators.settings import simulator_settings
from streams import normalise
from streams.detect import vendor_alerts


def forget() -> None:
    """Forget everything that this process derived from the registered vendors."""
    forget_vendors()
    redact.forget_names()
    for function in (
        settings_class,
        simulator_settings,
        catalogue,
        normalise.handlers,
        normalise.handler_of,
        vendor_alerts.readers,
    ):
        function.cache_clear()
