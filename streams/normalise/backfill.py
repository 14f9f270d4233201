"""Readings that come live and are read back after an outage: told once (pure).

Where a live reading has the vendor's time, device, metric, value and time (to the millisecond) recognise it. One
without was measured about when we got it: it stands for one stored reading of the same value, the nearest in time.
Nearest means that of all pairs within reach the closest is taken first, each reading once; so a stored reading whose
live one never came takes none that belongs to another. What is compared reaches beyond what is told, on either
side (`schemas.envelope.BackfillWindow`): no edge of a record, a request or the time read cuts a pair apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

from schemas import wire
from schemas.envelope import BackfillWindow, Envelope
from schemas.timestamps import to_micros

_BIN_MS = 100
"""To this a time of receipt is remembered."""
_LIVE, _STORED, _ABOUT, _TAKEN = range(4)
_MASK = (1 << 64) - 1


class TwoWays:
    """What is remembered are digests of eight bytes, by `is_known` and `remember` (digest, second of receipt)."""

    def __init__(self, is_known: Callable[[int, int], bool], remember: Callable[[int, int], None]) -> None:
        self._is_known = is_known
        self._remember = remember

    def live(self, readings: Sequence[wire.Reading], device_id: str, second: int) -> list[wire.Reading]:
        """Those of a live message that have not been read back before."""
        return [reading for reading in readings if self._is_live_news(reading, device_id, second)]

    def _is_live_news(self, reading: wire.Reading, device_id: str, second: int) -> bool:
        what, at = _content(reading, device_id), _millis(reading)
        if reading.time_source != "vendor":
            number = 0
            while self._is_known(_key(what, _ABOUT, at // _BIN_MS, number), second):
                number += 1
            self._remember(_key(what, _ABOUT, at // _BIN_MS, number), second)
            return True
        if self._is_known(_key(what, _STORED, at), second):
            return False
        self._remember(_key(what, _LIVE, at), second)
        return True

    def stored(self, readings: Sequence[wire.Reading], envelope: Envelope, second: int) -> list[wire.Reading]:
        """Those of a record read back that are to be told and have been told neither live nor by an earlier record."""
        read = BackfillWindow.of(envelope.attributes)
        found = [(reading, _content(reading, envelope.device_id), _millis(reading)) for reading in readings]
        open_ones = [
            (reading, what, at)
            for reading, what, at in found
            if not (self._is_known(_key(what, _LIVE, at), second) or self._is_known(_key(what, _STORED, at), second))
        ]
        pairs = self._nearest([(what, at) for _, what, at in open_ones], int(read.reach_seconds * 1000), second)
        news = []
        for number, (reading, what, at) in enumerate(open_ones):
            if not read.contains(reading.observed_at):
                continue  # it is told by another record, or was told long before the outage
            self._remember(_key(what, _STORED, at), second)
            if (live := pairs.get(number)) is None:
                news.append(reading)
            else:
                self._remember(_key(what, _TAKEN, *live), second)
        return news

    def _nearest(self, stored: Sequence[tuple[int, int]], reach: int, second: int) -> dict[int, tuple[int, int]]:
        """Which live reading stands for which stored one (content, milliseconds), by its number in the sequence."""
        candidates = sorted(
            (abs(place * _BIN_MS + _BIN_MS // 2 - at), number, place, nth)
            for number, (what, at) in enumerate(stored)
            for place, nth in self._untaken(what, at, reach, second)
        )
        pairs: dict[int, tuple[int, int]] = {}
        gone: set[tuple[int, int, int]] = set()
        for _, number, place, nth in candidates:
            live = (stored[number][0], place, nth)
            if number not in pairs and live not in gone:
                pairs[number] = (place, nth)
                gone.add(live)
        return pairs

    def _untaken(self, what: int, at: int, reach: int, second: int) -> Iterator[tuple[int, int]]:
        """Live readings without the vendor's time, got about then: place in time, number of those of this place."""
        for place in range((at - reach) // _BIN_MS, (at + reach) // _BIN_MS + 1):
            nth = 0
            while self._is_known(_key(what, _ABOUT, place, nth), second):
                if not self._is_known(_key(what, _TAKEN, place, nth), second):
                    yield place, nth
                nth += 1


def _content(reading: wire.Reading, device_id: str) -> int:
    """Device, metric and value."""
    value = (reading.value_number, reading.value_text, reading.value_boolean, reading.value_json)
    text = repr((device_id, reading.metric, value))
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


def _millis(reading: wire.Reading) -> int:
    return to_micros(reading.observed_at) // 1000


def _key(what: int, role: int, at: int, nth: int = 0) -> int:
    """The digest of a content in a role at a time. Odd factors spread what is near over all 64 bits."""
    return (what + role * 0x9E3779B97F4A7C15 + at * 0xC2B2AE3D27D4EB4F + nth * 0x165667B19E3779F9) & _MASK
