"""What a connector does with a message it cannot hand on: a dead letter with a masked excerpt. Pure."""

from __future__ import annotations

import hashlib
from datetime import datetime

from schemas.envelope import Envelope, message_id
from schemas.redact import NotJson, excerpt
from schemas.timestamps import format_iso
from schemas.wire import DeadLetter, Problem


def dead_letter(
    payload: bytes,
    *,
    vendor: str,
    message_type: str,
    received_at: datetime,
    reason: str,
    detail: str,
    path: str = "",
    device_id: str | None = None,
    length: int | None = None,
    sha256: str | None = None,
    whole: bool = False,
) -> DeadLetter:
    """A dead letter of stage `connector`: the payload's masked beginning, its length and its SHA-256.

    `length` and `sha256` are those of the whole, where `payload` is only its beginning. `whole`: the payload is
    redacted by field, so all of it is kept, and it can go back (`connectors.common.reprocessing`).
    Its id holds the time: a message that cannot be read may be sent twice in earnest.
    """
    digest = sha256 or hashlib.sha256(payload).hexdigest()
    return DeadLetter(
        id=message_id([vendor, device_id or "", message_type, digest, format_iso(received_at)]),
        stage="connector",
        received_at=received_at,
        problems=[Problem(path=path, reason=reason, detail=detail)],
        payload=payload.decode() if whole else excerpt(payload),
        payload_bytes=len(payload) if length is None else length,
        payload_sha256=digest,
        device_id=device_id,
        vendor=vendor,
        message_type=message_type,
    )


def unparsable(
    payload: bytes,
    error: NotJson,
    *,
    vendor: str,
    message_type: str,
    received_at: datetime,
    device_id: str | None = None,
) -> DeadLetter:
    """The dead letter of a payload that `redact` could not parse."""
    return dead_letter(
        payload,
        vendor=vendor,
        message_type=message_type,
        received_at=received_at,
        reason=error.reason,
        detail=str(error),
        device_id=device_id,
    )


def too_large(envelope: Envelope, limit: int) -> DeadLetter:
    """The dead letter of an envelope that Kafka would refuse."""
    return dead_letter(
        envelope.data,
        vendor=envelope.type.partition(".")[0],
        message_type=envelope.type,
        received_at=envelope.received_at,
        reason="too_large",
        detail=f"{len(envelope.data)} bytes; the limit is {limit}",
        device_id=envelope.device_id,
    )
