"""`fleetlake alarms …`: list alarms, show one, act on it, and serve alarms over HTTP."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from fleetlake.cli.kafka import run_on_kafka
from fleetlake.cli.options import ConfigOption, DataOption, JsonOption, read_settings
from fleetlake.cli.output import print_table, time_text
from fleetlake.errors import UserError
from schemas.words import AlarmStatus, KeyRole, Severity

if TYPE_CHECKING:
    from alarm_service.action_client import KnownAlarm
    from alarm_service.store.database import AlarmDatabase
    from fleetlake.config import Settings

alarms = typer.Typer(
    help="Alarms: list them, act on them, serve them over HTTP.", no_args_is_help=True, rich_markup_mode=None
)
keys = typer.Typer(help="API keys of the alarm service.", no_args_is_help=True, rich_markup_mode=None)
alarms.add_typer(keys, name="keys")

AlarmArgument = Annotated[str, typer.Argument(help="The alarm's id, or the beginning of it.")]
NoteOption = Annotated[str | None, typer.Option("--note", "-n", help="Note for the timeline.")]
ActorOption = Annotated[str | None, typer.Option("--actor", help="Who acts; default: the user of this process.")]
WaitOption = Annotated[float, typer.Option("--wait", min=1, help="Seconds to wait for the alarm engine.")]

_LEAST_PREFIX = 4


@alarms.command("list")
def list_alarms(
    status: Annotated[
        AlarmStatus | None, typer.Option(help="Only alarms of this status; default: all that are open.")
    ] = None,
    severity: Annotated[Severity | None, typer.Option(help="Only alarms of this severity.")] = None,
    device: Annotated[
        str | None, typer.Option(help="Only this device's alarms; an id without a vendor is WAYSCloud's.")
    ] = None,
    rule: Annotated[str | None, typer.Option(help="Only this rule's alarms.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also resolved alarms.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="At most this many, latest first; 0: all.")] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Show alarms, latest first, as last published."""
    device = f"wayscloud:{device}" if device and ":" not in device else device
    chosen = {"status": status, "severity": severity, "device_id": device, "rule_id": rule}
    where = [f"{name} = ?" for name, value in chosen.items() if value is not None]
    values = [str(value) for value in chosen.values() if value is not None]
    if status is None and not everything:
        where.append("status <> 'resolved'")
    condition = f"WHERE {' AND '.join(where)}" if where else ""
    folder = read_settings(config, data).pipeline.data
    matching = _ask(folder, f"FROM alarms {condition} ORDER BY triggered_at DESC, alarm_id", values)
    shown = matching[:limit] if limit else matching
    if as_json:
        typer.echo(json.dumps([_plain(row) for row in shown], indent=2))
        return
    print_table(
        ("alarm", "device", "severity", "status", "triggered", "count", "title"),
        [
            (
                row["alarm_id"],
                row["device_id"],
                row["severity"],
                row["status"],
                time_text(row["triggered_at"]),
                str(row["occurrence_count"]),
                row["title"],
            )
            for row in shown
        ],
    )
    if len(shown) < len(matching):
        typer.echo(f"{len(shown)} of {len(matching)}; --limit 0 shows all", err=True)


@alarms.command("show")
def show_alarm(
    alarm: AlarmArgument, as_json: JsonOption = False, config: ConfigOption = None, data: DataOption = None
) -> None:
    """Show an alarm and its timeline, as last published."""
    folder = read_settings(config, data).pipeline.data
    row = _find(folder, alarm)
    timeline = _ask(
        folder,
        "SELECT sequence AS id, event_type, actor, note, metadata, created_at FROM alarm_events WHERE alarm_id = ? "
        "ORDER BY sequence",
        [row["alarm_id"]],
    )
    if as_json:
        typer.echo(json.dumps({**_plain(row), "timeline": [_plain(event) for event in timeline]}, indent=2))
        return
    print_table(("", ""), [(name, str(value)) for name, value in _plain(row).items() if value is not None])
    print_table(
        ("", "at", "event", "actor", "note"),
        [(str(e["id"]), time_text(e["created_at"]), e["event_type"], e["actor"], e["note"]) for e in timeline],
    )


@alarms.command("summary")
def summarise(as_json: JsonOption = False, config: ConfigOption = None, data: DataOption = None) -> None:
    """Count alarms by status, and open alarms by severity, as last published."""
    folder = read_settings(config, data).pipeline.data
    rows = _ask(folder, "SELECT status, severity, count(*) AS n FROM alarms GROUP BY ALL", [])
    by_status = {name.value: sum(r["n"] for r in rows if r["status"] == name) for name in AlarmStatus}
    still = [row for row in rows if row["status"] != AlarmStatus.RESOLVED]
    by_severity = {name.value: sum(row["n"] for row in still if row["severity"] == name) for name in Severity}
    if as_json:
        total = sum(row["n"] for row in still)
        summary = {"by_status": by_status, "by_severity": by_severity, "active_total": total}
        typer.echo(json.dumps(summary, indent=2))
        return
    print_table(("status", "alarms"), [(name, str(count)) for name, count in by_status.items()])
    print_table(("severity", "open alarms"), [(name, str(count)) for name, count in by_severity.items()])


def _add_command(action: str, purpose: str) -> None:
    def command(
        alarm: AlarmArgument,
        note: NoteOption = None,
        actor: ActorOption = None,
        wait: WaitOption = 15,
        config: ConfigOption = None,
        data: DataOption = None,
    ) -> None:
        _act(read_settings(config, data), action, alarm, _ActionOptions(note, actor, wait))

    alarms.command(action, help=purpose)(command)


_add_command("acknowledge", "State that somebody takes care of an alarm.")
_add_command("resolve", "Resolve an alarm. It does not trigger again while its condition stays true.")
_add_command("reopen", "Reopen an alarm that was resolved within the last 30 days.")


@alarms.command("snooze")
def snooze(
    alarm: AlarmArgument,
    duration: Annotated[str, typer.Argument(metavar="FOR", help="How long to suppress notifications: 30m, 4h, 2d.")],
    note: NoteOption = None,
    actor: ActorOption = None,
    wait: WaitOption = 15,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Suppress an alarm's notifications for a time."""
    matched = re.fullmatch(r"(\d{1,6})([mhd])", duration)
    if matched is None or not int(matched[1]):
        raise UserError(f"{duration!r} is not a duration; write 30m, 4h or 2d")
    length = timedelta(minutes=int(matched[1]) * {"m": 1, "h": 60, "d": 1440}[matched[2]])
    if length > timedelta(days=366):
        raise UserError("an alarm can be snoozed for 366 days at most")
    _act(read_settings(config, data), "snooze", alarm, _ActionOptions(note, actor, wait), datetime.now(UTC) + length)


@alarms.command("serve")
def serve(config: ConfigOption = None, data: DataOption = None) -> None:
    """Serve alarms and rules over HTTP, with the API keys of `fleetlake alarms keys`."""
    from fleetlake.stages import alarms_stage, run_and_exit

    settings = read_settings(config, data)
    run_and_exit(settings, "alarms", alarms_stage(settings))


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
def list_keys(config: ConfigOption = None, data: DataOption = None) -> None:
    """List the keys: whose they are, and what each may do."""
    with _database(config, data) as database:
        existing = database.keys.all()
    rows = [
        (key.key_id, key.name, key.role, time_text(key.created_at), time_text(key.revoked_at) or "in force")
        for key in existing
    ]
    print_table(("key", "name", "role", "created", "revoked"), rows)


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


@dataclass(frozen=True)
class _ActionOptions:
    """What the options of an action say; `wait` is in seconds."""

    note: str | None
    actor: str | None
    wait: float


def _act(settings: Settings, action: str, alarm: str, request: _ActionOptions, until: datetime | None = None) -> None:
    """Publish the action, wait for the alarm engine to carry it out, and print what the alarm then is."""
    from alarm_service.action_client import act
    from alarm_service.action_publisher import KafkaAway
    from schemas import wire

    known = _published(settings.pipeline.data, alarm)
    record = wire.AlarmAction(
        str(uuid4()),
        known.alarm_id,
        known.device_id,
        action,
        request.actor or getpass.getuser(),
        datetime.now(UTC),
        request.note,
        until,
    )
    try:
        event, refused = run_on_kafka(settings, lambda client: act(client, record, known, request.wait))
    except KafkaAway as error:
        raise UserError(f"Kafka does not answer: {error or type(error).__name__}") from error
    if refused is not None:
        raise UserError(f"cannot {action}: {refused}")
    if event is None:
        raise UserError(
            f"the action is in Kafka, but the alarm engine has not carried it out within {request.wait:g} s: either no "
            "stream worker runs, and it will be carried out when one does, or the alarm has changed meanwhile"
        )
    word = f"snoozed until {time_text(event.alarm.snoozed_until)}" if action == "snooze" else event.alarm.status
    typer.echo(f"{event.alarm.alarm_id} is {word}: {event.alarm.title}")


def _published(folder: Path, alarm: str) -> KnownAlarm:
    """The alarm as last published; what came since is read from the topic, an hour of it twice to be sure."""
    from alarm_service.action_client import KnownAlarm

    row = _find(folder, alarm)
    since = "greatest(max(received_at) - INTERVAL 1 HOUR, max(received_at) FILTER (alarm_id = ?)) AS since"
    (written,) = _ask(folder, f"SELECT {since} FROM alarm_events", [str(row["alarm_id"])])
    return KnownAlarm(
        row["alarm_id"],
        row["device_id"],
        row["rule_id"],
        row["triggered_at"].replace(tzinfo=UTC),
        row["status"],
        row["resolved_at"].replace(tzinfo=UTC) if row["resolved_at"] else None,
        row["is_latest"],
        written["since"].replace(tzinfo=UTC) if written["since"] else None,
    )


def _find(folder: Path, alarm: str) -> dict[str, Any]:
    """The one alarm whose id is this or begins so, with `is_latest` among those of its device and rule."""
    if len(alarm) < _LEAST_PREFIX:
        raise UserError(f"{alarm!r} is too short: give at least the first {_LEAST_PREFIX} characters of the id")
    later = "SELECT *, triggered_at = max(triggered_at) OVER (PARTITION BY device_id, rule_id) AS is_latest FROM alarms"
    matching = _ask(folder, f"FROM ({later}) WHERE starts_with(alarm_id, ?)", [alarm.lower()])
    if not matching:
        raise UserError(f"no alarm has an id that begins with {alarm!r}; it may not be published yet")
    if len(matching) > 1:
        raise UserError(f"{len(matching)} alarms have an id that begins with {alarm!r}; give more of it")
    return matching[0]


def _ask(folder: Path, statement: str, values: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the published tables, as dictionaries."""
    from fleetlake.api import connect

    try:
        with connect(folder) as connection:
            result = connection.execute(statement, list(values))
            names = [column[0] for column in result.description or []]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    except FileNotFoundError as error:
        raise UserError(str(error)) from error


@contextmanager
def _database(config: Path | None, data: Path | None) -> Iterator[AlarmDatabase]:
    from alarm_service.store.database import alarm_database
    from fleetlake.cli.stores import using_database

    settings = read_settings(config, data)
    with using_database(
        "the alarm service", lambda: alarm_database(settings.alarms, settings.pipeline.data)
    ) as database:
        yield database


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row for JSON and people: times as RFC 3339 in UTC, the event's metadata as an object."""
    plain = {name: f"{value.isoformat()}Z" if isinstance(value, datetime) else value for name, value in row.items()}
    plain.pop("is_latest", None)
    if isinstance(plain.get("metadata"), str):
        plain["metadata"] = json.loads(plain["metadata"])
    return plain
