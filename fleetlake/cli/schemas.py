"""`fleetlake schemas …`: the contract of the topics for other systems."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from fleetlake.cli.options import JsonOption
from fleetlake.errors import UserError, reason

schemas = typer.Typer(
    help="The schemas of the topics: for a schema registry, or as files.", no_args_is_help=True, rich_markup_mode=None
)


@schemas.command("register")
def register_schemas(
    registry: Annotated[str, typer.Option("--registry", "-r", help="URL of the registry.")],
    topics: Annotated[list[str] | None, typer.Argument(help="Topics; default all public ones.")] = None,
    user: Annotated[str | None, typer.Option(help="User; the password is $FLEETLAKE_REGISTRY_PASSWORD.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be registered.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Register the JSON Schemas with a schema registry (Karapace, Apicurio, Confluent's).

    Each becomes the subject `<topic>-value`. Records stay plain JSON. A schema that would break those who read by the
    version before is refused by the registry.
    """
    from fleetlake.cli.output import print_records
    from fleetlake.ops.schema_registry import Registry, register

    where = Registry(registry, user, os.environ.get("FLEETLAKE_REGISTRY_PASSWORD"))
    done = asyncio.run(register(where, topics or (), trial=dry_run))
    rows = [{"subject": one.subject, "version": one.version, "state": one.state} for one in done]
    print_records(rows, as_json)


@schemas.command("export")
def export_schemas(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; it is made.")],
) -> None:
    """Write the contract as files: the AsyncAPI document, the JSON Schemas of the records, OpenAPI of the HTTP APIs."""
    from schemas.contract import FOLDER

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(FOLDER.iterdir()):
            shutil.copyfile(path, folder / path.name)
            typer.echo(folder / path.name)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {reason(error)}") from error
