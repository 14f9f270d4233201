"""What WAYSCloud stores of the telemetry its sensors publish."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from simulators.wayscloud.payloads import DATAPOINTS, Sensor, stored_row

KEPT = 50_000
"""Values kept of each device."""


class TelemetryStore:
    """The telemetry of each device, oldest first."""

    def __init__(self) -> None:
        self._values: dict[str, deque[tuple[float, dict[str, Any]]]] = {}

    def add(self, sensor: Sensor, values: Mapping[str, object], now: float) -> None:
        """A sensor has published these datapoints."""
        kept = self._values.setdefault(sensor.device_id, deque(maxlen=KEPT))
        for datapoint in DATAPOINTS:
            if datapoint.name in values:
                kept.append((now, stored_row(sensor.seed, datapoint, values[datapoint.name], now)))

    def rows(self, device: str, start: float, end: float) -> list[dict[str, Any]]:
        """What was measured in a time, both ends included."""
        return [row for at, row in self._values.get(device, ()) if start <= at <= end]
