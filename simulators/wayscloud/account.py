"""What the simulated WAYSCloud account holds beside its sensors."""

from dataclasses import dataclass
from typing import Self

from simulators.wayscloud import payloads
from simulators.wayscloud.answers import Item
from simulators.wayscloud.payloads import Sensor


@dataclass
class Account:
    """Sensors and tags by device; groups, profiles, rules, datapoint definitions and alarms by id. May be changed."""

    seed: int
    sensors: dict[str, Sensor]
    tags: dict[str, list[str]]
    groups: dict[str, Item]
    profiles: dict[str, Item]
    rules: dict[str, Item]
    datapoints: dict[str, Item]
    alarms: dict[str, Item]
    details_without_tags: bool = False
    """A device's details come without its tags, so that a client has to ask for them."""

    @classmethod
    def of(cls, seed: int, sensors: list[Sensor], now: float) -> Self:
        """The account of these sensors, with the alarms that there are at a moment."""
        return cls(
            seed=seed,
            sensors={sensor.device_id: sensor for sensor in sensors},
            tags={s.device_id: ["production", f"floor-{1 + number % 3}"] for number, s in enumerate(sensors)},
            groups=_by_id([payloads.group(seed)]),
            profiles=_by_id([payloads.profile(seed)]),
            rules=_by_id(payloads.rules(seed)),
            datapoints=_by_id(payloads.datapoint_definitions(seed)),
            alarms=_by_id(payloads.alarms(seed, sensors, now)),
        )


def _by_id(items: list[Item]) -> dict[str, Item]:
    return {item["id"]: item for item in items}
