"""`fleetlake alarms keys …`: the API keys of the alarm service, the live page and the SQL server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetlake.cli.options import ConfigOption, DataOption, JsonOption, read_settings
from fleetlake.cli.output import print_rows
from fleetlake.errors import UserError
from schemas.words import KeyRole

if TYPE_CHECKING:
    from alarm_service.store.database import AlarmDatabase

keys = typer.Typer(help="API keys of the alarm service.", no_args_is_help=True, rich_markup_mode=None)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Whose key it is; shown as the actor on timelines.")],
    role: Annotated[
        KeyRole, typer.Option(help="read: see everything; operate: also act on alarms; admin: also change rules.")
    ] = KeyRole.OPERATE,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Make an API key and print it. It is shown only now, since only its hash is kept."""
    if not 1 <= len(name) <= 200 or not name.isprintable():
        raise UserError("a name has 1 to 200 printable characters")
    with _database(config, data) as database:
        typer.echo(database.keys.create(name, role, datetime.now(UTC)))


@keys.command("list")
def list_keys(as_json: JsonOption = False, config: ConfigOption = None, data: DataOption = None) -> None:
    """List the keys: whose they are, and what each may do."""
    with _database(config, data) as database:
        existing = database.keys.all()
    rows = [
        (key.key_id, key.name, str(key.role), key.created_at, key.revoked_at or (None if as_json else "in force"))
        for key in existing
    ]
    print_rows(("key", "name", "role", "created", "revoked"), rows, as_json)


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="From `fleetlake alarms keys list`.")],
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Revoke a key for good, with immediate effect."""
    with _database(config, data) as database:
        revoked = database.keys.revoke(key_id, datetime.now(UTC))
    if not revoked:
        raise UserError(f"no key in force has the id {key_id!r}")
    typer.echo(f"revoked {key_id}")


@contextmanager
def _database(config: Path | None, data: Path | None) -> Iterator[AlarmDatabase]:
    from alarm_service.store.database import alarm_database
    from fleetlake.cli.stores import using_database

    settings = read_settings(config, data)
    with using_database(
        "the alarm service", lambda: alarm_database(settings.alarms, settings.pipeline.data)
    ) as database:
        yield database
