"""From a vendor's message to normalised records: one pure module a vendor, and the way in.

`normalise` takes an envelope and gives at most one observation, one set of events and one dead letter. Nothing a vendor
sends makes it raise `FieldError`; what else it raised would be a bug, which the step turns into a dead letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from schemas import wire
from schemas.envelope import Envelope
from streams.normalise import climasense, common, karcher, ogmen, wayscloud
from streams.normalise.message import Datapoint, Message, Normalised, Options, dead_letter, payload_extract
from streams.normalise.values import FieldError

__all__ = [
    "MODULES",
    "Datapoint",
    "Normalised",
    "Options",
    "dead_letter",
    "normalise",
    "normalise_batch",
    "payload_extract",
]

MODULES = {"karcher": karcher, "ogmen": ogmen, "wayscloud": wayscloud, "climasense": climasense}
"""The module of each vendor; its `HANDLERS` take message types; `<vendor>.*` is for its other types."""

_HANDLERS: Mapping[str, Callable[[Message], None]] = {
    **common.HANDLERS,
    **{kind: handler for module in MODULES.values() for kind, handler in module.HANDLERS.items()},
}
_DEVICE_ID = re.compile(r"([a-z][a-z0-9-]*):.+")


@lru_cache(maxsize=65_536)
def vendor_of(device_id: str) -> str | None:
    """The vendor of a device id; None where it is none (`records.DeviceId`)."""
    match = _DEVICE_ID.fullmatch(device_id)
    return match[1] if match else None


@lru_cache(maxsize=1024)
def _handler(message_type: str) -> Callable[[Message], None] | None:
    return _HANDLERS.get(message_type) or _HANDLERS.get(f"{message_type.partition('.')[0]}.*")


def normalise(envelope: Envelope, origin: wire.Origin, options: Options) -> Normalised:
    """The records of one envelope; `origin` is where it stands in its raw topic."""
    vendor = vendor_of(envelope.device_id)
    message = Message(envelope, vendor or "unknown", options)
    handler = _handler(envelope.type)
    if vendor is None:
        message.problem("", FieldError("bad_device_id", envelope.device_id[:200]))
    elif handler is None:
        message.problem("", FieldError("unknown_type", envelope.type[:200]))
    else:
        try:
            handler(message)
        except FieldError as error:
            message.problem("", error)
    return message.result(origin)


def normalise_batch(items: Iterable[tuple[Envelope, wire.Origin]], options: Options) -> list[Normalised]:
    """The records of several envelopes, in order."""
    return [normalise(envelope, origin, options) for envelope, origin in items]
