"""`fleetlake keys …` and `fleetlake climasense …`: API keys, commands, settings and firmware of ClimaSense devices."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleetlake.cli.options import ConfigOption, DataOption, JsonOption, read_settings
from fleetlake.cli.output import print_rows, time_text
from fleetlake.errors import UserError

if TYPE_CHECKING:
    from connectors.climasense.settings import ClimasenseSettings
    from connectors.climasense.store.store import Store

keys = typer.Typer(
    help="API keys of ClimaSense devices, hubs and sensors.", no_args_is_help=True, rich_markup_mode=None
)
climasense = typer.Typer(
    help="ClimaSense devices: commands, settings, firmware.", no_args_is_help=True, rich_markup_mode=None
)
firmware = typer.Typer(help="Firmware, released batch by batch.", no_args_is_help=True, rich_markup_mode=None)
climasense.add_typer(firmware, name="firmware")

DeviceArgument = Annotated[str, typer.Argument(help="The device's native id, without `climasense:`.")]
VersionArgument = Annotated[str, typer.Argument(help="E.g. 1.3.0.")]
BatchOption = Annotated[
    list[str], typer.Option("--batch", "-b", help="Batch; may be given several times; * means all.")
]


class RoleName(StrEnum):
    """What a key is for."""

    DEVICE = "device"
    HUB = "hub"
    SENSOR = "sensor"


class CommandName(StrEnum):
    """The documented commands."""

    REBOOT = "reboot"
    CONFIG_UPDATE = "config_update"
    FACTORY_RESET = "factory_reset"
    DIAGNOSTICS = "diagnostics"


@keys.command("create")
def create_key(
    device: DeviceArgument,
    role: Annotated[RoleName | None, typer.Option(help="Role of the key; default for a new device: device.")] = None,
    batch: Annotated[
        str | None, typer.Option(help="Batch that the device was made in; firmware is released by batch.")
    ] = None,
    serial_number: Annotated[
        str | None, typer.Option("--serial-number", help="Serial number; default: the device's id.")
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Make a key and print it. It is shown only now, since only its hash is kept.

    A device may have several keys, so that one can be replaced without an interruption.
    """
    from connectors.climasense.protocol import Provisioned
    from runtime.api_keys import hash_key

    if not device:
        raise UserError("the device's id is empty")
    key = f"sk_{role or RoleName.DEVICE}_{secrets.token_urlsafe(32)}"
    named = role.value if role else None
    with _store(config, data) as store:
        store.keys.add(Provisioned(device, hash_key(key), named, batch, serial_number), _now())  # type: ignore[arg-type]
    typer.echo(key)


@keys.command("revoke")
def revoke_keys(
    name: Annotated[
        str, typer.Argument(help="A device, to revoke all its keys, or the id of one key, from `keys list`.")
    ],
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Revoke keys for good. A running server refuses them within seconds."""
    with _store(config, data) as store:
        revoked = store.keys.revoke(name, _now())
    if not revoked:
        raise UserError(f"no key in force belongs to a device {name!r} or has this id")
    for key in revoked:
        typer.echo(f"revoked {key.key_id} of {key.device}")


@keys.command("list")
def list_keys(as_json: JsonOption = False, config: ConfigOption = None, data: DataOption = None) -> None:
    """List the keys and their devices. Only the devices know the keys themselves."""
    with _existing_store(config, data) as store:
        existing = store.keys.all() if store else []
    rows = [
        (k.key_id, k.device, k.role, k.batch, k.source, k.created_at, k.revoked_at or (None if as_json else "in force"))
        for k in existing
    ]
    print_rows(("key", "device", "role", "batch", "from", "created", "revoked"), rows, as_json)


@climasense.command("command")
def queue_command(
    device: DeviceArgument,
    kind: Annotated[CommandName, typer.Argument(help="The command.")],
    payload: Annotated[str, typer.Option(help="JSON object, e.g. '{\"delay_seconds\": 5}'.")] = "{}",
    confirm: Annotated[str, typer.Option(help="For factory_reset: the device's id, to confirm.")] = "",
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Queue a command for a device. It expires after 24 hours."""
    content = _object(payload, "--payload")
    if kind is CommandName.FACTORY_RESET and confirm != device:
        raise UserError(f"factory_reset erases the device: confirm it with --confirm {device}")
    with _store(config, data) as store:
        command = store.commands.queue(device, kind.value, content, _now(), confirmed=confirm == device)
    typer.echo(f"{command.command_id} waits until {time_text(command.expires_at)}")


@climasense.command("commands")
def list_commands(
    device: Annotated[str | None, typer.Argument(help="Only this device's commands.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """List the commands and their results, latest first."""
    with _existing_store(config, data) as store:
        commands = store.commands.all(device) if store else []
    now = _now()
    rows = [
        (
            c.command_id,
            c.device,
            c.type,
            c.created_at,
            c.status or _waits(c.expires_at, now),
            c.error_message,
        )
        for c in commands
    ]
    print_rows(("id", "device", "command", "created", "status", "error"), rows, as_json)


@climasense.command("settings")
def change_settings(
    device: DeviceArgument,
    change: Annotated[str, typer.Option("--set", help='JSON object, e.g. \'{"timezone": "Europe/Berlin"}\'.')] = "{}",
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Show a device's settings, or change some. Settings that are not named stay as they are."""
    from pydantic import ValidationError

    from schemas.climasense import DeviceSettings, SettingsUpdate
    from schemas.validation_words import validation_words

    _object(change, "--set")
    try:
        changes = SettingsUpdate.model_validate_json(change).model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--set: {'.'.join(map(str, first['loc']))}: {validation_words(first)}") from error
    with _store(config, data) as store:
        record = (
            store.devices.update_settings(device, changes, by_operator=True) if changes else store.devices.get(device)
        )
    typer.echo(DeviceSettings.model_validate(record.settings).model_dump_json(indent=2, exclude_none=True))


@climasense.command("unpair")
def unpair_sensor(device: DeviceArgument, config: ConfigOption = None, data: DataOption = None) -> None:
    """Unpair a Zigbee sensor from its hub, so that another hub can register it."""
    with _store(config, data) as store:
        store.devices.unpair(device)


@firmware.command("add")
def add_firmware(
    version: VersionArgument,
    image: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The image file.")],
    notes: Annotated[str, typer.Option(help="Release notes, shown to devices.")] = "",
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Store an image. It is not offered to devices before it is released."""
    with image.open("rb") as file, _store(config, data) as store:
        added = store.firmware.add(version, file, notes, _now())
    typer.echo(f"{added.version}: {added.size_bytes} bytes, {added.checksum}")


@firmware.command("release")
def release_firmware(
    version: VersionArgument, batch: BatchOption, config: ConfigOption = None, data: DataOption = None
) -> None:
    """Offer a version to the devices of a batch that run an older one."""
    with _store(config, data) as store:
        store.firmware.release(version, batch, _now())


@firmware.command("withdraw")
def withdraw_firmware(
    version: VersionArgument, batch: BatchOption, config: ConfigOption = None, data: DataOption = None
) -> None:
    """Stop offering a version to a batch. Devices that have it keep it."""
    with _store(config, data) as store:
        store.firmware.withdraw(version, batch)


@firmware.command("list")
def list_firmware(as_json: JsonOption = False, config: ConfigOption = None, data: DataOption = None) -> None:
    """List the images, and the batches that they are released to."""
    with _existing_store(config, data) as store:
        images = store.firmware.all() if store else []
    rows = [(f.version, f.size_bytes, f.checksum, list(f.batches), f.release_notes) for f in images]
    print_rows(("version", "bytes", "checksum", "released to", "notes"), rows, as_json)


@contextmanager
def _existing_store(config: Path | None, data: Path | None) -> Iterator[Store | None]:
    """The server's database for a command that only reads; None where there is none, which is then not made."""
    section, folder = _section(config, data)
    if section.database_url is None and not (folder / "state" / "climasense.db").exists():
        yield None
        return
    with _store(config, data) as store:
        yield store


def _section(config: Path | None, data: Path | None) -> tuple[ClimasenseSettings, Path]:
    """The section `[climasense]` and the data folder."""
    from connectors.climasense.settings import ClimasenseSettings

    settings = read_settings(config, data)
    section = settings.vendor("climasense")
    assert isinstance(section, ClimasenseSettings)
    return section, settings.pipeline.data


@contextmanager
def _store(config: Path | None, data: Path | None) -> Iterator[Store]:
    """The server's database. UserError for whatever the database refuses."""
    from connectors.climasense.connector import store_of
    from connectors.climasense.store.records import StateError
    from fleetlake.cli.stores import using_database

    section, folder = _section(config, data)
    try:
        with using_database("climasense", lambda: store_of(section, folder / "state")) as store:
            yield store
    except StateError as error:
        raise UserError(str(error)) from error


def _object(text: str, option: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UserError(f"{option}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{option}: must be a JSON object")
    return content


def _now() -> datetime:
    return datetime.now(UTC)


def _waits(expires_at: datetime, now: datetime) -> str:
    return "waits" if now < expires_at else "expired"
