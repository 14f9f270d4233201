"""Derived ids: the same facts always give the same UUID, so that a replay creates no second record (pure)."""

from __future__ import annotations

from uuid import UUID, uuid5

NAMESPACE = UUID("6f0e7f52-4f0b-5a53-9c0e-6a1f0c2b7d11")
"""Namespace of every UUIDv5 fleetlake derives. Changing it changes all ids."""


def derived_id(*parts: str) -> str:
    """UUIDv5 of the parts, each with its length so that no two lists collide."""
    return str(uuid5(NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts)))
