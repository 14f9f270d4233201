"""Commands for whoever sets up notifications: does a channel work, and what became of deliveries."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from fleetlake.cli.options import ConfigOption, DataOption, JsonOption, read_settings
from fleetlake.cli.output import print_table, time_text
from fleetlake.errors import UserError

if TYPE_CHECKING:
    from alarm_service.notify.outbox import DeliveryInfo
    from fleetlake.config import Settings

notify = typer.Typer(
    help="Notifications of alarms: try a channel, look at what was delivered.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class StatusName(StrEnum):
    """What can have become of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@notify.command("test")
def test(
    channel: Annotated[str, typer.Argument(help="A channel of [notify.channels].")], config: ConfigOption = None
) -> None:
    """Send a test notification now, past all policies; status 1 if the receiver does not take it."""
    from alarm_service.notify.dispatcher import send_test

    channels = read_settings(config, None).notify.channels
    if channel not in channels:
        known = ", ".join(sorted(channels)) or "none"
        raise UserError(f"no channel {channel!r} in [notify.channels]; there are: {known}")
    outcome = asyncio.run(send_test(channels[channel]))
    if not outcome.delivered:
        raise UserError(f"{channel} did not take it: {outcome.detail}")
    typer.echo(f"{channel} took it: {outcome.detail}")


@notify.command("history")
def history(
    status: Annotated[StatusName | None, typer.Option(help="Only these.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only this channel's.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many, latest first.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="Pass over so many.")] = 0,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Show deliveries, latest first; whether the service runs or not."""
    found, total = _history(read_settings(config, data), limit, offset, status, channel)
    if as_json:
        told = {"deliveries": [asdict(one) for one in found], "total": total}
        typer.echo(json.dumps(told, indent=2, default=lambda moment: time_text(moment, "T")))
        return
    _print(found)
    if len(found) < total:
        typer.echo(f"{len(found)} of {total}", err=True)


def _history(
    settings: Settings, limit: int, offset: int, status: StatusName | None, channel: str | None
) -> tuple[list[DeliveryInfo], int]:
    from alarm_service.service import outbox_of, store_of
    from fleetlake.cli.stores import using_database

    with using_database("the alarm service", lambda: store_of(settings.alarms, settings.pipeline.data)) as store:
        return outbox_of(store, settings.notify).history(limit, offset, status=status, channel_id=channel)


def _print(found: list[DeliveryInfo]) -> None:
    print_table(
        ("created", "channel", "policy", "event", "alarm", "status", "tries", "sent or next", "detail"),
        [
            (
                time_text(one.created_at),
                one.channel_id,
                one.policy_id,
                one.event_type,
                one.alarm_id[:8],
                one.status,
                str(one.attempts),
                time_text(one.sent_at or one.next_attempt_at),
                one.detail,
            )
            for one in found
        ],
    )
