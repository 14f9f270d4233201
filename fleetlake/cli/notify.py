"""`fleetlake notify …`: test a channel, and list deliveries."""

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
    from alarm_service.notify.delivery_history import DeliveryInfo, HistoryQuery
    from fleetlake.config import Settings

notify = typer.Typer(
    help="Notifications of alarms: test a channel, list deliveries.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class StatusName(StrEnum):
    """The states of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@notify.command("test")
def test(
    channel: Annotated[str, typer.Argument(help="A channel of [notify.channels].")], config: ConfigOption = None
) -> None:
    """Send a test notification now, whatever the policies. Status 1 if the receiver does not accept it."""
    from alarm_service.notify.dispatcher import send_test

    channels = read_settings(config, None).notify.channels
    if channel not in channels:
        known = ", ".join(sorted(channels)) or "none"
        raise UserError(f"no channel {channel!r} in [notify.channels]; there are: {known}")
    outcome = asyncio.run(send_test(channels[channel]))
    if not outcome.delivered:
        raise UserError(f"{channel} did not accept it: {outcome.detail}")
    typer.echo(f"{channel} accepted it: {outcome.detail}")


@notify.command("history")
def history(
    status: Annotated[StatusName | None, typer.Option(help="Only deliveries of this status.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only this channel's deliveries.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, latest first.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="Skip this many.")] = 0,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """List deliveries, latest first, whether the service runs or not."""
    from alarm_service.notify.delivery_history import HistoryQuery

    which = HistoryQuery(limit, offset, status=status, channel_id=channel)
    deliveries, total = _history(read_settings(config, data), which)
    if as_json:
        page = {"deliveries": [asdict(one) for one in deliveries], "total": total}
        typer.echo(json.dumps(page, indent=2, default=lambda moment: time_text(moment, "T")))
        return
    _print(deliveries)
    if len(deliveries) < total:
        typer.echo(f"{len(deliveries)} of {total}", err=True)


def _history(settings: Settings, which: HistoryQuery) -> tuple[list[DeliveryInfo], int]:
    from alarm_service.notify.delivery_history import read_history
    from alarm_service.store.database import DATABASE, alarm_database
    from fleetlake.cli.stores import using_database

    if settings.alarms.database_url is None and not (settings.pipeline.data / DATABASE).exists():
        return [], 0  # no service has run here; opening the database would make it
    with using_database(
        "the alarm service", lambda: alarm_database(settings.alarms, settings.pipeline.data)
    ) as database:
        return read_history(database.engine, which)


def _print(deliveries: list[DeliveryInfo]) -> None:
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
            for one in deliveries
        ],
    )
