"""Ogmen's alerts: one alarm per source and header (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas import wire
from streams.detect.vendor_alerts import Reader, VendorAlert, text_of


def _alert(event: wire.Event, data: Mapping[str, Any]) -> VendorAlert:
    """One alarm per source and header (docs/contract.md, «Alarms»)."""
    source, header = text_of(data, "source"), text_of(data, "header")
    return VendorAlert(
        f"ogmen:alert:{source}:{header}", header, header, text_of(data, "body"), event.severity or "warning"
    )


ALARMS: Mapping[str, Reader] = {"alert": _alert}
