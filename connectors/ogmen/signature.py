"""The signature of an alert (HMAC of its body). Pure: the clock is an argument.

Ogmen's API document knows neither secret nor signature. The scheme is assumed to be the usual one (GitHub's
`X-Hub-Signature-256`; the signed time of Stripe and Slack). Header, algorithm, prefix and tolerance are settings.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Signature:
    """How alerts are signed. With `timestamp_header`, the header's text, a dot and the body are signed."""

    secret: bytes
    header: str
    algorithm: str = "sha256"
    prefix: str = "sha256="
    encoding: str = "hex"
    timestamp_header: str = ""
    tolerance_seconds: float = 300.0

    def problem(self, headers: Mapping[str, str], body: bytes, now: float) -> str | None:
        """Why the signature is not valid (`missing`, `stale`, `wrong`); None where it is. Compares in constant time."""
        given = headers.get(self.header, "").strip()
        if not given:
            return "missing"
        if not given.startswith(self.prefix):
            return "wrong"
        signed = body
        if self.timestamp_header:
            time = headers.get(self.timestamp_header, "").strip()
            if not (time.isascii() and time.isdigit() and len(time) <= 13):
                return "missing" if not time else "wrong"
            seconds = int(time) / (1000 if len(time) > 11 else 1)
            if abs(now - seconds) > self.tolerance_seconds:
                return "stale"
            signed = time.encode() + b"." + body
        expected = hmac.digest(self.secret, signed, self.algorithm)
        return None if hmac.compare_digest(self._digest(given[len(self.prefix) :]), expected) else "wrong"

    def _digest(self, text: str) -> bytes:
        try:
            return bytes.fromhex(text) if self.encoding == "hex" else base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            return b""
