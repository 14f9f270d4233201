"""Enumerations that records, settings and commands share. They import no library, so that `--help` is fast."""

from __future__ import annotations

from enum import StrEnum


class Severity(StrEnum):
    """Severity of an alarm, worst first. Ogmen's 1 to 5 map one to one; WAYSCloud's three are a subset."""

    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"
    WARNING = "warning"
    INFO = "info"


class AlarmStatus(StrEnum):
    """State of an alarm, in WAYSCloud's words."""

    ACTIVE = "active"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class KeyRole(StrEnum):
    """What an API key of the alarm service may do, least first. Each role includes those before it."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"

    def may(self, needed: KeyRole) -> bool:
        """Whether a key of this role may do what requires the role `needed`."""
        order = list(KeyRole)
        return order.index(self) >= order.index(needed)
