"""`fleetlake alarms acknowledge|resolve|reopen|snooze`: act on one alarm, on several, or on all that a filter names."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from fleetlake.cli.kafka import run_on_kafka
from fleetlake.cli.options import SPANS, ConfigOption, DataOption, read_settings, span_in
from fleetlake.cli.output import time_text
from fleetlake.cli.published_alarms import (
    AlarmFilter,
    DeviceOption,
    RuleOption,
    SeverityOption,
    find_alarm,
    find_alarms,
    known_alarm,
)
from fleetlake.errors import UserError
from schemas.words import AlarmStatus

if TYPE_CHECKING:
    from fleetlake.config import Settings

AlarmsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="ALARM", help="Ids, or their beginnings; or choose by a filter.")
]
NoteOption = Annotated[str | None, typer.Option("--note", "-n", help="Note for the timeline.")]
ActorOption = Annotated[str | None, typer.Option("--actor", help="Who acts; default: the user of this process.")]
WaitOption = Annotated[
    timedelta,
    typer.Option(
        "--wait",
        parser=span_in("s"),
        metavar="SPAN",
        show_default=False,
        help="How long to wait for the engine; 15s.",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before acting on what a filter chooses.")]
_WAIT = timedelta(seconds=15)
_MOST_SNOOZED = timedelta(days=366)


@dataclass(frozen=True)
class _Request:
    """What is done, and how; `until` ends a snooze."""

    action: str
    note: str | None
    actor: str | None
    wait: timedelta
    until: datetime | None = None


def register_actions(alarms: typer.Typer) -> None:
    """Add the commands to the group."""
    _add(alarms, "acknowledge", "State that somebody takes care of alarms: ids, or all that a filter names.")
    _add(alarms, "resolve", "Resolve alarms. They do not trigger again while their conditions stay true.")
    _add(alarms, "reopen", "Reopen alarms that were resolved within the last 30 days.")
    alarms.command("snooze")(snooze)


def _add(alarms: typer.Typer, action: str, purpose: str) -> None:
    def command(
        alarm: AlarmsArgument = None,
        severity: SeverityOption = None,
        device: DeviceOption = None,
        rule: RuleOption = None,
        note: NoteOption = None,
        actor: ActorOption = None,
        wait: WaitOption = _WAIT,
        yes: YesOption = False,
        config: ConfigOption = None,
        data: DataOption = None,
    ) -> None:
        status = {"acknowledge": AlarmStatus.ACTIVE, "reopen": AlarmStatus.RESOLVED}.get(action)
        which = AlarmFilter(status, severity, device, rule)
        _act_on(read_settings(config, data), alarm or [], which, _Request(action, note, actor, wait), yes)

    alarms.command(action, help=purpose)(command)


def snooze(
    alarm: AlarmsArgument = None,
    duration: Annotated[
        timedelta | None, typer.Argument(metavar="FOR", parser=span_in(), help=f"How long: {SPANS}.")
    ] = None,
    severity: SeverityOption = None,
    device: DeviceOption = None,
    rule: RuleOption = None,
    note: NoteOption = None,
    actor: ActorOption = None,
    wait: WaitOption = _WAIT,
    yes: YesOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Suppress the notifications of alarms for a time."""
    if not duration:
        raise UserError(f"how long? Write {SPANS} at the end")
    if duration > _MOST_SNOOZED:
        raise UserError("an alarm can be snoozed for 366 days at most")
    request = _Request("snooze", note, actor, wait, datetime.now(UTC) + duration)
    _act_on(read_settings(config, data), alarm or [], AlarmFilter(None, severity, device, rule), request, yes)


def _act_on(settings: Settings, names: list[str], which: AlarmFilter, request: _Request, yes: bool) -> None:
    """Act on each alarm in turn; one that fails is said, and the others are acted on. UserError if any failed."""
    filtered = any((which.severity, which.device, which.rule))
    if bool(names) is filtered:
        raise UserError("name alarms by their ids, or choose them by --severity, --device or --rule")
    folder = settings.pipeline.data
    rows = find_alarms(folder, which) if filtered else [find_alarm(folder, name) for name in names]
    if not rows:
        raise UserError(f"no alarm to {request.action} matches")
    if filtered and not yes:
        typer.confirm(f"{request.action} {len(rows)} alarms?", abort=True)
    failed = 0
    for row in rows:
        try:
            typer.echo(_act(settings, row, request))
        except UserError as error:
            if len(rows) == 1:
                raise
            failed += 1
            typer.echo(f"{row['alarm_id']}: {error}", err=True)
    if failed:
        raise UserError(f"{failed} of {len(rows)} alarms could not be changed")


def _act(settings: Settings, row: dict[str, Any], request: _Request) -> str:
    """Publish the action, wait for the alarm engine to carry it out, and return what the alarm then is."""
    from alarm_service.action_client import act
    from alarm_service.action_publisher import KafkaAway
    from schemas import wire

    known = known_alarm(settings.pipeline.data, row)
    record = wire.AlarmAction(
        str(uuid4()),
        known.alarm_id,
        known.device_id,
        request.action,
        request.actor or getpass.getuser(),
        datetime.now(UTC),
        request.note,
        request.until,
    )
    seconds = max(request.wait.total_seconds(), 1.0)
    try:
        event, refused = run_on_kafka(settings, lambda client: act(client, record, known, seconds))
    except KafkaAway as error:
        raise UserError(f"Kafka does not answer: {error or type(error).__name__}") from error
    if refused is not None:
        raise UserError(f"cannot {request.action}: {refused}")
    if event is None:
        raise UserError(
            f"the action is in Kafka, but the alarm engine has not carried it out within {seconds:g} s: either no "
            "stream worker runs, and it will be carried out when one does, or the alarm has changed meanwhile"
        )
    word = f"snoozed until {time_text(event.alarm.snoozed_until)}" if request.until else event.alarm.status
    return f"{event.alarm.alarm_id} is {word}: {event.alarm.title}"
