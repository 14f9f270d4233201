"""The raw record: a vendor's message as CloudEvents 1.0 in Kafka's binary mode.

Value = the vendor's bytes (redacted), key = device id, headers = `ce_*` attributes and `content-type`
(docs/contract.md; CloudEvents Kafka protocol binding 1.0.2, section 3.2).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from types import MappingProxyType

import msgspec

from schemas.timestamps import format_iso, parse_iso

SPEC_VERSION = "1.0"
JSON = "application/json"

GAP = "fleetlake.gap"
"""Message type of a connection gap: `{"from": …, "to": …, "reason": …}`. A connector writes it after an outage."""

MQTT_TOPIC = "mqtttopic"
"""Attribute of an envelope that came as an MQTT packet: the packet's topic, of whichever vendor."""

ATTRIBUTES = {
    MQTT_TOPIC: "The topic of the MQTT packet that this came as.",
    "mqttpacket": "The identity of the MQTT packet: redeliveries of a packet have the same one.",
    "mqttdup": "`true` where the broker marked the packet as one that it sends again.",
    "datapoints": "WAYSCloud: the definitions of the datapoints in the message, as JSON.",
    "changed": "Ogmen: how a log entry that was read before has changed.",
    "commandtype": "ClimaSense: the type of the command that this is the result of.",
    "attempt": "ClimaSense: which attempt of the firmware update this reports on.",
    "replay": "Put back by `fleetlake dead-letters replay` from the raw records; names the attempt.",
    "deadletter": "Put back by `fleetlake dead-letters replay`; the id of the dead letter.",
}
"""The attributes of envelopes beside those of CloudEvents, each the header `ce_<name>`; part of the contract."""

LONG_WINDOW_SUFFIXES = (".report", ".log", ".alert", ".notification", ".command", ".event")
"""Endings of message types whose duplicates come late: logs are read repeatedly, reports come by socket and by REST."""


REDELIVERING_SOURCES = ("/mqtt", "/http", "/webhook")
"""Endings of sources whose senders deliver once more what was not acknowledged, however long we were away."""


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """One vendor message for one device.

    `id` is deterministic: the vendor's own id, or a digest (`message_id`). The same message delivered twice has the
    same id, by which the normaliser drops the second one. `type` is `<vendor>.<kind>`, such as `karcher.datapoints`.
    `source` is the interface it came from, such as `karcher/websocket`. `time` is the vendor's own time, if the message
    has one, and `received_at` the time at which the connector received it. `attributes` are further CloudEvents
    attributes, such as `mqtttopic`; their names are lower-case letters and digits only.
    """

    id: str
    type: str
    source: str
    device_id: str
    received_at: datetime
    data: bytes
    time: datetime | None = None
    content_type: str = JSON
    attributes: Mapping[str, str] = {}

    @property
    def is_mqtt_packet(self) -> bool:
        """Whether this came as an MQTT packet, whose duplicates are recognised by what the packet contains."""
        return MQTT_TOPIC in self.attributes

    @property
    def key(self) -> bytes:
        """The Kafka key."""
        return self.device_id.encode()

    def headers(self) -> list[tuple[str, bytes]]:
        """The Kafka headers, CloudEvents binary mode."""
        pairs = [
            ("ce_specversion", SPEC_VERSION),
            ("ce_id", self.id),
            ("ce_type", self.type),
            ("ce_source", self.source),
            ("ce_subject", self.device_id),
            ("ce_receivedat", format_iso(self.received_at)),
            ("content-type", self.content_type),
        ]
        if self.time is not None:
            pairs.append(("ce_time", format_iso(self.time)))
        pairs.extend((f"ce_{name}", value) for name, value in self.attributes.items())
        return [(name, value.encode()) for name, value in pairs]


class EnvelopeError(ValueError):
    """A record on a raw topic is not an envelope. The message names the header that is missing or malformed."""


_often = lru_cache(maxsize=65_536)(bytes.decode)
"""Decodes values that recur, so that each text is in memory once, with its hash computed."""


@lru_cache(maxsize=65_536)
def _route(kind: bytes, source: bytes, subject: bytes, content_type: bytes) -> tuple[str, str, str, str]:
    """Type, source, device and content type, which recur together."""
    return _often(kind), _often(source), _often(subject), _often(content_type) or JSON


_NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})
_REQUIRED = ("ce_id", "ce_type", "ce_source", "ce_subject", "ce_receivedat")
_KNOWN = frozenset({*_REQUIRED, "ce_specversion", "ce_time", "content-type"})
HEADERS_AS_WRITTEN = ("ce_specversion", *_REQUIRED, "content-type", "ce_time")
"""The headers of most messages, in the order in which `Envelope.headers` writes them."""


_Values = tuple[bytes | None, bytes | None, bytes | None, bytes | None, bytes | None, bytes | None, bytes | None]
"""The required attributes in their order, content type and time."""


def read_envelope(value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> Envelope:
    """The envelope of a Kafka record. EnvelopeError when a required attribute is missing or unreadable."""
    attributes: Mapping[str, str] = _NO_ATTRIBUTES
    try:
        if (values := _by_position(headers)) is None:
            values, attributes = _by_name(headers)
        identity, kind, source, subject, received, content, time = values
        if not (identity and kind and source and subject and received):
            missing = next(name for name, text in zip(_REQUIRED, values, strict=False) if not text)
            raise EnvelopeError(f"header {missing} is missing")
        route = _route(kind, source, subject, content or b"")
        at = parse_iso(received.decode())
        own = parse_iso(time.decode()) if time else None
        return Envelope(identity.decode(), route[0], route[1], route[2], at, value or b"", own, route[3], attributes)
    except UnicodeDecodeError as error:
        raise EnvelopeError("a header is not UTF-8") from error
    except EnvelopeError:
        raise
    except (ValueError, OverflowError) as error:
        raise EnvelopeError(f"header ce_receivedat or ce_time: {error}") from error


def _by_position(headers: Sequence[tuple[str, bytes | None]]) -> _Values | None:
    """The values of headers in the order of our own connectors, in half the time; None for headers in another order."""
    if len(headers) != len(HEADERS_AS_WRITTEN):
        return None
    (n0, _), (n1, identity), (n2, kind), (n3, source), (n4, subject), (n5, received), (n6, content), (n7, time) = (
        headers
    )
    if (n0, n1, n2, n3, n4, n5, n6, n7) != HEADERS_AS_WRITTEN:
        return None
    return identity, kind, source, subject, received, content, time


def _by_name(headers: Sequence[tuple[str, bytes | None]]) -> tuple[_Values, Mapping[str, str]]:
    """The values of headers in any order and case, and the further attributes."""
    values: dict[str, bytes | None] = dict(headers)
    attributes: Mapping[str, str] = _NO_ATTRIBUTES
    if not _KNOWN.issuperset(values):
        values = {name.lower(): text for name, text in headers}
        others = sorted(name for name in values.keys() - _KNOWN if name.startswith("ce_"))
        attributes = {name[3:]: (values[name] or b"").decode() for name in others}
    get = values.get
    required = get("ce_id"), get("ce_type"), get("ce_source"), get("ce_subject"), get("ce_receivedat")
    return (*required, get("content-type"), get("ce_time")), attributes


TRACEPARENT = "traceparent"
"""Attribute of CloudEvents' distributed tracing extension: the message's trace, in the form of W3C Trace Context."""

TRACE_HEADER = f"ce_{TRACEPARENT}"


def traceparent_of(headers: Sequence[tuple[str, bytes | None]]) -> bytes | None:
    """The trace that a record of any topic belongs to; None for nearly all records."""
    for name, value in headers:
        if name == TRACE_HEADER:
            return value
    return None


class BackfillWindow(msgspec.Struct, frozen=True):
    """The window that a record of back-filled telemetry covers: attributes `readfrom`, `readto` and `readreach` of its
    envelope.

    Readings from `start` up to, not including, `end` are emitted unless they were emitted live. The other readings of
    the record are for comparison: a live reading without a time of its own may have been received `reach_seconds`
    before or after the time that the vendor stored for it, and corresponds to the nearest stored one of equal value.
    """

    start: datetime
    end: datetime
    reach_seconds: float

    @property
    def context(self) -> timedelta:
        """How far a record reaches beyond the window on either side: twice the reach, for a reading's rivals, too."""
        return timedelta(seconds=2 * self.reach_seconds)

    def contains_with_context(self, at: datetime) -> bool:
        """Whether a reading of this time belongs into the record."""
        return self.start - self.context <= at < self.end + self.context

    def contains(self, at: datetime) -> bool:
        """Whether a reading of this time lies in the window itself."""
        return self.start <= at < self.end

    def attributes(self) -> dict[str, str]:
        """The window as attributes of an envelope."""
        start, end = format_iso(self.start), format_iso(self.end)
        return {"readfrom": start, "readto": end, "readreach": repr(float(self.reach_seconds))}

    @classmethod
    def of(cls, attributes: Mapping[str, str]) -> BackfillWindow:
        """The window of an envelope. KeyError or ValueError when its attributes are missing or malformed."""
        start, end = parse_iso(attributes["readfrom"]), parse_iso(attributes["readto"])
        return cls(start, end, float(attributes["readreach"]))


def message_id(parts: Iterable[str | bytes]) -> str:
    """A deterministic id: 128 bits of SHA-256 over the parts, each with its length so that no two lists collide."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()[:32]


def dedupe_window_seconds(message_type: str, source: str = "") -> int:
    """For how many seconds a duplicate of a message of this type and source is recognised.

    24 h for logs and reports and for what its sender may deliver once more (MQTT, HTTP POST), else 10 min
    (docs/contract.md, «Identity and duplicates»).
    """
    is_long = message_type.endswith(LONG_WINDOW_SUFFIXES) or source.endswith(REDELIVERING_SOURCES)
    return 24 * 3600 if is_long else 600
