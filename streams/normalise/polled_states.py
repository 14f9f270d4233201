"""Recognising polled states that were emitted before (pure).

Source: docs/contract.md, «Identity and duplicates». What is polled says the same until something changes. A state is
known by its device, its name, its own time and its value; one without a time of its own by its value, until another
value comes. What is remembered has no window: a device may be off for weeks and its states are still the same facts.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b

from schemas import wire
from schemas.timestamps import to_micros

_VERSION = 1
_ENTRY = struct.Struct("<QQ")
"""Digest of a state's name, digest of its time and value."""
_REMEMBERED = 4
"""Timed facts remembered per name: a cloud's replicas may disagree for a while about the latest one."""
_MAX_FACTS = 4_096
"""Facts remembered per device; those of the name that changed longest ago are forgotten first."""

_Known = dict[int, tuple[int, ...]]
"""Facts by the digest of their name, the latest first."""


class PolledStateFilter:
    """Remembers the states that were emitted of each polled device, as digests.

    Whether a state is new depends on the polls alone, not on how records were batched.
    """

    def __init__(self, max_devices: int = 100_000) -> None:
        self._max_devices = max_devices
        self._packed: OrderedDict[str, bytes] = OrderedDict()
        """What `take_changed` returned per device, the one that changed longest ago first."""
        self._changed: dict[str, None] = {}

    def new_readings(self, device_id: str, message_type: str, readings: Sequence[wire.Reading]) -> list[wire.Reading]:
        """The readings of one poll that were not emitted before; they are remembered."""
        known = _unpacked(self._packed.get(device_id, b""))
        facts: dict[int, list[wire.Reading]] = {}
        for reading in readings:
            facts.setdefault(_name_digest(message_type, reading.metric), []).append(reading)
        new: list[wire.Reading] = []
        changed = False
        for name, group in facts.items():
            before = known.get(name, ())
            digests = [_fact_digest(reading) for reading in group]
            new += [reading for reading, digest in zip(group, digests, strict=True) if digest not in before]
            after = _remembered(digests, before, all(reading.time_source == "vendor" for reading in group))
            if after != before:
                changed = True
                known.pop(name, None)
                known[name] = after
        if changed:
            self._remember(device_id, _pack(known))
        return new

    def take_changed(self) -> Iterator[tuple[str, bytes | None]]:
        """Each device whose states changed since the last call, and what `restore` takes; None: it is forgotten."""
        changed, self._changed = self._changed, {}
        for device_id in changed:
            yield device_id, self._packed.get(device_id)

    def restore(self, device_id: str, packed: bytes | None) -> None:
        """Remember what `take_changed` returned. ValueError where another version of the program packed it."""
        self._packed.pop(device_id, None)
        if packed is None:
            return
        if packed[:1] != bytes([_VERSION]):
            raise ValueError(f"state of version {packed[0]}; this program reads version {_VERSION}")
        self._packed[device_id] = packed

    def _remember(self, device_id: str, packed: bytes) -> None:
        self._packed[device_id] = packed
        self._packed.move_to_end(device_id)
        self._changed[device_id] = None
        while len(self._packed) > self._max_devices:
            oldest, _ = self._packed.popitem(last=False)
            self._changed[oldest] = None


def _remembered(digests: list[int], before: tuple[int, ...], is_timed: bool) -> tuple[int, ...]:
    """What to remember of a name: all facts of the latest poll, and a few timed ones before."""
    if not is_timed:
        return tuple(digests)
    if all(digest in before for digest in digests):
        return before
    return (*digests, *(digest for digest in before if digest not in digests))[: max(_REMEMBERED, len(digests))]


def _pack(known: _Known) -> bytes:
    entries = [(name, digest) for name, digests in known.items() for digest in digests]
    return bytes([_VERSION]) + b"".join(_ENTRY.pack(*entry) for entry in entries[-_MAX_FACTS:])


def _unpacked(packed: bytes) -> _Known:
    known: _Known = {}
    for name, digest in _ENTRY.iter_unpack(packed[1:]):
        known[name] = (*known.get(name, ()), digest)
    return known


@lru_cache(maxsize=65_536)
def _name_digest(message_type: str, metric: str) -> int:
    return _digest(f"{message_type} {metric}")


def _fact_digest(reading: wire.Reading) -> int:
    at = to_micros(reading.observed_at) if reading.time_source == "vendor" else None
    value = reading.value_number, reading.value_text, reading.value_boolean, reading.value_json
    return _digest(repr((at, value, reading.unit)))


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "little")
