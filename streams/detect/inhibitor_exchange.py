"""The exchange of inhibitors between partitions: what each reports, and what it waits for (pure).

With each watermark a partition reports on `fleetlake.causes.v1` when its inhibitors were open, and then up to which
moment it has reported all of them, by level (`schemas.inhibition`). Every partition reads the reports of all.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas import wire
from schemas.consumed import Record
from schemas.topics import INHIBITORS
from streams.detect.device_alarms import DeviceAlarms
from streams.detect.inhibitors import Inhibitors
from streams.engine.step import Output

_REPORTED_UNTIL_KEY = b"#told"
GIVE_UP_AFTER = 900 * 1_000_000
"""How long nothing new may be reported, by the clock, before what is deferred is evaluated by what is known."""


class InhibitorExchange:
    """One partition's part in the exchange."""

    def __init__(self, inhibitors: Inhibitors) -> None:
        self.inhibitors = inhibitors
        self.levels = 0
        """The highest level that a rule has had; 0: no rule has inhibitors on other devices."""
        self.waiting: set[str] = set()
        """Devices with deferred evaluations."""
        self._unreported: list[wire.InhibitorHistory] = []
        self._reported_until = -1
        self._evaluated_by: tuple[int, ...] = ()
        """What was known when deferred evaluations were last tried."""
        self._last_news: tuple[int, int] | None = None
        """What is known of the lowest level, and since when, by the clock."""

    def assign_partitions(self, partitions: Mapping[str, set[int]]) -> None:
        """Take the partitions of the side inputs."""
        self.inhibitors.assign_partitions(frozenset(partitions.get(INHIBITORS, {0})))

    def take(self, record: Record) -> None:
        """Take a report of any partition. msgspec's error if it is none."""
        if record.value is None:
            return
        if record.key == _REPORTED_UNTIL_KEY:
            self.inhibitors.report(record.partition, wire.decode_inhibitor_progress(record.value).reached)
        else:
            self.inhibitors.add(wire.decode_inhibitor_history(record.value))

    def track(self, alarms: DeviceAlarms) -> None:
        """Take note of what a device waits for and has to report, after its state has changed."""
        device = alarms.device
        if device.state.awaits_inhibitors:
            self.waiting.add(device.id)
        else:
            self.waiting.discard(device.id)
        if alarms.inhibitor_log.unreported:
            self._unreported += alarms.inhibitor_log.unreported
            alarms.inhibitor_log.unreported.clear()

    def is_pending(self, reached: int) -> bool:
        """Whether there is something to report or to evaluate, at the partition's watermark."""
        if self.levels == 0:
            return False
        return reached > self._reported_until or (bool(self.waiting) and self._evaluated_by != self._known(reached))

    def is_news(self, now_us: int, reached: int) -> bool:
        """Whether more is known than at the last call, so that deferred evaluations are to be tried.

        Waiting is given up when nothing new has been reported for too long, by the clock.
        """
        lowest = self.inhibitors.known_until(0)
        if self._last_news is None or lowest != self._last_news[0] or not self.waiting:
            self._last_news = (lowest, now_us)
        self.inhibitors.given_up = now_us - self._last_news[1] > GIVE_UP_AFTER
        known = self._known(reached)
        is_news = known != self._evaluated_by
        self._evaluated_by = known
        return is_news

    def reports(self, reached: int) -> list[Output]:
        """Report the partition's inhibitors, and then up to when they are complete: they are read in this order."""
        outputs = [
            Output(INHIBITORS, f"{history.rule_id}/{history.device_id}".encode(), wire.encode(history))
            for history in self._unreported
        ]
        self._unreported.clear()
        if self.levels and reached > self._reported_until:
            self._reported_until = reached
            upper = (min(reached, self.inhibitors.evaluable_until(level)) for level in range(1, self.levels))
            report = wire.InhibitorProgress([reached, *upper])
            outputs.append(Output(INHIBITORS, _REPORTED_UNTIL_KEY, wire.encode(report)))
        return outputs

    def keep_to_itself(self, partition: int, known_until: list[int]) -> None:
        """Take what this partition would report as if it were all there is."""
        self.inhibitors.report(partition, known_until)
        for history in self._unreported:
            self.inhibitors.add(history)
        self._unreported.clear()

    def _known(self, reached: int) -> tuple[int, ...]:
        known = (self.inhibitors.known_until(level) for level in range(self.levels))
        return (int(self.inhibitors.given_up), reached, *known)
