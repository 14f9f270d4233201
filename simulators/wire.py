"""The encodings of simulated devices: times, JSON, digests."""

import hashlib
import json
from datetime import UTC, datetime


def rfc3339(moment: float) -> str:
    """Epoch seconds as ``2026-03-30T09:55:00.123Z``."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode(message: object) -> bytes:
    """Compact JSON in UTF-8."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()


def digest(payload: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(payload).hexdigest()
