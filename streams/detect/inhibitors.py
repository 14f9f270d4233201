"""What is known of inhibitors: alarms that inhibit alarms of other devices (pure).

Each partition reports on `fleetlake.causes.v1` when its inhibitors were open, and up to which moment it has reported
all of them. Both are facts in the devices' event-time order, so it does not matter when they become known: nothing that
depends on them is evaluated before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from schemas import wire
from schemas.timestamps import NEVER
from streams.detect.rules import CompiledInhibitor, CompiledRule

SPANS_KEPT = 64
"""Number of the latest spans of an inhibitor that are kept."""

_MAX_ATTRIBUTE_CHARS = 200


class Inhibitors:
    """When inhibitors were open, by rule and device, and up to when each partition has reported them."""

    def __init__(self, wait: int = 0) -> None:
        self.wait = wait
        """How much later than a condition an inhibitor may open and still inhibit it (microseconds)."""
        self.given_up = False
        """Nothing has been reported for too long: what is deferred is evaluated by what is known."""
        self._partitions: frozenset[int] = frozenset({0})
        self._reported: dict[int, list[int]] = {}
        self._spans: dict[str, dict[str, dict[int, int | None]]] = {}
        self._attributes: dict[str, Mapping[str, str]] = {}
        self._same: dict[tuple[str, str], dict[str, list[str]]] = {}
        self._known: dict[int, int] = {}

    def assign_partitions(self, partitions: frozenset[int]) -> None:
        """Take the partitions that report inhibitors."""
        self._partitions = partitions
        self._known.clear()

    def add(self, history: wire.InhibitorHistory) -> None:
        """Take a history. A known end stays known: a replay reports all spans once more, from the beginning."""
        spans = self._spans.setdefault(history.rule_id, {}).setdefault(history.device_id, {})
        for since, until in history.spans:
            spans[since] = until if until is not None else spans.get(since)
        for since in sorted(spans)[:-SPANS_KEPT]:
            del spans[since]
        self._same.clear()
        self._attributes[history.device_id] = history.attributes

    def report(self, partition: int, reported_until: Sequence[int]) -> None:
        """Take up to when a partition has reported its inhibitors, by level. A level never goes back."""
        before = self._reported.get(partition, ())
        self._reported[partition] = [max(pair) for pair in zip_longest(before, reported_until, fillvalue=-1)]
        self._known.clear()

    def known_until(self, level: int) -> int:
        """The moment before which all inhibitors of this level are known."""
        moment = self._known.get(level)
        if moment is None:
            moment = min(self._reported_by(partition, level) for partition in self._partitions)
            self._known[level] = moment
        return moment

    def _reported_by(self, partition: int, level: int) -> int:
        reported = self._reported.get(partition, ())
        return reported[level] if level < len(reported) else -1

    def evaluable_until(self, level: int) -> int:
        """The moment before which whatever happened to rules of this level can be evaluated."""
        return NEVER if self.given_up else self.known_until(level - 1) - self.wait

    def free_from(self, rule: CompiledRule, device: str, attributes: Mapping[str, Any], moment: int) -> int:
        """The first moment not before this one at which no inhibitor is open; NEVER while an open one has no end."""
        while True:  # each turn passes the end of a span
            ends = [
                NEVER if until is None else until
                for inhibitor in rule.remote_inhibitors
                for spans in self._of(inhibitor, device, attributes)
                for since, until in spans.items()
                if since <= moment + self.wait and (until is None or until > moment)
            ]
            if not ends:
                return moment
            moment = max(ends)
            if moment == NEVER:
                return NEVER

    def _of(
        self, inhibitor: CompiledInhibitor, device: str, attributes: Mapping[str, Any]
    ) -> Iterator[Mapping[int, int | None]]:
        known = self._spans.get(inhibitor.rule_id)
        given = attributes.get(inhibitor.attribute)
        if known is None or given is None:
            return
        if inhibitor.names_device:
            name = str(given)
            other = name if ":" in name else f"{device.partition(':')[0]}:{name}"
            if other in known and other != device:
                yield known[other]
            return
        for other in self._with_same(inhibitor).get(str(given), ()):
            if other != device:
                yield known[other]

    def _with_same(self, inhibitor: CompiledInhibitor) -> Mapping[str, Sequence[str]]:
        """The devices whose inhibitors were reported, by their value of the attribute."""
        key = (inhibitor.rule_id, inhibitor.attribute)
        devices = self._same.get(key)
        if devices is None:
            devices = self._same[key] = {}
            for other in self._spans[inhibitor.rule_id]:
                if (value := self._attributes[other].get(inhibitor.attribute)) is not None:
                    devices.setdefault(value, []).append(other)
        return devices


def comparable(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The attributes that can show two devices to belong together, as text."""
    return {
        name: str(value)
        for name, value in attributes.items()
        if isinstance(value, bool | int | float | str) and len(str(value)) <= _MAX_ATTRIBUTE_CHARS
    }
