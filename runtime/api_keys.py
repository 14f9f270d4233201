"""The stored form of an API key."""

from __future__ import annotations

import hashlib


def hash_key(key: str) -> str:
    """The SHA-256 of a key, in hexadecimal. Keys are random and long, so no salt is needed.

    A key from a header may hold bytes that are no UTF-8 (PEP 383); it is then nobody's, and no error.
    """
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
