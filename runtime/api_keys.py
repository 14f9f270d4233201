"""The stored form of an API key."""

from __future__ import annotations

import hashlib


def hash_key(key: str) -> str:
    """The SHA-256 of a key, in hexadecimal. Keys are random and long, so no salt is needed."""
    return hashlib.sha256(key.encode()).hexdigest()
