"""What alarm detection needs to know beside its inputs (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streams.detect.device import MOST_DEFERRED
from streams.detect.schedules import CompiledWindow
from streams.normalise import Options


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """Options of the alarm operators; `streams.settings.StreamSettings` makes them. Times in microseconds."""

    normalise: Options = field(default_factory=Options)
    late_allowance: int = 0
    """How long a reading is held back for late ones."""
    quiet: Mapping[str, int] = field(default_factory=dict)
    """By vendor: how long after its last report a vendor's alarm resolves."""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Group to its devices: ids, or patterns with `*`."""
    profiles: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Likewise the device profiles."""
    maintenance: tuple[CompiledWindow, ...] = ()
    """Windows of the configuration."""
    attributes: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """Attribute to value to devices: ids, or patterns with `*`. They take precedence over the registry's."""
    inhibition_wait: int = 0
    """How much later than a condition an inhibitor on another device may open and still inhibit it."""
    not_listening: int = 60_000_000
    """How long nobody must have listened before that is an alarm."""
    most_deferred: int = MOST_DEFERRED
    """When more is deferred on a level of a device, the oldest is evaluated by the inhibitors that are known."""
