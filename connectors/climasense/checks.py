"""`fleetlake check` for ClimaSense: keys, database, port."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from connectors.climasense.connector import store_of
from connectors.climasense.protocol import VENDOR, read_keys
from connectors.climasense.settings import ClimasenseSettings
from runtime.checks import CheckResult
from runtime.database import reason
from runtime.errors import StageError
from runtime.http_server import check_port


async def check(settings: ClimasenseSettings, state_dir: Path) -> list[CheckResult]:
    """Check the keys of the file and of the database, and the port."""
    results = [await asyncio.to_thread(_check_database, settings, state_dir)]
    if settings.keys_file is not None:
        results.append(_check_keys_file(settings.keys_file))
    return [*results, await check_port("climasense: port", settings.host, settings.port, VENDOR)]


def _check_keys_file(path: Path) -> CheckResult:
    name = "climasense: keys file"
    try:
        entries = read_keys(path.read_text(encoding="utf-8-sig"), path.suffix == ".toml")
    except OSError as error:
        return CheckResult(name, False, f"{path}: {error.strerror}")
    except ValueError as error:
        return CheckResult(name, False, f"{path}: {error}")
    return CheckResult(name, True, f"{len(entries)} key(s)")


def _check_database(settings: ClimasenseSettings, state_dir: Path) -> CheckResult:
    name = "climasense: database"
    if settings.database_url is None and not (state_dir / "climasense.db").exists():
        if settings.keys_file is not None:
            return CheckResult(name, True, "will be created with the keys of the keys file")
        return CheckResult(name, False, "there are no keys: every device gets 401; see `fleetlake keys create --help`")
    try:
        store = store_of(settings, state_dir)
    except StageError as error:
        return CheckResult(name, False, str(error))
    try:
        count = len(store.keys.identities())
    except SQLAlchemyError as error:
        return CheckResult(name, False, reason(error))
    finally:
        store.close()
    if not count and settings.keys_file is None:
        return CheckResult(name, False, "no key is in force: every device gets 401; see `fleetlake keys create --help`")
    return CheckResult(name, True, f"{count} key(s) in force")
