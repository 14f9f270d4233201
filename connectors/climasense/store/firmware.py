"""Firmware images, and the batches of devices that they are released to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, BinaryIO

import sqlalchemy as sa

from connectors.climasense.protocol import is_newer, version_key
from connectors.climasense.store import tables
from connectors.climasense.store.part import StorePart
from connectors.climasense.store.records import Firmware, StateError

EVERY_BATCH = "*"
"""Stands for all batches in a release."""
CHUNK_BYTES = 256 * 1024
"""Size of the pieces that images are stored in."""


class FirmwareStore(StorePart):
    """Images by version."""

    def add(self, version: str, image: BinaryIO, release_notes: str, now: datetime) -> Firmware:
        """Store an image; it is offered to no device before it is released. StateError where the version exists."""
        if version_key(version) is None:
            raise StateError(f"{version!r} is not a version such as 1.3.0 or 1.4.0-rc1")
        digest, size = hashlib.sha256(), 0
        with self._write.begin() as tx:
            if tx.scalar(sa.select(tables.firmware.c.version).where(tables.firmware.c.version == version)) is not None:
                raise StateError(f"there is a firmware {version} already")
            values = {"version": version, "checksum": "", "size_bytes": 0, "release_notes": release_notes}
            tx.execute(tables.firmware.insert().values(**values, added_at=now))
            for number, data in enumerate(iter(lambda: image.read(CHUNK_BYTES), b"")):
                tx.execute(tables.chunks.insert().values(version=version, number=number, data=data))
                digest.update(data)
                size += len(data)
            if not size:
                raise StateError("the image is empty")
            checksum = f"sha256:{digest.hexdigest()}"
            changed = tables.firmware.update().where(tables.firmware.c.version == version)
            tx.execute(changed.values(checksum=checksum, size_bytes=size))
        return Firmware(version, checksum, size, release_notes)

    def release(self, version: str, batches: Sequence[str], now: datetime) -> None:
        """Offer a version to the devices of these batches (`*`: to all)."""
        with self._write.begin() as tx:
            if tx.scalar(sa.select(tables.firmware.c.version).where(tables.firmware.c.version == version)) is None:
                raise StateError(f"there is no firmware {version}")
            _withdraw(tx, version, batches)
            for batch in batches:
                tx.execute(tables.releases.insert().values(batch=batch, version=version, released_at=now))

    def withdraw(self, version: str, batches: Sequence[str]) -> None:
        """Stop offering a version to these batches. Devices that run it are not moved back to an older one."""
        with self._write.begin() as tx:
            _withdraw(tx, version, batches)

    def all(self) -> list[Firmware]:
        """All images, newest first, with the batches they are released to."""
        with self._engine.begin() as tx:
            released: dict[str, list[str]] = {}
            for row in tx.execute(sa.select(tables.releases).order_by(tables.releases.c.batch)):
                released.setdefault(row.version, []).append(row.batch)
            rows = tx.execute(sa.select(tables.firmware)).all()
        images = [_firmware_of(row, tuple(released.get(row.version, ()))) for row in rows]
        return sorted(images, key=lambda image: version_key(image.version) or (), reverse=True)

    def offered(self, batch: str | None) -> list[Firmware]:
        """The images released to a batch, newest first."""
        return [image for image in self.all() if {batch, EVERY_BATCH} & set(image.batches)]

    def update_for(self, batch: str | None, current_version: str) -> Firmware | None:
        """The newest version released to a batch, where it is newer than the current one."""
        newest = next(iter(self.offered(batch)), None)
        return newest if newest is not None and is_newer(newest.version, current_version) else None

    def chunk(self, version: str, number: int) -> bytes:
        """One piece of an image, of `CHUNK_BYTES` but for the last; empty beyond the end."""
        query = sa.select(tables.chunks.c.data).where(
            tables.chunks.c.version == version, tables.chunks.c.number == number
        )
        with self._engine.begin() as tx:
            return tx.scalar(query) or b""


def _withdraw(tx: sa.Connection, version: str, batches: Sequence[str]) -> None:
    tx.execute(
        tables.releases.delete().where(tables.releases.c.version == version, tables.releases.c.batch.in_(batches))
    )


def _firmware_of(row: Any, batches: tuple[str, ...]) -> Firmware:
    return Firmware(row.version, row.checksum, row.size_bytes, row.release_notes, batches)
