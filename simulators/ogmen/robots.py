"""The robots of the simulated accounts, with their privacy modes and the faults planted on them."""

from collections.abc import Mapping
from typing import Any

from simulators import faults
from simulators.faults import DeviceFaults, Record, Target
from simulators.ogmen import payloads
from simulators.ogmen.payloads import OroRobot
from simulators.settings import SimulatorSettings


class RobotFleet:
    """The robots by device and by dog; ``record`` takes what is planted."""

    def __init__(self, settings: SimulatorSettings, record: Record) -> None:
        self.robots = payloads.build_fleet(settings.seed, settings.ogmen.devices, settings.cycle_seconds)
        self.privacy: dict[str, payloads.Privacy] = {}
        """Privacy modes that are set by hand; the others follow ``privacy_seconds``."""
        self._settings = settings.ogmen
        self.by_id: Mapping[str, OroRobot] = {oro.device_id: oro for oro in self.robots}
        """All robots, those too that were removed from their accounts."""
        self.by_dog: Mapping[str, OroRobot] = {oro.dog_id: oro for oro in self.robots}
        metrics = ("battery.level",) if settings.ogmen.cross_battery else ()
        targets = [Target(oro.device_id, metrics) for oro in self.robots]
        plans = faults.plan(settings.seed, "ogmen", targets, settings.faults)
        self._faults = {
            oro.device_id: DeviceFaults("ogmen", f"ogmen:{oro.device_id}", plans[oro.device_id], record)
            for oro in self.robots
        }

    @property
    def faults(self) -> Mapping[str, DeviceFaults]:
        """The planted faults by device id."""
        return self._faults

    def remove(self, device_id: str) -> str:
        """Take a robot out of its account; its id."""
        self.robots = [oro for oro in self.robots if oro.device_id != device_id]
        return device_id

    def privacy_of(self, oro: OroRobot, now: float) -> payloads.Privacy:
        """The robot's privacy mode."""
        return self.privacy.get(oro.device_id) or payloads.privacy_at(now, self._settings.privacy_seconds)

    def with_leaks(self, oro: OroRobot, message: dict[str, Any]) -> dict[str, Any]:
        """The message, with account data among its fields if ``account_leaks`` is set."""
        return payloads.with_account(oro, message) if self._settings.account_leaks else message
