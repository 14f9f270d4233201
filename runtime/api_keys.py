"""What is kept of an API key."""

from __future__ import annotations

import hashlib


def hash_key(key: str) -> str:
    """The SHA-256 of a key, in hexadecimal: keys are random and long, so that no salt is needed."""
    return hashlib.sha256(key.encode()).hexdigest()
