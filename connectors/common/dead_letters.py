"""The dead letter of a message that a connector cannot use: why, and an excerpt without secrets. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from schemas.envelope import Envelope, message_id
from schemas.redact import NotJson, excerpt
from schemas.timestamps import format_iso
from schemas.wire import DeadLetter, Problem


@dataclass(frozen=True, slots=True)
class MessageSource:
    """Where a message came from, and when; `device_id` is None where the message does not say."""

    vendor: str
    message_type: str
    received_at: datetime
    device_id: str | None = None


@dataclass(frozen=True, slots=True)
class Digest:
    """Length in bytes and SHA-256 of a whole payload, also of one that was not kept whole."""

    length: int
    sha256: str

    @classmethod
    def of(cls, payload: bytes) -> Self:
        """The digest of a payload that is at hand."""
        return cls(len(payload), hashlib.sha256(payload).hexdigest())


def dead_letter(
    payload: bytes, source: MessageSource, problem: Problem, *, digest: Digest | None = None, redacted: bool = False
) -> DeadLetter:
    """A dead letter of stage `connector`: the payload's masked beginning, its length and its SHA-256.

    `digest` is that of the whole message, where `payload` is only its beginning. `redacted` says that the payload was
    redacted field by field: all of it is kept then, so that the message can be processed again
    (`connectors.common.reprocessing`). The id contains the time of receipt, since a device may send the same unusable
    message twice.
    """
    digest = digest or Digest.of(payload)
    identity = [source.vendor, source.device_id or "", source.message_type, digest.sha256]
    return DeadLetter(
        id=message_id([*identity, format_iso(source.received_at)]),
        stage="connector",
        received_at=source.received_at,
        problems=[problem],
        payload=payload.decode() if redacted else excerpt(payload),
        payload_bytes=digest.length,
        payload_sha256=digest.sha256,
        device_id=source.device_id,
        vendor=source.vendor,
        message_type=source.message_type,
    )


def unparsable(payload: bytes, error: NotJson, source: MessageSource) -> DeadLetter:
    """The dead letter of a payload that `redact` could not parse."""
    return dead_letter(payload, source, Problem(path="", reason=error.reason, detail=str(error)))


def too_large(envelope: Envelope, limit: int) -> DeadLetter:
    """The dead letter of an envelope that Kafka would refuse."""
    vendor = envelope.type.partition(".")[0]
    source = MessageSource(vendor, envelope.type, envelope.received_at, envelope.device_id)
    detail = f"{len(envelope.data)} bytes; the limit is {limit}"
    return dead_letter(envelope.data, source, Problem(path="", reason="too_large", detail=detail))
