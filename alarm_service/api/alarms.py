"""The endpoints of alarms: lists, details, timelines, and actions.

An action goes to Kafka, and is answered when its event has come back from there into the store. An action that the
alarm engine has not carried out in time is answered with 202.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4, uuid5

import msgspec
from aiohttp import web
from pydantic import TypeAdapter

from alarm_service.actions import refusal
from alarm_service.api.backend import Backend
from alarm_service.api.requests import (
    ACTOR,
    Handler,
    RequestRefused,
    json_response,
    parse_body,
    parse_number,
    parse_word,
)
from alarm_service.store.alarms import AlarmFilter, StoredAlarm
from runtime.http_body import read_whole
from schemas import alarm_api as contract
from schemas import wire
from schemas.words import AlarmStatus, Severity

_LONGEST_SNOOZE = timedelta(days=366)
_TIMELINE = TypeAdapter(list[contract.TimelineEntry])
_NAMESPACE = UUID("5b0c5f6e-7c1a-4d0b-9a53-0f4c7f0a8e21")
"""Namespace of the ids of actions that were requested with an Idempotency-Key."""


class AlarmEndpoints:
    """The handlers, by the names of `schemas.alarm_api.ENDPOINTS`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def handlers(self) -> Mapping[str, Handler]:
        """The handlers by endpoint name."""
        actions: dict[str, Handler] = {action: partial(self._act, action) for action in contract.ACTIONS}
        return {
            **actions,
            "list_alarms": self._alarms,
            "alarm_summary": self._summary,
            "read_alarm": self._alarm,
            "read_timeline": self._timeline,
        }

    async def _alarms(self, request: web.Request) -> web.Response:
        query = request.query
        page = parse_number(query, "page", 1, 1_000_000)
        size = parse_number(query, "page_size", contract.PAGE_SIZE, contract.MAX_PAGE_SIZE)
        device = query.get("device_id")
        which = AlarmFilter(
            parse_word(query, "status", [status.value for status in AlarmStatus]),
            parse_word(query, "severity", [severity.value for severity in Severity]),
            f"wayscloud:{device}" if device and ":" not in device else device,
            query.get("rule_id"),
        )
        stored, total = await self._backend.query(self._backend.database.alarms.page, which, page, size)
        alarms = [contract.AlarmListed.model_validate(_fields(each)) for each in stored]
        return json_response(contract.AlarmPage(alarms=alarms, total=total, page=page, page_size=size))

    async def _summary(self, _: web.Request) -> web.Response:
        summary = await self._backend.query(self._backend.database.alarms.summary)
        fields = {
            "by_status": summary.by_status,
            "by_severity": summary.by_severity,
            "active_total": summary.open,
        }
        return json_response(contract.AlarmSummary.model_validate(fields))

    async def _alarm(self, request: web.Request) -> web.Response:
        return json_response(_detail(await self._requested(request)))

    async def _timeline(self, request: web.Request) -> web.Response:
        stored = await self._requested(request)
        events = await self._backend.query(self._backend.database.alarms.timeline, stored.alarm.alarm_id)
        rows = [msgspec.structs.asdict(event) | {"id": event.sequence} for event in events]
        entries = _TIMELINE.validate_python(rows)
        return web.json_response(text=_TIMELINE.dump_json(entries).decode())

    async def _requested(self, request: web.Request) -> StoredAlarm:
        stored = await self._backend.query(self._backend.database.alarms.get, request.match_info["alarm_id"].lower())
        if stored is None:
            raise RequestRefused(404, "not_found", "There is no such alarm")
        return stored

    async def _act(self, name: str, request: web.Request) -> web.Response:
        body = parse_body(
            await read_whole(request, request.client_max_size) or b"{}",
            contract.SnoozeRequest if name == "snooze" else contract.ActionRequest,
        )
        stored = await self._requested(request)
        alarm, alarms = stored.alarm, self._backend.database.alarms
        action_id = _action_id(request, name, alarm.alarm_id)
        if await self._backend.query(alarms.is_done, str(action_id)):
            return json_response(_detail(stored))
        now = datetime.now(UTC)
        until = _snoozed_until(body, now)
        why = refusal(name, alarm.status, alarm.resolved_at, stored.is_latest, now)
        if why is not None:
            raise RequestRefused(409, "conflict", f"Cannot {name}: {why}")
        action = wire.AlarmAction(
            str(action_id), alarm.alarm_id, alarm.device_id, name, request[ACTOR], now, body.note, until
        )
        await self._backend.publisher.act(action)
        done = await self._backend.wait_until(lambda: self._backend.query(alarms.is_done, action.action_id))
        detail = _detail(await self._requested(request))
        if done:
            return json_response(detail)
        pending = f"the action has the id {action.action_id} and waits for the alarm engine"
        return json_response(contract.ActionPending(**detail.model_dump(), pending=pending), 202)


def _fields(stored: StoredAlarm) -> dict[str, Any]:
    return msgspec.structs.asdict(stored.alarm) | {"id": stored.alarm.alarm_id, "created_at": stored.created_at}


def _detail(stored: StoredAlarm) -> contract.AlarmDetail:
    return contract.AlarmDetail.model_validate(_fields(stored))


def _action_id(request: web.Request, name: str, alarm_id: str) -> UUID:
    """The same id for a request repeated with the same Idempotency-Key: the engine carries it out once."""
    key = request.headers.get(contract.IDEMPOTENCY_KEY)
    if key is None:
        return uuid4()
    most = contract.MAX_IDEMPOTENCY_CHARS
    if not 1 <= len(key) <= most or not (key.isascii() and key.isprintable()):
        raise RequestRefused(
            400, "invalid_request", f"{contract.IDEMPOTENCY_KEY}: must be 1 to {most} printable characters"
        )
    return uuid5(_NAMESPACE, "\n".join((request[ACTOR], alarm_id, name, key)))


def _snoozed_until(body: contract.ActionRequest, now: datetime) -> datetime | None:
    if not isinstance(body, contract.SnoozeRequest):
        return None
    if not now < body.until <= now + _LONGEST_SNOOZE:
        message = f"until: must be in the future, by at most {_LONGEST_SNOOZE.days} days"
        raise RequestRefused(400, "invalid_request", message)
    return body.until.astimezone(UTC)
