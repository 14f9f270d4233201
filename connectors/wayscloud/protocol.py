"""WAYSCloud's messages: MQTT packets in, envelopes out. Pure. Source: wayscloud.txt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from connectors.common.dead_letters import MessageSource, dead_letter, unparsable
from connectors.common.decoded import Decoded
from connectors.wayscloud.objects import VENDOR, Datapoint
from schemas.device import device_id
from schemas.envelope import Envelope, message_id
from schemas.redact import NotJson, redact_text
from schemas.timestamps import format_iso, parse_iso
from schemas.wire import Problem, encode

__all__ = ["PUBLISH", "VENDOR", "Inbox", "Packet", "native_id", "subscriptions"]

PUBLISH = "wayscloud.publish"

_TIMES = ("timestamp", "measured_at")
_REMEMBERED = 200_000
"""Untimed messages that a redelivery can be recognised as."""


@dataclass(frozen=True, slots=True)
class Packet:
    """An MQTT PUBLISH as received."""

    topic: str
    payload: bytes
    retain: bool
    dup: bool
    identity: str = ""
    """Client id and packet identifier: a redelivery has the same ones (MQTT 5.0, 4.4)."""


def subscriptions(filters: Sequence[str], share_group: str = "", device: str = "") -> tuple[str, ...]:
    """The filters as we subscribe to them: for one device, whose id takes the place of the first `+`; for a group."""
    found = [pattern.replace("+", device, 1) if device else pattern for pattern in filters]
    return tuple(f"$share/{share_group}/{pattern}" if share_group else pattern for pattern in found)


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
    """Turns packets into envelopes; remembers lately received untimed ones, so that a redelivery has the same id.

    A redelivery to another process, after a restart, is told by the normaliser: it remembers packets in its state.
    """

    filters: Sequence[str]
    definitions: Mapping[str, Datapoint] = field(default_factory=dict)
    """The account's datapoint definitions, by name. What a packet names of them goes with it, so that a replay of the
    raw topic is read as the first run was."""
    _sequence: int = 0
    _lately: OrderedDict[str, str] = field(default_factory=OrderedDict)
    """Envelope id of the last packet of a topic, payload and packet identifier."""

    def packet(self, packet: Packet, received_at: datetime) -> Decoded:
        """One packet. A retained one is no news and left out."""
        if packet.retain:
            return Decoded(left_out="retained")
        native = native_id(packet.topic, self.filters)
        if native is None:
            return Decoded(left_out="other_topic")
        device = device_id(VENDOR, native)
        source = MessageSource(VENDOR, PUBLISH, received_at, device)
        if not packet.payload:
            letter = dead_letter(packet.payload, source, Problem(path="", reason="missing", detail="an empty payload"))
            return Decoded(dead_letters=[letter])
        try:
            clean = redact_text(packet.payload, packet.topic.rpartition("/")[2])
        except NotJson as error:
            return Decoded(dead_letters=[unparsable(packet.payload, error, source)])
        return Decoded([self._envelope(packet, clean, device, received_at)])

    def _envelope(self, packet: Packet, payload: bytes, device: str, received_at: datetime) -> Envelope:
        fields = _fields(payload)
        time = _time(fields)
        identity = message_id([PUBLISH, packet.topic, packet.payload])
        if time is None:
            identity = self._untimed(identity, packet, received_at)
        attributes = {"mqtttopic": packet.topic}
        if packet.identity:
            attributes["mqttpacket"] = packet.identity
        if packet.dup:
            attributes["mqttdup"] = "true"
        if self.definitions and (named := self._named(packet.topic, fields)):
            attributes["datapoints"] = named
        kind = "application/json" if _is_json(payload) else "text/plain"
        return Envelope(identity, PUBLISH, "wayscloud/mqtt", device, received_at, payload, time, kind, attributes)

    def _named(self, topic: str, fields: Mapping[str, Any]) -> str:
        """The definitions of the datapoints that a packet holds, as JSON; empty where there are none."""
        names = [topic.rpartition("/")[2], *fields]
        found = {name: self.definitions[name] for name in names if name in self.definitions}
        return encode(found).decode() if found else ""

    def _untimed(self, like: str, packet: Packet, received_at: datetime) -> str:
        like = f"{like} {packet.identity}"
        known = self._lately.get(like)
        if packet.dup and known is not None:
            return known
        self._sequence += 1
        identity = message_id([like, format_iso(received_at), str(self._sequence)])
        self._lately[like] = identity
        self._lately.move_to_end(like)
        if len(self._lately) > _REMEMBERED:
            self._lately.popitem(last=False)
        return identity


def _is_json(payload: bytes) -> bool:
    try:
        msgspec.json.decode(payload, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _fields(payload: bytes) -> Mapping[str, Any]:
    """The members of an object; none of anything else."""
    if payload.lstrip()[:1] != b"{":
        return {}
    found: Mapping[str, Any] = msgspec.json.decode(payload)
    return found


def _time(fields: Mapping[str, Any]) -> datetime | None:
    """The vendor's time of an object of datapoints."""
    for name in _TIMES:
        try:
            if isinstance(fields.get(name), str):
                return parse_iso(fields[name])
        except (ValueError, OverflowError):
            continue
    return None
