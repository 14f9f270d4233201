"""Vendors' own alarms in our terms, as they are read from the events that the normaliser makes (pure).

A vendor reports single alerts (`VendorAlert`) or the life cycle of its alarms (`Transition`). Which of its events are
read, and how, is in the vendor's registration (`VendorSpec.alarms`); see `streams.detect.vendors`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import msgspec

from schemas import wire
from schemas.vendors import vendors
from streams.detect.state import AlarmFacts


class VendorAlert(msgspec.Struct, frozen=True):
    """One alert of a vendor, in our terms. `identity` says which alarm of the device it belongs to."""

    identity: str
    name: str
    title: str
    message: str
    severity: str
    severity_original: str | None = None


class Transition(msgspec.Struct, frozen=True):
    """One entry of the timeline of an alarm whose life cycle the vendor reports."""

    identity: str
    kind: str
    alarm: AlarmFacts
    """The alarm as it was triggered."""
    actor: str
    note: str | None = None
    occurrence_count: int | None = None
    severity_original: str | None = None
    rule_id: str = ""
    """The vendor's id of the rule that raised the alarm; empty where it names none."""


Reader = Callable[[wire.Event, Mapping[str, Any]], VendorAlert | Transition]
"""Reads an event whose data is a JSON object; both as the vendor's normaliser made them."""


@cache
def readers() -> Mapping[tuple[str, str], Reader]:
    """How the events of a vendor and a type are read, of all vendors (`VendorSpec.alarms`).

    RegistrationError names the vendor whose readers cannot be loaded.
    """
    return {
        (spec.name, event_type): reader
        for spec in vendors().values()
        if spec.alarms
        for event_type, reader in spec.load("alarms").items()
    }


def is_vendor_alarm(vendor: str, event_type: str) -> bool:
    """Whether events of this type enter the alarms' life cycle."""
    return (vendor, event_type) in readers()


def text_of(data: Mapping[str, Any], name: str) -> str:
    """A member as text; empty where it is missing or null."""
    value = data.get(name)
    return "" if value is None else str(value)
