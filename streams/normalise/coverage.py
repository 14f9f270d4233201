"""When somebody listened to the vendors' devices, as the connectors report it on `fleetlake.coverage.v1` (pure).

A listener is a channel of one connector process (vendor-wide), or one device's socket. Silence is counted only over
time in which somebody listened (docs/adr/0024-coverage.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from schemas import wire
from schemas.coverage import PROOF_AFTER, STALE_AFTER
from schemas.timestamps import NEVER

Unheard = tuple[int, int]
"""From when to when nobody listened, in microseconds; NEVER where nobody listens yet."""


class Receipt(NamedTuple):
    """The record by which a device is judged: when it was received (microseconds), and whether the device sent it."""

    at: int
    is_sent: bool


@dataclass(slots=True)
class _Listener:
    channel: str
    spans: Sequence[tuple[int, int | None]]
    reported_until: int

    @property
    def is_listening(self) -> bool:
        return bool(self.spans) and self.spans[-1][1] is None

    @property
    def has_only_begun(self) -> bool:
        """Whether the span under way began with the last report."""
        return self.is_listening and self.spans[-1][0] >= self.reported_until

    def intervals(self) -> list[tuple[int, int]]:
        """When it listened, as far as it has reported."""
        return [(since, self.reported_until if until is None else until) for since, until in self.spans]


class CoverageMap:
    """What is known of all listeners. Reports of one listener come in order; old ones once more do no harm."""

    def __init__(self) -> None:
        self._vendors: dict[str, dict[str, _Listener]] = {}
        self._devices: dict[str, _Listener] = {}
        self._vendor_gaps: dict[str, list[Unheard]] = {}
        self._gaps: dict[str, list[Unheard]] = {}
        self._newest: dict[str, int] = {}

    def take(self, key: str, report: wire.Coverage) -> bool:
        """Take a report. Return whether it changes when somebody listened."""
        known = self._devices if report.device_id else self._vendors.setdefault(report.vendor, {})
        name = report.device_id or key
        before = known.get(name)
        if before is not None and before.reported_until > report.reported_until:
            return False
        known[name] = _Listener(report.channel, report.spans, report.reported_until)
        if not report.device_id:
            self._newest[report.vendor] = max(self._newest.get(report.vendor, 0), report.reported_until)
        if before is not None and before.spans == report.spans and not before.has_only_begun:
            return False
        if report.device_id:
            self._gaps.pop(report.device_id, None)
        else:
            self._vendor_gaps.pop(report.vendor, None)
            self._gaps.clear()
        return True

    def reported_until(self, vendor: str) -> int | None:
        """Up to when it is known whether somebody listened to a vendor; None where nobody ever reported it.

        A listener that is far behind the newest of its vendor has ended, and does not count.
        """
        times = [listener.reported_until for listener in self._vendors.get(vendor, {}).values()]
        newest = max(times, default=None)
        return None if newest is None else min(at for at in times if at >= newest - STALE_AFTER)

    def due(self, device: str, since: int, duration: int, receipt: Receipt | None = None) -> int:
        """The first moment by which somebody has listened to the device for `duration` since a moment.

        A record that the device sent proves that somebody listened until its `receipt`, if the listener had reported
        shortly before (`PROOF_AFTER`). Otherwise nobody knows yet who listened since that report.
        """
        at = since + duration
        for begin, end in self._gaps_of(device, receipt):
            if end <= since:
                continue
            begin = max(begin, since)
            if begin >= at:
                break
            if end == NEVER:
                return NEVER
            at += end - begin
        return at

    def outages(self, vendor: str, device: str = "") -> Sequence[Unheard]:
        """When nobody listened to a vendor, or when a device's own socket was down; what is not reported counts.

        The last of them may turn out to be none, as soon as its listener reports.
        """
        if device:
            return list(self._of_device(device))
        channels = _by_channel(self._vendors.get(vendor, {}).values())
        tails = ((max(until for each in some for _, until in each.intervals()), NEVER) for some in channels)
        # who has only begun to listen has not shown yet that the outage is over
        return _merged([*self._of_vendor(vendor), *tails], adjacent=True)

    def listened_within(self, device: str, since: int, until: int, receipt: Receipt | None = None) -> int:
        """How long somebody listened to the device between two moments (microseconds)."""
        gaps = self._gaps_of(device, receipt)
        return until - since - sum(max(0, min(end, until) - max(begin, since)) for begin, end in gaps)

    def _gaps_of(self, device: str, receipt: Receipt | None) -> Sequence[Unheard]:
        vendor = device.partition(":")[0]
        gaps = self._gaps.get(device)
        if gaps is None:
            gaps = self._gaps[device] = _merged([*self._of_vendor(vendor), *self._of_device(device)])
        if receipt is None:
            return gaps
        reported_until = self._newest.get(vendor, receipt.at)
        if receipt.at - reported_until > PROOF_AFTER:
            return _merged([*gaps, (reported_until, receipt.at)])
        if not receipt.is_sent or not any(begin < receipt.at < end for begin, end in gaps):
            return gaps
        of_vendor = ((_proven(gap, receipt.at), gap[1]) for gap in self._of_vendor(vendor))
        return _merged([*of_vendor, *self._of_device(device)])

    def _of_vendor(self, vendor: str) -> Sequence[Unheard]:
        gaps = self._vendor_gaps.get(vendor)
        if gaps is None:
            channels = _by_channel(self._vendors.get(vendor, {}).values())
            gaps = self._vendor_gaps[vendor] = _merged(gap for some in channels for gap in _between(some))
        return gaps

    def _of_device(self, device: str) -> Iterable[Unheard]:
        listener = self._devices.get(device)
        if listener is None:
            return ()
        ends = [until for _, until in listener.spans if until is not None]
        begins = [since for since, _ in listener.spans[1:]]
        return [gap for gap in zip(ends, [*begins, NEVER], strict=False) if gap[0] < gap[1]]


def _proven(gap: Unheard, received: int) -> int:
    """When a gap begins, if a message that was received then shows that it began later than reported."""
    begin, end = gap
    return received if begin < received < end and received - begin <= PROOF_AFTER else begin


def _by_channel(listeners: Iterable[_Listener]) -> list[list[_Listener]]:
    channels: dict[str, list[_Listener]] = {}
    for listener in listeners:
        if listener.spans:
            channels.setdefault(listener.channel, []).append(listener)
    return list(channels.values())


def _between(listeners: Iterable[_Listener]) -> list[Unheard]:
    """When none of the listeners of a channel listened, after the first report."""
    known = [(since, until, listener) for listener in listeners for since, until in listener.intervals()]
    known.sort(key=lambda each: each[0])
    gaps: list[Unheard] = []
    heard_until, last = -1, None
    for since, until, listener in known:
        if last is not None and since > heard_until:
            gaps.append((heard_until, since))
        if last is None or until >= heard_until:
            heard_until, last = until, listener
    if last is not None and not last.is_listening:
        gaps.append((heard_until, NEVER))
    return gaps


def _merged(gaps: Iterable[Unheard], adjacent: bool = False) -> list[Unheard]:
    merged: list[Unheard] = []
    for begin, end in sorted(gaps):
        if merged and (begin < merged[-1][1] or (adjacent and begin == merged[-1][1])):
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged
