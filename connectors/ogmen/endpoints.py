"""The REST endpoints that are read for each robot: names, counting parameters, facts about the entries. Pure.

Ogmen's API document shows the answers but hardly a path; the paths are settings (`<name>_path`).
"""

from __future__ import annotations

from dataclasses import dataclass

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Endpoint:
    """One kind of answer, and the message type `ogmen.<name>.log` of its entries."""

    name: str
    count: str = ""
    """The parameter for the number of entries; empty for a state."""
    private: bool = False
    """Whether entries say where the robot or the dog was: they are left out while the privacy mode is on."""
    private_fields: frozenset[str] = _NONE
    """Fields that may say so, where the others do not."""
    bookkeeping: frozenset[str] = _NONE
    """Fields that change when the entry is copied."""

    @property
    def type(self) -> str:
        """The message type. It ends with `log` for states, too: duplicates of both are remembered equally long."""
        return f"ogmen.{self.name}.log"

    @property
    def is_log(self) -> bool:
        """Whether it is a log, whose entries are published once. A state without a time is published each time."""
        return bool(self.count)

    @property
    def path_setting(self) -> str:
        """The setting that holds its path."""
        return f"{self.name}_path"


PRIVACY = Endpoint("privacy")
BATTERY = Endpoint("battery")
DEVICE = Endpoint("device")
DEVICE_SETTINGS = Endpoint("device_settings")
INSIGHT = Endpoint("insight", "no_of_insights", private=True)

LOGS = (
    Endpoint("connectivity", "no_of_logs", bookkeeping=frozenset({"is_synced", "synced_at"})),
    Endpoint("system_usage", "no_of_logs"),
    Endpoint("activity", "no_of_activities", private_fields=frozenset({"description"})),
    Endpoint("location", "no_of_logs", private=True),
)
SLOW_STATES = (
    DEVICE,
    Endpoint("storage"),
    Endpoint("network"),
    Endpoint("treat_bin"),
    Endpoint("camera_head"),
    DEVICE_SETTINGS,
    Endpoint("volume"),
    Endpoint("display_brightness"),
    Endpoint("status_light_brightness"),
)
ENDPOINTS = (PRIVACY, BATTERY, *LOGS, *SLOW_STATES, INSIGHT)
