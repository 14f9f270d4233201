"""What is known of alarms that inhibit those of other devices (pure).

Each partition tells on `fleetlake.causes.v1` when its causes were open, and up to when it has told all. Both are facts
about the devices' lines of time, so it does not matter when they come to be known: nothing is judged before they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from schemas import wire
from streams.detect.rules import CompiledRule, Elsewhere
from streams.detect.schedules import NEVER

SPANS_KEPT = 64
"""So many of the latest spans of a cause are remembered."""

_MAX_ATTRIBUTE_CHARS = 200


class Causes:
    """Spans of causes by rule and device, and how far each partition has told them."""

    def __init__(self, wait: int = 0) -> None:
        self.wait = wait
        """A cause that opens so much later still inhibits (microseconds)."""
        self.given_up = False
        """Nothing new has been told for too long: what waits is judged by what is known."""
        self._partitions: frozenset[int] = frozenset({0})
        self._reached: dict[int, list[int]] = {}
        self._spans: dict[str, dict[str, dict[int, int | None]]] = {}
        self._attributes: dict[str, Mapping[str, str]] = {}
        self._same: dict[tuple[str, str], dict[str, list[str]]] = {}
        self._known: dict[int, int] = {}

    def expect(self, partitions: frozenset[int]) -> None:
        """Name the partitions that tell causes."""
        self._partitions = partitions
        self._known.clear()

    def tell(self, told: wire.InhibitorHistory) -> None:
        """Take a history. An end that was known stays known: a replay tells everything anew, from the beginning."""
        spans = self._spans.setdefault(told.rule_id, {}).setdefault(told.device_id, {})
        for since, until in told.spans:
            spans[since] = until if until is not None else spans.get(since)
        for since in sorted(spans)[:-SPANS_KEPT]:
            del spans[since]
        self._same.clear()
        self._attributes[told.device_id] = told.attributes

    def reach(self, partition: int, reached: Sequence[int]) -> None:
        """Take how far a partition has told, by level; it never goes back."""
        before = self._reached.get(partition, ())
        self._reached[partition] = [max(pair) for pair in zip_longest(before, reached, fillvalue=-1)]
        self._known.clear()

    def known(self, level: int) -> int:
        """Before this moment all causes of this level are known."""
        found = self._known.get(level)
        if found is None:
            found = min(self._reached_by(partition, level) for partition in self._partitions)
            self._known[level] = found
        return found

    def _reached_by(self, partition: int, level: int) -> int:
        reached = self._reached.get(partition, ())
        return reached[level] if level < len(reached) else -1

    def bound(self, level: int) -> int:
        """What happened before this moment to rules of this level can be judged."""
        return NEVER if self.given_up else self.known(level - 1) - self.wait

    def free_from(self, rule: CompiledRule, device: str, attributes: Mapping[str, Any], moment: int) -> int:
        """The first moment from this one on at which no cause inhibits the rule; NEVER while one is open."""
        while True:  # each turn leaves a span behind for good
            ends = [
                NEVER if until is None else until
                for cause in rule.elsewhere
                for spans in self._of(cause, device, attributes)
                for since, until in spans.items()
                if since <= moment + self.wait and (until is None or until > moment)
            ]
            if not ends:
                return moment
            moment = max(ends)
            if moment == NEVER:
                return NEVER

    def _of(self, cause: Elsewhere, device: str, attributes: Mapping[str, Any]) -> Iterator[Mapping[int, int | None]]:
        known = self._spans.get(cause.rule_id)
        given = attributes.get(cause.attribute)
        if known is None or given is None:
            return
        if cause.names_device:
            name = str(given)
            other = name if ":" in name else f"{device.partition(':')[0]}:{name}"
            if other in known and other != device:
                yield known[other]
            return
        for other in self._with(cause).get(str(given), ()):
            if other != device:
                yield known[other]

    def _with(self, cause: Elsewhere) -> Mapping[str, Sequence[str]]:
        """The devices of which causes were told, by their value of the attribute."""
        key = (cause.rule_id, cause.attribute)
        found = self._same.get(key)
        if found is None:
            found = self._same[key] = {}
            for other in self._spans[cause.rule_id]:
                if (value := self._attributes[other].get(cause.attribute)) is not None:
                    found.setdefault(value, []).append(other)
        return found


def comparable(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The attributes by which devices are told to be the same."""
    return {
        name: str(value)
        for name, value in attributes.items()
        if isinstance(value, bool | int | float | str) and len(str(value)) <= _MAX_ATTRIBUTE_CHARS
    }
