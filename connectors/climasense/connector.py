"""The server that ClimaSense devices call: its life, and what it does beside answering."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from connectors.climasense.api import Api, record_of
from connectors.climasense.database import Database
from connectors.climasense.keys import KeyRing
from connectors.climasense.protocol import VENDOR, read_keys
from connectors.climasense.settings import ClimasenseSettings
from connectors.climasense.store import Store, open_store
from connectors.common.context import Context, utc_now
from runtime.checks import CheckResult
from runtime.database import reason
from runtime.errors import StageError
from runtime.http_server import check_port, serving
from runtime.metrics import CONNECTED
from schemas.timestamps import EPOCH
from schemas.wire import Device, encode

_log = logging.getLogger(__name__)

_SEEN_SECONDS = 300.0
_COUNT_EVERY_SECONDS = 5.0
_AT_ONCE = 500


class ClimasenseConnector:
    """Serves the devices' API (`connectors.climasense.api`) until cancelled.

    Beside that it keeps the keys fresh and publishes every device's record when the server starts, and when an operator
    changed it.
    """

    def __init__(self, settings: ClimasenseSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._published: dict[str, bytes] = {}
        self._changed = asyncio.Event()
        self.port = 0

    async def run(self) -> None:
        """Until cancelled; StageError where the port is taken or the database cannot be used."""
        database = Database(await asyncio.to_thread(store_of, self._settings, self._context.state_dir))
        try:
            keys = KeyRing(database.store, self._settings.keys_file)
            await self._refresh(keys)
            self._context.health.ready.append(lambda: keys.problem and f"climasense: {keys.problem}")
            self._context.health.ready.append(lambda: database.problem)
            await self._serve(database, keys)
        finally:
            database.close()

    async def _serve(self, database: Database, keys: KeyRing) -> None:
        api = Api(self._settings, self._context, database, keys, self._changed.set)
        async with (
            serving(api.app(), self._settings.host, self._settings.port, VENDOR) as self.port,
            asyncio.TaskGroup() as group,
        ):
            _log.info("climasense: devices may post to http://%s:%d/v1/telemetry", self._settings.host, self.port)
            group.create_task(self._keep_fresh(keys))
            group.create_task(self._register(database))
            group.create_task(self._count(api))

    async def _keep_fresh(self, keys: KeyRing) -> None:
        while True:
            await asyncio.sleep(self._settings.keys_seconds)
            await self._refresh(keys)

    async def _refresh(self, keys: KeyRing) -> None:
        if await asyncio.to_thread(keys.refresh, utc_now()):
            self._changed.set()

    async def _register(self, database: Database) -> None:
        """Publish the records of devices that are not as they were last published. Waits for Kafka, nobody for it."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                devices = await database.run(database.store.devices)
            except SQLAlchemyError:
                await asyncio.sleep(self._settings.keys_seconds)
                self._changed.set()
                continue
            now = utc_now()
            fresh = [record for device in devices if self._is_news(record := record_of(device, now))]
            for first in range(0, len(fresh), _AT_ONCE):
                some = fresh[first : first + _AT_ONCE]
                await asyncio.gather(*(self._context.publisher.publish_device(record) for record in some))

    def _is_news(self, record: Device) -> bool:
        content = encode(msgspec.structs.replace(record, updated_at=EPOCH))
        if self._published.get(record.device_id) == content:
            return False
        self._published[record.device_id] = content
        return True

    async def _count(self, api: Api) -> None:
        while True:
            now = time.monotonic()
            for device in [device for device, at in api.seen.items() if now - at >= _SEEN_SECONDS]:
                del api.seen[device]
            CONNECTED.labels(VENDOR).set(len(api.seen))
            await asyncio.sleep(_COUNT_EVERY_SECONDS)


def store_of(settings: ClimasenseSettings, state_dir: Path) -> Store:
    """The store as configured. StageError where it cannot be opened."""
    url = settings.database_url
    return open_store(url.get_secret_value() if url is not None else None, state_dir)


async def check(settings: ClimasenseSettings, state_dir: Path) -> list[CheckResult]:
    """Keys, as provisioned by file and as they are in the database, and port."""
    results = [await asyncio.to_thread(_check_database, settings, state_dir)]
    if settings.keys_file is not None:
        results.append(_check_keys_file(settings.keys_file))
    return [*results, await check_port("climasense: port", settings.host, settings.port, VENDOR)]


def _check_keys_file(path: Path) -> CheckResult:
    name = "climasense: keys file"
    try:
        entries = read_keys(path.read_text(encoding="utf-8"), path.suffix == ".toml")
    except OSError as error:
        return CheckResult(name, False, f"{path}: {error.strerror}")
    except ValueError as error:
        return CheckResult(name, False, f"{path}: {error}")
    return CheckResult(name, True, f"{len(entries)} key(s)")


def _check_database(settings: ClimasenseSettings, state_dir: Path) -> CheckResult:
    name = "climasense: database"
    if settings.database_url is None and not (state_dir / "climasense.db").exists():
        if settings.keys_file is not None:
            return CheckResult(name, True, "will be made, with the keys of the keys file")
        return CheckResult(name, False, "there are no keys: every device gets 401; see `fleetlake keys create --help`")
    try:
        store = store_of(settings, state_dir)
    except StageError as error:
        return CheckResult(name, False, str(error))
    try:
        count = len(store.identities())
    except SQLAlchemyError as error:
        return CheckResult(name, False, reason(error))
    finally:
        store.close()
    if not count and settings.keys_file is None:
        return CheckResult(name, False, "no key is in force: every device gets 401; see `fleetlake keys create --help`")
    return CheckResult(name, True, f"{count} key(s) in force")
