"""The API keys in force, in memory, so that a request does not read the database."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from connectors.climasense.protocol import Identity, read_keys
from connectors.climasense.store.store import Store
from runtime.api_keys import hash_key
from runtime.database import reason

_log = logging.getLogger(__name__)

_NOBODY = Identity(hash_key(""), "nobody", "device")


@dataclass
class KeyRing:
    """The device of each key. Where the file or the database cannot be read, the keys stay as they were."""

    store: Store
    keys_file: Path | None
    _identities: Mapping[str, Identity] = field(default_factory=dict, repr=False)
    _version: int = -1
    _file_version: tuple[int, int] | None = None
    problem: str | None = None

    def identity(self, key: str | None) -> Identity | None:
        """Return the device of a key; None for an unknown key.

        The key is looked up by its digest, and digests are compared in constant time, so that the time it takes reveals
        nothing about keys.
        """
        if not key:
            return None
        identity = self._identities.get(hash_key(key), _NOBODY)
        return identity if identity.has(key) and identity is not _NOBODY else None

    def refresh(self, now: datetime) -> bool:
        """Read the file if it changed, and the keys if they changed (this blocks). Return whether the keys changed."""
        try:
            problem = self._import(now)
            version = self.store.keys.version()
            changed = version != self._version
            if changed:
                self._identities = self.store.keys.identities()
                self._version = version
        except SQLAlchemyError as error:
            problem, changed = f"the database is away: {reason(error)}", False
        if problem and problem != self.problem:
            _log.warning("climasense: %s; %d keys stay in force", problem, len(self._identities))
        elif self.problem and not problem:
            _log.info("climasense: the keys can be read again")
        self.problem = problem
        return changed

    def _import(self, now: datetime) -> str | None:
        """Import the keys file if it changed; return what is wrong with it, if anything."""
        if self.keys_file is None:
            return None
        try:
            state = self.keys_file.stat()
            version = (state.st_mtime_ns, state.st_size)
            if version != self._file_version:
                text = self.keys_file.read_text(encoding="utf-8-sig")
                self.store.keys.import_entries(read_keys(text, self.keys_file.suffix == ".toml"), now)
                self._file_version = version
        except OSError as error:
            return f"keys file {self.keys_file}: {error.strerror}"
        except ValueError as error:
            return f"keys file {self.keys_file}: {error}"
        return None
