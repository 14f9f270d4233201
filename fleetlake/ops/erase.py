"""`fleetlake erase`: deletes what one device sent from all tables (a household's data, on request).

Rows are deleted from every table of the lake, and from the alarm service's database. When `fleet.duckdb` shows the new
versions, the files that held the rows are deleted from the disk. A tombstone removes the device from the registry
topic. The other topics lose its records when their retention ends (raw records and readings after 7 days, alarms and
dead letters after 30).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.dataset as ds
from aiokafka import AIOKafkaProducer
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from alarm_service.settings import AlarmsSettings
from runtime.kafka import KafkaSettings, client_options
from schemas.topics import DEVICES
from sinks.delta.erasure import device_digest, erased_devices, remember_erased
from sinks.delta.location import LakeLocation
from sinks.delta.log_reader import MARK, live_files
from sinks.delta.maintenance.commits import commit_on_newest, without_rebase
from sinks.delta.tables import BY_NAME

POLL_SECONDS = 0.5


@dataclass(slots=True)
class Erased:
    """Number of rows deleted by table, the first version without them, and whether their files are deleted."""

    rows: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    files_deleted: bool = False


def erase_alarms(settings: AlarmsSettings, data: Path, device: str) -> int | None:
    """Delete the device's alarms from the alarm service's database; how many, or None if there is no database.

    StageError or SQLAlchemyError where the database cannot be used.
    """
    from alarm_service.store.database import DATABASE, alarm_database

    if settings.database_url is None and not (data / DATABASE).exists():
        return None
    database = alarm_database(settings, data)
    try:
        return database.alarms.erase(device)
    finally:
        database.close()


def is_known(location: LakeLocation, settings: AlarmsSettings, data: Path, device: str) -> bool:
    """Whether a table or the alarm service's database has rows of the device, or had some that were erased before."""
    from alarm_service.store.alarms import AlarmFilter
    from alarm_service.store.database import DATABASE, alarm_database

    digest = device_digest(device.encode())
    for name in BY_NAME:
        try:
            delta = location.open(name)
        except TableNotFoundError:
            continue
        if digest in erased_devices(delta):
            return True
        files = [file.path for file in live_files(delta)]
        if files:
            rows = ds.dataset(files, format="parquet", filesystem=location.files(name))
            if rows.head(1, columns=["device_id"], filter=ds.field("device_id") == device).num_rows:
                return True
    if settings.database_url is None and not (data / DATABASE).exists():
        return False
    database = alarm_database(settings, data)
    try:
        return database.alarms.page(AlarmFilter(device_id=device), 1, 1)[1] > 0
    finally:
        database.close()


def erase_rows(location: LakeLocation, device: str) -> Erased:
    """Delete the device's rows. A running sink is not disturbed; rows that it writes afterwards are not deleted."""
    erased = Erased()
    for name in BY_NAME:
        try:
            delta = location.open(name)
        except TableNotFoundError:
            continue
        remember_erased(delta, device)
        erased.rows[name] = _delete(delta, device)
        erased.versions[name] = delta.version()
    return erased


def _delete(delta: DeltaTable, device: str) -> int:
    deleted = 0

    def commit() -> bool:
        nonlocal deleted
        quoted = device.replace("'", "''")
        metrics = delta.delete(f"device_id = '{quoted}'", commit_properties=without_rebase({MARK: "erase"}))
        deleted = int(metrics["num_deleted_rows"])
        return True

    commit_on_newest(delta, commit)
    return deleted


def wait_for_published(data_dir: Path, erased: Erased, seconds: float) -> bool:
    """Wait until `fleet.duckdb` shows the erased versions; False after `seconds`. True at once if it does not exist."""
    from fleetlake.api import connect

    deadline = time.monotonic() + seconds
    while (data_dir / "fleet.duckdb").exists():
        with connect(data_dir) as connection:
            versions = dict(connection.execute("SELECT table_name, delta_version FROM published").fetchall())
        if all(versions.get(name, version) >= version for name, version in erased.versions.items()):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def delete_files(location: LakeLocation, erased: Erased) -> None:
    """Delete the replaced files at once. Only files that a commit removed: a file being written is not touched."""
    for name in erased.rows:  # also those of an earlier run that did not get this far
        location.open(name).vacuum(0, dry_run=False, enforce_retention_duration=False, full=False)
    erased.files_deleted = True


async def forget_registry_entry(kafka: KafkaSettings, device: str) -> None:
    """Write a tombstone to the registry topic, acknowledged; compaction then removes the device's entries."""
    async with AIOKafkaProducer(**client_options(kafka), enable_idempotence=True) as producer:
        await producer.send_and_wait(DEVICES, None, device.encode())
