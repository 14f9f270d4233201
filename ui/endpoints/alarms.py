"""The page «Alarms»: the list, one alarm with the reason why it was triggered, and actions.

An action goes to Kafka as everybody's does. It is answered when the alarm engine's event has come back.
"""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

import msgspec
from aiohttp import web

from alarm_service.action_publisher import ActionPublisher, KafkaAway
from alarm_service.actions import refusal
from schemas import wire
from ui import queries
from ui.answers import RequestRefused, json_response, needed, read_body
from ui.backend import Backend
from ui.sessions import Viewer
from ui.tables import NothingPublished
from ui.trials import RuleTrials

VIEWER = web.RequestKey("viewer", Viewer)
"""Who asks."""

_MOST_AT_ONCE = 200
_MOST_NOTE = 4000
_LONGEST_TRIAL_HOURS = 31 * 24
_LONGEST_SNOOZE = timedelta(days=366)


class ActionBody(msgspec.Struct, forbid_unknown_fields=True):
    """What to do to which alarms. `until` is the end of a snooze, in milliseconds since the epoch."""

    alarms: list[str]
    action: Literal["acknowledge", "resolve", "reopen", "snooze"]
    note: str | None = None
    until: int | None = None


class TrialBody(msgspec.Struct, forbid_unknown_fields=True):
    """A rule, as `rules.yaml` has it, and how far back it is tried."""

    rule: dict[str, Any]
    hours: float


class AlarmEndpoints:
    """Alarms: what the tables have, overlaid with what has come since."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._trials = RuleTrials(backend.tools.trial)

    async def alarms(self, request: web.Request) -> web.Response:
        """All alarms that are open or were resolved lately; of one device with `device`."""
        alarms = await self._current()
        device = request.query.get("device")
        chosen = [one for one in alarms.values() if device is None or one["device_id"] == device]
        return await json_response(request, chosen)

    async def alarm(self, request: web.Request) -> web.Response:
        """One alarm with its timeline and its rule."""
        alarm_id = needed(request, "id").lower()
        alarm = await self._find(alarm_id)
        timeline = {entry["sequence"]: entry for entry in await self._stored_timeline(alarm_id)}
        timeline |= {entry["sequence"]: entry for entry in self._backend.hub.timelines.get(alarm_id, [])}
        content = alarm | {
            "timeline": [timeline[sequence] for sequence in sorted(timeline)],
            "rule": self._backend.reader.rules.get(alarm["rule_id"]),
        }
        return await json_response(request, content)

    async def act(self, request: web.Request) -> web.Response:
        """Act on up to 200 alarms. Answers with the outcome of each: done, pending or refused."""
        body = await read_body(request, ActionBody)
        now = datetime.now(UTC)
        until = _checked(body, now)
        publisher = self._backend.reader.publisher
        if publisher is None:
            raise RequestRefused(503, "unavailable", "Kafka does not answer, so nothing was changed; try again later")
        alarms = await self._current()
        actor = request[VIEWER].name
        outcomes: dict[str, dict[str, Any]] = {}
        sent: dict[str, str] = {}
        for alarm_id in dict.fromkeys(body.alarms):
            alarm = alarms.get(alarm_id)
            if why := await self._refusal(body.action, alarm, now):
                outcomes[alarm_id] = {"outcome": "refused", "reason": why}
                continue
            assert alarm is not None  # else it is refused
            action = wire.AlarmAction(
                str(uuid4()), alarm_id, alarm["device_id"], body.action, actor, now, body.note or None, until
            )
            sent[alarm_id] = action.action_id
            await _publish(publisher, action)
        await self._wait_for(set(sent.values()))
        for alarm_id, action_id in sent.items():
            done = action_id in self._backend.hub.done
            outcomes[alarm_id] = {"outcome": "done" if done else "pending"}
        return await json_response(request, outcomes)

    async def try_rule(self, request: web.Request) -> web.Response:
        """Which alarms a rule would have raised lately. Nothing is written."""
        body = await read_body(request, TrialBody)
        if not 0 < body.hours <= _LONGEST_TRIAL_HOURS:
            raise RequestRefused(400, "invalid_request", f"hours: must be at most {_LONGEST_TRIAL_HOURS}")
        return await json_response(request, await self._trials.run(body.rule, body.hours))

    async def _wait_for(self, actions: set[str]) -> None:
        hub = self._backend.hub
        async with hub.acted:
            try:
                await asyncio.wait_for(
                    hub.acted.wait_for(lambda: actions <= hub.done.keys()), self._backend.settings.action_seconds
                )
            except TimeoutError:
                return

    async def _current(self) -> dict[str, dict[str, Any]]:
        stored = {row["alarm_id"]: row for row in await self._backend.tables.rows(queries.ALARMS)}
        return stored | {alarm_id: stored.get(alarm_id, {}) | one for alarm_id, one in self._backend.hub.alarms.items()}

    async def _find(self, alarm_id: str) -> dict[str, Any]:
        if known := self._backend.hub.alarms.get(alarm_id):
            return known
        rows = await self._backend.tables.rows(queries.ALARM, [alarm_id])
        if not rows:
            raise RequestRefused(404, "not_found", "There is no such alarm")
        return rows[0]

    async def _stored_timeline(self, alarm_id: str) -> list[dict[str, Any]]:
        try:
            rows = await self._backend.tables.rows(queries.ALARM_TIMELINE, [alarm_id])
        except NothingPublished:
            return []
        return [row | {"metadata": json.loads(row["metadata"]) if row["metadata"] else None} for row in rows]

    async def _refusal(self, action: str, alarm: dict[str, Any] | None, now: datetime) -> str | None:
        if alarm is None:
            return "there is no such alarm"
        resolved = alarm.get("resolved_at")
        latest = True
        if action == "reopen":
            values = [alarm["device_id"], alarm["rule_id"], alarm["triggered_at"]]
            [row] = await self._backend.tables.rows(queries.LATER_ALARM, values)
            latest = row["later"] == 0
        at = datetime.fromtimestamp(resolved / 1000, UTC) if resolved else None
        return refusal(action, alarm["status"], at, latest, now)


async def _publish(publisher: ActionPublisher, action: wire.AlarmAction) -> None:
    try:
        await publisher.act(action)
    except KafkaAway as error:
        raise RequestRefused(503, "unavailable", "Kafka does not answer; try again later") from error


def _checked(body: ActionBody, now: datetime) -> datetime | None:
    """The end of the snooze. RequestRefused where the request makes no sense."""
    if not 0 < len(body.alarms) <= _MOST_AT_ONCE:
        raise RequestRefused(400, "invalid_request", f"alarms: must name 1 to {_MOST_AT_ONCE}")
    if body.note is not None and len(body.note) > _MOST_NOTE:
        raise RequestRefused(400, "invalid_request", f"note: must have at most {_MOST_NOTE} characters")
    if body.action != "snooze":
        return None
    longest = (time.time() + _LONGEST_SNOOZE.total_seconds()) * 1000
    if body.until is None or not now.timestamp() * 1000 < body.until <= longest:
        raise RequestRefused(400, "invalid_request", f"until: must be within {_LONGEST_SNOOZE.days} days from now")
    return datetime.fromtimestamp(body.until / 1000, UTC)
