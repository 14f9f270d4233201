"""API keys in the database: only their hashes are kept."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alarm_service.store.tables import api_keys, storable
from runtime.api_keys import hash_key
from runtime.database import writing
from schemas.words import KeyRole


@dataclass(frozen=True)
class KeyInfo:
    """An API key as an operator may see it; its name is the actor of what is done with it."""

    key_id: str
    name: str
    role: KeyRole
    created_at: datetime
    revoked_at: datetime | None


class KeyStore:
    """The API keys. Every method may raise `SQLAlchemyError`."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._write = writing(engine)

    def create(self, name: str, role: KeyRole, now: datetime) -> str:
        """Make an API key and return it. This is the only time that it can be seen."""
        key_id, secret = secrets.token_hex(4), secrets.token_hex(16)
        with self._write.begin() as tx:
            values = {"key_id": key_id, "name": name, "digest": hash_key(secret), "role": role, "created_at": now}
            tx.execute(api_keys.insert().values(**values))
        return f"fleetlake_{key_id}_{secret}"

    def find(self, key: str) -> KeyInfo | None:
        """Whose key this is, and what it may do; None if it is not in force. Compared in constant time."""
        if not key.isascii():
            return None
        _, _, rest = key.partition("_")
        key_id, _, secret = rest.partition("_")
        query = sa.select(api_keys).where(api_keys.c.key_id == storable(key_id), api_keys.c.revoked_at.is_(None))
        with self._engine.begin() as tx:
            row = tx.execute(query).first()
        digest = row.digest if row is not None else hash_key("")
        return _key_info(row) if hmac.compare_digest(digest, hash_key(secret)) and row is not None else None

    def all(self) -> list[KeyInfo]:
        """All keys, revoked ones too, oldest first."""
        with self._engine.begin() as tx:
            rows = tx.execute(sa.select(api_keys).order_by(api_keys.c.created_at, api_keys.c.key_id))
            return [_key_info(row) for row in rows]

    def revoke(self, key_id: str, now: datetime) -> bool:
        """Revoke a key for good; whether it was in force."""
        which = (api_keys.c.key_id == key_id) & api_keys.c.revoked_at.is_(None)
        with self._write.begin() as tx:
            return bool(tx.execute(api_keys.update().where(which).values(revoked_at=now)).rowcount)


def _key_info(row: Any) -> KeyInfo:
    return KeyInfo(row.key_id, row.name, KeyRole(row.role), row.created_at, row.revoked_at)
