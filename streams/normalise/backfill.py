"""Back-fill de-duplication: readings that come live and in the back-fill after an outage are emitted once (pure).

Where a live reading has the vendor's time, device, metric, value and time (to the millisecond) identify it. One without
was measured about when we received it: it stands for one stored reading of the same value, the nearest in time.
Nearest means that of all pairs within reach the closest is taken first, each reading once; so a stored reading whose
live one never came takes none that belongs to another. What is compared reaches beyond what is emitted, on either
side (`schemas.envelope.BackfillWindow`): no edge of a record, a request or the back-filled time cuts a pair apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from schemas import wire
from schemas.envelope import BackfillWindow, Envelope
from schemas.timestamps import to_micros
from schemas.vendors import BackfillTypes
from streams.normalise.duplicates import SeenIds, second_of

_BIN_MS = 100
"""Times of receipt are remembered to this precision."""
_LIVE, _STORED, _ABOUT, _TAKEN = range(4)
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored reading of a back-fill."""

    reading: wire.Reading
    content: int
    """Digest of device, metric and value."""
    at: int
    """Its time in milliseconds since the epoch."""


class BackfillFilter:
    """Remembers digests of a vendor's live and stored readings among the ids seen within the long window.

    `types` names the two message types that may carry the same reading; None: the vendor's outages are not back-filled.
    """

    def __init__(self, seen: SeenIds, types: BackfillTypes | None) -> None:
        self._seen = seen
        self._types = types

    def concerns(self, envelope: Envelope) -> bool:
        """Whether a reading of this message may also come by a message of the other type."""
        return self._types is not None and envelope.type in (self._types.live, self._types.stored)

    def new_readings(self, readings: Sequence[wire.Reading], envelope: Envelope) -> list[wire.Reading]:
        """The readings of a live message or of a back-fill that have been emitted neither live nor by a back-fill."""
        second = second_of(envelope.received_at)
        if self._types is not None and envelope.type == self._types.stored:
            return self._new_stored(readings, envelope, second)
        return [reading for reading in readings if self._is_new_live(reading, envelope.device_id, second)]

    def _is_new_live(self, reading: wire.Reading, device_id: str, second: int) -> bool:
        content, at = _content(reading, device_id), _millis(reading)
        if reading.time_source != "vendor":
            number = 0
            while self._seen.is_known(_key(content, _ABOUT, at // _BIN_MS, number), second):
                number += 1
            self._seen.add(_key(content, _ABOUT, at // _BIN_MS, number), second)
            return True
        if self._seen.is_known(_key(content, _STORED, at), second):
            return False
        self._seen.add(_key(content, _LIVE, at), second)
        return True

    def _new_stored(self, readings: Sequence[wire.Reading], envelope: Envelope, second: int) -> list[wire.Reading]:
        window = BackfillWindow.of(envelope.attributes)
        every = [Stored(reading, _content(reading, envelope.device_id), _millis(reading)) for reading in readings]
        unknown = [stored for stored in every if not self._is_known(stored, second)]
        pairs = self._nearest(unknown, int(window.reach_seconds * 1000), second)
        new = []
        for number, stored in enumerate(unknown):
            if not window.contains(stored.reading.observed_at):
                continue  # another record emits it, or it was emitted long before the outage
            self._seen.add(_key(stored.content, _STORED, stored.at), second)
            if (live := pairs.get(number)) is None:
                new.append(stored.reading)
            else:
                self._seen.add(_key(stored.content, _TAKEN, *live), second)
        return new

    def _is_known(self, stored: Stored, second: int) -> bool:
        live, before = _key(stored.content, _LIVE, stored.at), _key(stored.content, _STORED, stored.at)
        return self._seen.is_known(live, second) or self._seen.is_known(before, second)

    def _nearest(self, every: Sequence[Stored], reach: int, second: int) -> dict[int, tuple[int, int]]:
        """Which live reading stands for which stored one, by the latter's number in the sequence."""
        candidates = sorted(
            (abs(place * _BIN_MS + _BIN_MS // 2 - stored.at), number, place, nth)
            for number, stored in enumerate(every)
            for place, nth in self._untaken(stored, reach, second)
        )
        pairs: dict[int, tuple[int, int]] = {}
        taken: set[tuple[int, int, int]] = set()
        for _, number, place, nth in candidates:
            live = (every[number].content, place, nth)
            if number not in pairs and live not in taken:
                pairs[number] = (place, nth)
                taken.add(live)
        return pairs

    def _untaken(self, stored: Stored, reach: int, second: int) -> Iterator[tuple[int, int]]:
        """Live readings without the vendor's time, received about then: place in time, number within it."""
        content, at = stored.content, stored.at
        for place in range((at - reach) // _BIN_MS, (at + reach) // _BIN_MS + 1):
            nth = 0
            while self._seen.is_known(_key(content, _ABOUT, place, nth), second):
                if not self._seen.is_known(_key(content, _TAKEN, place, nth), second):
                    yield place, nth
                nth += 1


def _content(reading: wire.Reading, device_id: str) -> int:
    """Digest of device, metric and value."""
    value = (reading.value_number, reading.value_text, reading.value_boolean, reading.value_json)
    text = repr((device_id, reading.metric, value))
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


def _millis(reading: wire.Reading) -> int:
    return to_micros(reading.observed_at) // 1000


def _key(content: int, role: int, at: int, nth: int = 0) -> int:
    """The digest of a content in a role at a time. Odd factors spread what is near over all 64 bits."""
    return (content + role * 0x9E3779B97F4A7C15 + at * 0xC2B2AE3D27D4EB4F + nth * 0x165667B19E3779F9) & _MASK
