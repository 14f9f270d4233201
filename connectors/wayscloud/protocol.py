"""WAYSCloud's messages: MQTT packets in, envelopes out (pure).

Source: WAYSCloud's API document (docs/vendors/wayscloud.md).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from connectors.common.dead_letters import MessageSource, dead_letter, unparsable
from connectors.common.read_message import ReadMessage
from connectors.wayscloud.objects import VENDOR, Datapoint
from schemas.device import device_id
from schemas.envelope import MQTT_TOPIC, Envelope, message_id
from schemas.json_reading import NotJson, read_json
from schemas.redact import mask, redact_text
from schemas.timestamps import format_iso, parse_iso
from schemas.wire import DeadLetter, Problem, encode

__all__ = ["PUBLISH", "VENDOR", "Inbox", "Packet", "native_id", "subscriptions"]

PUBLISH = "wayscloud.publish"

_TIMES = ("timestamp", "measured_at")
_REMEMBERED = 200_000
"""How many untimed messages are remembered, so that a redelivery of one is recognised."""


@dataclass(frozen=True, slots=True)
class Packet:
    """An MQTT PUBLISH as received."""

    topic: str
    payload: bytes
    retain: bool
    dup: bool
    identity: str = ""
    """Client id and packet identifier: a redelivery has the same ones (MQTT 5.0, 4.4)."""
    unreadable_topic: bytes = b""
    """A topic that is not UTF-8; `topic` is empty then."""


def subscriptions(filters: Sequence[str], share_group: str = "", device: str = "") -> tuple[str, ...]:
    """The filters as we subscribe to them: for one device, whose id replaces the first `+`; for a share group."""
    chosen = [pattern.replace("+", device, 1) if device else pattern for pattern in filters]
    return tuple(f"$share/{share_group}/{pattern}" if share_group else pattern for pattern in chosen)


def native_id(topic: str, filters: Sequence[str]) -> str | None:
    """The device id of a topic: the level at the first `+` of the filter that matches; None where none does.

    A shared subscription (`$share/group/filter`) matches as its filter does.
    """
    levels = topic.split("/")
    for pattern in filters:
        parts = pattern.split("/")
        if parts[0] == "$share":
            parts = parts[2:]
        if "+" in parts and _matches(levels, parts):
            return levels[parts.index("+")] or None
    return None


def _matches(levels: list[str], parts: list[str]) -> bool:
    if parts[-1] == "#":
        parts = parts[:-1]
        levels = levels[: len(parts)]
    return len(parts) == len(levels) and all(p in ("+", level) for p, level in zip(parts, levels, strict=True))


@dataclass
class Inbox:
    """Turns packets into envelopes. It remembers recent untimed ones, so that a redelivery has the same id.

    The normaliser, which keeps packets in its state, recognises a redelivery to another process or after a restart.
    """

    filters: Sequence[str]
    definitions: Mapping[str, Datapoint] = field(default_factory=dict)
    """The account's datapoint definitions, by name. Those that a packet names go with it, so that a replay of the raw
    topic gives the same readings."""
    _sequence: int = 0
    _recent: OrderedDict[str, str] = field(default_factory=OrderedDict)
    """Envelope id of the last packet of a topic, payload and packet identifier."""

    def packet(self, packet: Packet, received_at: datetime) -> ReadMessage:
        """Read one packet. A retained one repeats an old message and is left out."""
        if packet.retain:
            return ReadMessage(left_out="retained")
        if packet.unreadable_topic:
            return ReadMessage(dead_letters=[_unreadable_topic(packet, received_at)])
        native = native_id(packet.topic, self.filters)
        if native is None:
            return ReadMessage(left_out="other_topic")
        device = device_id(VENDOR, native)
        source = MessageSource(VENDOR, PUBLISH, received_at, device)
        if not packet.payload:
            letter = dead_letter(packet.payload, source, Problem(path="", reason="missing", detail="an empty payload"))
            return ReadMessage(dead_letters=[letter])
        try:
            clean = redact_text(packet.payload, packet.topic.rpartition("/")[2])
        except NotJson as error:
            return ReadMessage(dead_letters=[unparsable(packet.payload, error, source)])
        return ReadMessage([self._envelope(packet, clean, device, received_at)])

    def _envelope(self, packet: Packet, payload: bytes, device: str, received_at: datetime) -> Envelope:
        is_json, fields = _fields(payload)
        time = _time(fields)
        identity = message_id([PUBLISH, packet.topic, packet.payload])
        if time is None:
            identity = self._untimed(identity, packet, received_at)
        attributes = {MQTT_TOPIC: packet.topic}
        if packet.identity:
            attributes["mqttpacket"] = packet.identity
        if packet.dup:
            attributes["mqttdup"] = "true"
        if self.definitions and (named := self._named(packet.topic, fields)):
            attributes["datapoints"] = named
        kind = "application/json" if is_json else "text/plain"
        return Envelope(identity, PUBLISH, "wayscloud/mqtt", device, received_at, payload, time, kind, attributes)

    def _named(self, topic: str, fields: Mapping[str, Any]) -> str:
        """The definitions of the datapoints that a packet holds, as JSON; empty where there are none."""
        names = [topic.rpartition("/")[2], *fields]
        named = {name: self.definitions[name] for name in names if name in self.definitions}
        return encode(named).decode() if named else ""

    def _untimed(self, like: str, packet: Packet, received_at: datetime) -> str:
        like = f"{like} {packet.identity}"
        known = self._recent.get(like)
        if packet.dup and known is not None:
            return known
        self._sequence += 1
        identity = message_id([like, format_iso(received_at), str(self._sequence)])
        self._recent[like] = identity
        self._recent.move_to_end(like)
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        return identity


def _unreadable_topic(packet: Packet, received_at: datetime) -> DeadLetter:
    source = MessageSource(VENDOR, PUBLISH, received_at)
    detail = f"the topic is not UTF-8: {packet.unreadable_topic[:100].decode(errors='backslashreplace')}"
    return dead_letter(packet.payload, source, Problem(path="topic", reason="not_utf8", detail=mask(detail)))


def _fields(payload: bytes) -> tuple[bool, Mapping[str, Any]]:
    """Whether the payload is JSON, and the members of an object; none of anything else."""
    try:
        value = read_json(payload)
    except NotJson:
        return False, {}
    return True, value if isinstance(value, dict) else {}


def _time(fields: Mapping[str, Any]) -> datetime | None:
    """The vendor's time of an object of datapoints."""
    for name in _TIMES:
        try:
            if isinstance(fields.get(name), str):
                return parse_iso(fields[name])
        except (ValueError, OverflowError):
            continue
    return None
