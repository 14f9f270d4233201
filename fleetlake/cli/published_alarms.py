"""Alarms as they were published last: chosen by filters or by the beginning of an id."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleetlake.errors import UserError
from schemas.words import AlarmStatus, Severity

if TYPE_CHECKING:
    from alarm_service.action_client import KnownAlarm

SeverityOption = Annotated[Severity | None, typer.Option(help="Only alarms of this severity.")]
DeviceOption = Annotated[
    str | None, typer.Option(help="Only this device's alarms; an id without a vendor is WAYSCloud's.")
]
RuleOption = Annotated[str | None, typer.Option(help="Only this rule's alarms.")]

_LEAST_PREFIX = 4
_WITH_ACTOR = """
FROM (SELECT a.*, (
    SELECT max_by(e.actor, e.sequence) FROM alarm_events e
    WHERE e.alarm_id = a.alarm_id AND e.event_type = 'acknowledged'
) AS acknowledged_by, a.triggered_at = max(a.triggered_at) OVER (PARTITION BY a.device_id, a.rule_id) AS is_latest
FROM alarms a)
"""


@dataclass(frozen=True)
class AlarmFilter:
    """Which alarms; None: any. Without a status those that are open, unless `everything`."""

    status: AlarmStatus | None = None
    severity: Severity | None = None
    device: str | None = None
    rule: str | None = None
    everything: bool = False

    @property
    def narrows(self) -> bool:
        """Whether it says anything at all."""
        return any((self.status, self.severity, self.device, self.rule))


def find_alarms(folder: Path, which: AlarmFilter) -> list[dict[str, Any]]:
    """The alarms, latest first, with who acknowledged each. UserError where nothing has been published."""
    device = f"wayscloud:{which.device}" if which.device and ":" not in which.device else which.device
    chosen = {"status": which.status, "severity": which.severity, "device_id": device, "rule_id": which.rule}
    where = [f"{name} = ?" for name, value in chosen.items() if value is not None]
    values = [str(value) for value in chosen.values() if value is not None]
    if which.status is None and not which.everything:
        where.append("status <> 'resolved'")
    condition = f"WHERE {' AND '.join(where)}" if where else ""
    return ask(folder, f"{_WITH_ACTOR} {condition} ORDER BY triggered_at DESC, alarm_id", values)


def find_alarm(folder: Path, alarm: str) -> dict[str, Any]:
    """The one alarm whose id is this or begins so, with `is_latest` among those of its device and rule."""
    if len(alarm) < _LEAST_PREFIX:
        raise UserError(f"{alarm!r} is too short: give at least the first {_LEAST_PREFIX} characters of the id")
    matching = ask(folder, f"{_WITH_ACTOR} WHERE starts_with(alarm_id, ?)", [alarm.lower()])
    if not matching:
        raise UserError(f"no alarm has an id that begins with {alarm!r}; it may not be published yet")
    if len(matching) > 1:
        raise UserError(f"{len(matching)} alarms have an id that begins with {alarm!r}; give more of it")
    return matching[0]


def known_alarm(folder: Path, row: dict[str, Any]) -> KnownAlarm:
    """The alarm for an action; what came since is read from the topic, an hour of it twice to be sure."""
    from alarm_service.action_client import KnownAlarm

    since = "greatest(max(received_at) - INTERVAL 1 HOUR, max(received_at) FILTER (alarm_id = ?)) AS since"
    (written,) = ask(folder, f"SELECT {since} FROM alarm_events", [str(row["alarm_id"])])
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


def ask(folder: Path, statement: str, values: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of the published tables, as dictionaries."""
    from fleetlake.api import connect

    try:
        with connect(folder) as connection:
            result = connection.execute(statement, list(values))
            names = [column[0] for column in result.description or []]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    except FileNotFoundError as error:
        raise UserError(str(error)) from error


def plain_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row for JSON and people: times as RFC 3339 in UTC, the event's metadata as an object."""
    plain = {name: f"{value.isoformat()}Z" if isinstance(value, datetime) else value for name, value in row.items()}
    plain.pop("is_latest", None)
    if isinstance(plain.get("metadata"), str):
        plain["metadata"] = json.loads(plain["metadata"])
    return plain
