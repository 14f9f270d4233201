"""Recognising messages that are delivered more than once (pure).

Source: docs/contract.md, «Identity and duplicates»; windows of at least 10 minutes and 24 hours.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from zlib import crc32

from schemas import wire
from schemas.envelope import MQTT_TOPIC, Envelope, dedupe_window_seconds
from schemas.timestamps import EPOCH

SHORT_WINDOW_SECONDS = 600
LONG_WINDOW_SECONDS = 24 * 3600
BYTES_PER_ID = 120
"""Memory that one id takes (measured)."""
Route = tuple[str, str]
"""Message type and source."""

_FORGET_EVERY = 64
_HEAD = struct.Struct("<BII")
_VERSION = 1


class SeenIds:
    """Ids of messages seen within a window, as digests of eight bytes; bounded in time and in bytes.

    Whether an id is a duplicate depends on the times of receipt alone, not on how records were batched: on the time of
    its own receipt and that of the message before it. All times are seconds since the epoch.

    What is older than the window is forgotten in the order in which it was seen, by the median of the latest times of
    receipt, and two for each one that is new at most. So a connector whose clock is wrong for a moment empties no
    window, neither its own nor another's.
    """

    def __init__(self, window_seconds: int, max_bytes: int) -> None:
        self.window_seconds = window_seconds
        self._max_ids = max(1, max_bytes // BYTES_PER_ID)
        self._last_seen: dict[int, int] = {}
        self._order: deque[int] = deque()
        self._order_at: deque[int] = deque()
        self._latest: list[int] = []
        """Times of receipt since something was last forgotten."""
        self._added: list[int] = []
        self._added_at: list[int] = []
        self.cut = 0
        """How many ids were forgotten for want of room, though the window was not over."""

    def __len__(self) -> int:
        return len(self._last_seen)

    @property
    def reach_seconds(self) -> int:
        """How far back the ids go that are remembered."""
        return abs(self._order_at[-1] - self._order_at[0]) if self._order else 0

    def is_known(self, digest: int, second: int) -> bool:
        """Whether the id was seen within the window before `second`."""
        seen = self._last_seen.get(digest)
        return seen is not None and second - seen <= self.window_seconds

    def add(self, digest: int, second: int) -> None:
        """Remember an id seen at `second`."""
        self.restore(digest, second)
        self._added.append(digest)
        self._added_at.append(second)

    def add_new(self, digest: int, second: int) -> bool:
        """Remember the id unless it is known; whether it was remembered. Both at once for the hot path."""
        seen = self._last_seen.get(digest)
        if seen is not None and second - seen <= self.window_seconds:
            return False
        self.restore(digest, second)
        self._added.append(digest)
        self._added_at.append(second)
        return True

    def add_all_new(self, digests: Sequence[int], seconds: Sequence[int]) -> Sequence[bool]:
        """Remember those of the ids, in order, that are not known; which these are. The same as `add_new` for each."""
        unique = set(digests)
        if len(unique) < len(digests) or not self._last_seen.keys().isdisjoint(unique):
            return [self.add_new(digest, second) for digest, second in zip(digests, seconds, strict=True)]
        at = 0
        while at < len(digests):
            last = min(at + _FORGET_EVERY - len(self._latest), len(digests)) - 1  # by it, something may be forgotten
            self._append(digests[at:last], seconds[at:last])
            self.restore(digests[last], seconds[last])
            at = last + 1
        self._added += digests
        self._added_at += seconds
        return [True] * len(digests)

    def _append(self, digests: Sequence[int], seconds: Sequence[int]) -> None:
        """Remember ids before the time has come to forget some that have expired."""
        self._last_seen.update(zip(digests, seconds, strict=True))
        self._order.extend(digests)
        self._order_at.extend(seconds)
        self._latest.extend(seconds)
        while len(self._order) > self._max_ids:
            self._forget_oldest()
            self.cut += 1

    def take_added(self) -> tuple[list[int], list[int]]:
        """Ids remembered since the last call, and when each was seen."""
        added = self._added, self._added_at
        self._added, self._added_at = [], []
        return added

    def restore(self, digest: int, second: int) -> None:
        """Remember an id that the state has already; forget what has expired, and the oldest if there are too many."""
        self._last_seen[digest] = second
        self._order.append(digest)
        self._order_at.append(second)
        self._latest.append(second)
        if len(self._latest) == _FORGET_EVERY:
            self._forget_expired(sorted(self._latest)[_FORGET_EVERY // 2])
            self._latest.clear()
        while len(self._order) > self._max_ids:
            self._forget_oldest()
            self.cut += 1

    def _forget_expired(self, now: int) -> None:
        """Forget the oldest by a clock at `now`. What is as far ahead of it was seen by a clock that was wrong."""
        for _ in range(2 * _FORGET_EVERY):
            if not self._order or abs(now - self._order_at[0]) <= self.window_seconds:
                break
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        digest, second = self._order.popleft(), self._order_at.popleft()
        if self._last_seen.get(digest) == second:  # else it was seen once more, and is further on in the order
            del self._last_seen[digest]


class DuplicateFilter:
    """Recognises messages delivered more than once, and keeps what it needs for that as one packed record per batch."""

    def __init__(self, max_bytes: int) -> None:
        self.short = SeenIds(SHORT_WINDOW_SECONDS, max_bytes)
        self.long = SeenIds(LONG_WINDOW_SECONDS, max_bytes)

    def is_duplicate(self, envelope: Envelope) -> bool:
        """Whether this message was seen, by its id; it is remembered if not.

        A message put back on purpose (attribute `replay`, whose value names the attempt) is no duplicate of the
        original.
        """
        name = envelope.id
        if envelope.attributes and (attempt := envelope.attributes.get("replay")):
            name = f"{name} {attempt}"
        digest, second = message_digest(envelope.device_id, name), second_of(envelope.received_at)
        if not _has_long_window(envelope.type, envelope.source):
            return not self.short.add_new(digest, second)
        is_new = self.long.add_new(digest, second)
        # Versions before this one remembered what is delivered again with the short window.
        return not is_new or self.short.is_known(digest, second)

    def are_new(self, route: Route, digests: Sequence[int], seconds: Sequence[int]) -> Sequence[bool]:
        """Which of some messages of one type and source are no duplicates, by `message_digest`.

        They are remembered, as by `is_duplicate`; they have no attributes.
        """
        if not _has_long_window(*route):
            return self.short.add_all_new(digests, seconds)
        are_new = self.long.add_all_new(digests, seconds)
        known = zip(are_new, digests, seconds, strict=True)
        return [is_new and not self.short.is_known(digest, second) for is_new, digest, second in known]

    def is_duplicate_packet(self, envelope: Envelope) -> bool:
        """Whether a payload without a time is an MQTT packet sent once more: DUP is set and the same packet was seen.

        Without DUP, equal payloads are messages of their own. With DUP, the first delivery may never have come: the
        packet's identity (client id and packet identifier, attribute `mqttpacket`) distinguishes it from others of
        equal content, so that it is not taken for one of them. The window is the long one, since a broker sends a
        packet once more when the connector is back, however long the connector was away.
        """
        attributes = envelope.attributes
        packet = attributes.get("mqttpacket", "")
        digest = _digest(envelope.device_id, attributes.get(MQTT_TOPIC, ""), packet, envelope.data)
        second = second_of(envelope.received_at)
        seen = self.long if packet else self.short
        if attributes.get("mqttdup", "0").lower() in ("1", "true") and seen.is_known(digest, second):
            return True
        seen.add(digest, second)
        return False

    def is_duplicate_event(self, event: wire.Event, received_at: datetime) -> bool:
        """Whether another message reported the same fact; a changed one is a new version of it."""
        return not self.long.add_new(_digest(event.event_id, event.data), second_of(received_at))

    def pack(self) -> bytes | None:
        """What was remembered since the last call; None if nothing."""
        short, short_at = self.short.take_added()
        long, long_at = self.long.take_added()
        if not short and not long:
            return None
        count = f"<{len(short)}Q{len(short)}I{len(long)}Q{len(long)}I"
        head = _HEAD.pack(_VERSION, len(short), len(long))
        return head + struct.pack(count, *short, *short_at, *long, *long_at)

    def unpack(self, packed: bytes) -> None:
        """Remember what `pack` returned. ValueError where another version of the program packed it."""
        version, short, long = _HEAD.unpack_from(packed)
        if version != _VERSION:
            raise ValueError(f"state of version {version}; this program reads version {_VERSION}")
        numbers = struct.unpack_from(f"<{short}Q{short}I{long}Q{long}I", packed, _HEAD.size)
        for digest, second in zip(numbers[:short], numbers[short : 2 * short], strict=True):
            self.short.restore(digest, second)
        rest = numbers[2 * short :]
        for digest, second in zip(rest[:long], rest[long:], strict=True):
            self.long.restore(digest, second)


def second_of(moment: datetime) -> int:
    """A time in seconds since the epoch; 0 for one that four bytes cannot hold."""
    since = moment - EPOCH
    second = since.days * 86_400 + since.seconds
    return second if 0 <= second < 0xFFFFFFFF else 0


@lru_cache(maxsize=1024)
def _has_long_window(message_type: str, source: str) -> bool:
    return dedupe_window_seconds(message_type, source) > SHORT_WINDOW_SECONDS


def message_digest(device: str, name: str) -> int:
    """Eight bytes of the message's id, distinct for each device. Ids are mostly hexadecimal digests already."""
    if len(name) == 32:
        try:
            return int.from_bytes(bytes.fromhex(name[:16]), "little") ^ device_mark(device)
        except ValueError:
            pass
    return _digest(device, name)


@lru_cache(maxsize=65_536)
def device_mark(device: str) -> int:
    """What distinguishes the digests of a device's messages from those of others."""
    return crc32(device.encode()) * 0x9E3779B1


def _digest(*parts: str | bytes) -> int:
    digest = blake2b(digest_size=8)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(4, "little"))
        digest.update(raw)
    return int.from_bytes(digest.digest(), "little")
