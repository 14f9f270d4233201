"""From a vendor's message to normalised records: one pure module a vendor, and the way in.

`normalise` takes an envelope and gives at most one observation, one set of events and one dead letter. Nothing a vendor
sends makes it raise `FieldError`; what else it raised would be a bug, which the step turns into a dead letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache

from schemas import wire
from schemas.envelope import Envelope
from schemas.vendors import RegistrationError, vendors
from streams.normalise import connection_gap
from streams.normalise.message import Datapoint, Message, Normalised, Options, dead_letter, payload_extract
from streams.normalise.values import FieldError

__all__ = [
    "Datapoint",
    "Normalised",
    "Options",
    "dead_letter",
    "handler_of",
    "handlers",
    "normalise",
    "payload_extract",
    "vendor_of",
]

Handler = Callable[[Message], None]

_DEVICE_ID = re.compile(r"([a-z][a-z0-9-]*):.+")


@lru_cache(maxsize=65_536)
def vendor_of(device_id: str) -> str | None:
    """The vendor of a device id; None where it is none (`records.DeviceId`)."""
    match = _DEVICE_ID.fullmatch(device_id)
    return match[1] if match else None


@cache
def handlers() -> Mapping[str, Handler]:
    """The handler of each message type, of all vendors; `<vendor>.*` is for a vendor's other types.

    RegistrationError names the vendor whose normaliser cannot be loaded, or takes a type of another vendor.
    """
    known: dict[str, Handler] = dict(connection_gap.HANDLERS)
    for spec in vendors().values():
        own: Mapping[str, Handler] = spec.load("normaliser")
        if foreign := sorted(kind for kind in own if not kind.startswith(f"{spec.name}.")):
            place = f"vendor {spec.name} (package {spec.package}): normaliser {spec.normaliser!r}"
            raise RegistrationError(f"{place}: message types must begin with {spec.name}., not {', '.join(foreign)}")
        known |= own
    return known


@lru_cache(maxsize=1024)
def handler_of(message_type: str) -> Handler | None:
    """The handler of a message type, if there is one."""
    known = handlers()
    return known.get(message_type) or known.get(f"{message_type.partition('.')[0]}.*")


def normalise(envelope: Envelope, origin: wire.Origin, options: Options) -> Normalised:
    """The records of one envelope; `origin` is where it stands in its raw topic."""
    vendor = vendor_of(envelope.device_id)
    message = Message(envelope, vendor or "unknown", options)
    handler = handler_of(envelope.type)
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
