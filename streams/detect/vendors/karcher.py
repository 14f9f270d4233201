"""Kärcher's notifications: one alarm per category, code and type (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas import wire
from schemas.severity import severity_of_word
from streams.detect.vendor_alerts import Reader, VendorAlert, text_of


def _notification(event: wire.Event, data: Mapping[str, Any]) -> VendorAlert:
    category, code, kind = (text_of(data, name) for name in ("category", "code", "type"))
    inner = data.get("data")
    inner = inner if isinstance(inner, dict) else {}
    title = text_of(inner, "topic") or event.title or code
    message = text_of(inner, "description") or text_of(inner, "reminder") or title
    severity, original = severity_of_word(data["severity"]) if data.get("severity") is not None else ("warning", None)
    return VendorAlert(f"karcher:notification:{category}:{code}:{kind}", title, title, message, severity, original)


ALARMS: Mapping[str, Reader] = {"notification": _notification}
