"""Which devices were erased from a table, so that an audit does not miss their rows."""

from __future__ import annotations

import hashlib
import json

from deltalake import DeltaTable

from sinks.delta.log_reader import MARK
from sinks.delta.maintenance.commits import commit_on_newest, without_rebase

ERASED = "fleetlake.erased"
"""Table property: digests of the devices that were erased."""


def erased_devices(delta: DeltaTable) -> set[str]:
    """Return the digests (`device_digest`) of the devices that were erased from a table."""
    return set(json.loads(delta.metadata().configuration.get(ERASED, "[]")))


def device_digest(device: bytes) -> str:
    """Return the digest by which a table remembers an erased device instead of its name."""
    return hashlib.sha256(device).hexdigest()[:32]


def remember_erased(delta: DeltaTable, device: str) -> None:
    """Note in the table that this device's rows are missing on purpose.

    A sink that writes meanwhile is refused and writes again. Raise Contended if others never pause.
    """

    def commit() -> bool:
        known = erased_devices(delta)
        if (digest := device_digest(device.encode())) not in known:
            delta.alter.set_table_properties(
                {ERASED: json.dumps(sorted({*known, digest}))},
                raise_if_not_exists=False,
                commit_properties=without_rebase({MARK: "erase"}),
            )
        return True

    commit_on_newest(delta, commit)
