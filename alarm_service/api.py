"""The HTTP endpoints: every one of `schemas.alarm_api.ENDPOINTS`.

Reading answers from the store. What changes something goes to Kafka, and is answered when it has come back from there
into the store; an action that the engine has not carried out in time is answered with 202. Errors are
`{"error","message"}`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ParamSpec, TypeVar
from uuid import UUID, uuid4, uuid5

import msgspec
import pydantic_core
from aiohttp import web
from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from alarm_service.action_publisher import KafkaAway, Publisher
from alarm_service.actions import refusal, request
from alarm_service.settings import AlarmsSettings
from alarm_service.store import AlarmFilter, Store, StoredAlarm
from alarm_service.topic_ingest import STAGE, Feed
from runtime.metrics import LEFT_OUT
from schemas import alarm_api as contract
from schemas.records import AlarmRule
from schemas.rules import RefusedRule, merge_rule, parse_rule
from schemas.words import AlarmStatus, KeyRole, Severity

_log = logging.getLogger(__name__)

_COME_AGAIN_SECONDS = "5"
_LOOK_SECONDS = 0.25
"""Another service may have stored what is waited for; of that there is no news."""
_LONGEST_SNOOZE = timedelta(days=366)
_ACTOR = web.RequestKey("actor", str)
_ROLES = {endpoint.name: endpoint.role for endpoint in contract.ENDPOINTS}
_TIMELINE = TypeAdapter(list[contract.TimelineEntry])

P = ParamSpec("P")
T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.answer = error(status, code, message)


class Api:
    """The endpoints; `further` are handlers that others have, by the endpoint's name."""

    def __init__(
        self,
        settings: AlarmsSettings,
        store: Store,
        feed: Feed,
        publisher: Publisher,
        further: Mapping[str, Handler],
    ) -> None:
        self._settings = settings
        self._further = further
        self._store = store
        self._feed = feed
        self._publisher = publisher
        self._changing = asyncio.Lock()
        self._last_change: tuple[int, int] | None = None
        self._document = contract.openapi()

    def app(self) -> web.Application:
        """The web application."""
        app = web.Application(middlewares=[_errors, self._admit], client_max_size=self._settings.max_body_bytes)
        acts: dict[str, Handler] = {action: partial(self._act, action) for action in contract.ACTIONS}
        handlers: dict[str, Handler] = {
            **acts,
            **self._further,
            "list_alarms": self._alarms,
            "alarm_summary": self._summary,
            "read_alarm": self._alarm,
            "read_timeline": self._timeline,
            "list_rules": self._rules,
            "create_rule": self._create_rule,
            "read_rule": self._rule,
            "update_rule": self._update_rule,
            "delete_rule": self._delete_rule,
            "enable": partial(self._switch_rule, enabled=True),
            "disable": partial(self._switch_rule, enabled=False),
        }
        for endpoint in contract.ENDPOINTS:
            app.router.add_route(endpoint.method, endpoint.path, handlers[endpoint.name], name=endpoint.name)
        app.router.add_get("/openapi.json", self._openapi)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        return app

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Only with a key of a role that may do it; its name is the actor of what is done with it."""
        if not request.path.startswith("/v1/"):
            return await handler(request)
        key = request.headers.get("X-API-Key") or _bearer(request.headers.get("Authorization", ""))
        found = await self._db(self._store.find_key, key) if key else None
        if found is None:
            LEFT_OUT.labels(STAGE, "", "unauthorized").inc()
            raise Refused(401, "unauthorized", "Invalid or missing API key")
        needed = _ROLES.get(request.match_info.route.name or "", KeyRole.READ)
        if not found.role.may(needed):
            LEFT_OUT.labels(STAGE, "", "forbidden").inc()
            raise Refused(403, "forbidden", f"This takes a key of role {needed}; this key may {found.role}")
        request[_ACTOR] = found.name
        return await handler(request)

    async def _db(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask the store, in a thread, so that a slow disk holds up nobody else."""
        return await asyncio.to_thread(call, *args, **kwargs)

    # -- alarms

    async def _alarms(self, request: web.Request) -> web.Response:
        query = request.query
        page = _number(query, "page", 1, 1_000_000)
        size = _number(query, "page_size", contract.PAGE_SIZE, contract.MAX_PAGE_SIZE)
        device = query.get("device_id")
        which = AlarmFilter(
            _word(query, "status", [status.value for status in AlarmStatus]),
            _word(query, "severity", [severity.value for severity in Severity]),
            f"wayscloud:{device}" if device and ":" not in device else device,
            query.get("rule_id"),
        )
        found, total = await self._db(self._store.alarms, which, page, size)
        alarms = [contract.AlarmListed.model_validate(_fields(each)) for each in found]
        return _json(contract.AlarmPage(alarms=alarms, total=total, page=page, page_size=size))

    async def _summary(self, _: web.Request) -> web.Response:
        found = await self._db(self._store.summary)
        fields = {"by_status": found.by_status, "by_severity": found.by_severity, "active_total": found.open}
        return _json(contract.AlarmSummary.model_validate(fields))

    async def _alarm(self, request: web.Request) -> web.Response:
        return _json(_detail(await self._found(request)))

    async def _timeline(self, request: web.Request) -> web.Response:
        found = await self._found(request)
        events = await self._db(self._store.timeline, found.alarm.alarm_id)
        rows = [msgspec.structs.asdict(event) | {"id": event.sequence} for event in events]
        entries = _TIMELINE.validate_python(rows)
        return web.json_response(text=_TIMELINE.dump_json(entries).decode())

    async def _found(self, request: web.Request) -> StoredAlarm:
        found = await self._db(self._store.alarm, request.match_info["alarm_id"].lower())
        if found is None:
            raise Refused(404, "not_found", "There is no such alarm")
        return found

    async def _act(self, action: str, asked: web.Request) -> web.Response:
        taken = _parse(await asked.read() or b"{}", contract.SnoozeRequest if action == "snooze" else _NOTE)
        found = await self._found(asked)
        alarm = found.alarm
        action_id = _action_id(asked, action, alarm.alarm_id)
        if await self._db(self._store.is_done, str(action_id)):
            return _json(_detail(found))
        now = datetime.now(UTC)
        until = _until(taken, now)
        why = refusal(action, alarm.status, alarm.resolved_at, found.is_latest, now)
        if why is not None:
            raise Refused(409, "conflict", f"Cannot {action}: {why}")
        made = request(action_id, action, alarm.alarm_id, alarm.device_id, asked[_ACTOR], now, taken.note, until)
        await self._publisher.act(made)
        done = await self._until(lambda: self._db(self._store.is_done, made.action_id))
        detail = _detail(await self._found(asked))
        if done:
            return _json(detail)
        word = f"the action has the id {made.action_id} and waits for the alarm engine"
        return _json(contract.ActionPending(**detail.model_dump(), pending=word), 202)

    async def _until(self, holds: Callable[[], Awaitable[bool]]) -> bool:
        """Wait until it holds; False where it does not in time."""
        deadline = time.monotonic() + self._settings.action_seconds
        while not await holds():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            await self._feed.wait_for_news(min(left, _LOOK_SECONDS))
        return True

    # -- rules

    async def _rules(self, _: web.Request) -> web.Response:
        found = await self._db(self._store.rules)
        listed = [contract.RuleListed.model_validate(rule.model_dump()) for rule in found]
        return _json(contract.RuleList(rules=listed))

    async def _rule(self, request: web.Request) -> web.Response:
        return _json(_known(await self._db(self._store.rule, request.match_info["rule_id"])))

    async def _create_rule(self, request: web.Request) -> web.Response:
        fields = _object(await request.read())
        now = datetime.now(UTC)
        fields["id"] = fields.get("id") or str(uuid4())
        made = {"source": "api", "created_at": now, "updated_at": now}
        rule = _accepted(parse_rule({**fields, **made}))

        def make(known: AlarmRule | None) -> AlarmRule:
            if known is not None:
                raise Refused(409, "conflict", f"There is a rule {rule.id} already")
            return rule

        return _json(await self._change(rule.id, make), 201)

    async def _update_rule(self, request: web.Request) -> web.Response:
        changes = _object(await request.read())
        for name in ("source", "created_at", "updated_at"):
            changes.pop(name, None)
        return await self._updated(request, changes)

    async def _switch_rule(self, request: web.Request, *, enabled: bool) -> web.Response:
        return await self._updated(request, {"is_enabled": enabled})

    async def _updated(self, request: web.Request, changes: Mapping[str, Any]) -> web.Response:
        ours = {"source": "api", "updated_at": datetime.now(UTC)}

        def make(known: AlarmRule | None) -> AlarmRule:
            return _accepted(merge_rule(_known(known), changes)).model_copy(update=ours)

        return _json(await self._change(request.match_info["rule_id"], make))

    async def _delete_rule(self, request: web.Request) -> web.Response:
        def make(known: AlarmRule | None) -> None:
            _known(known)

        await self._change(request.match_info["rule_id"], make)
        return web.Response(status=204)

    async def _change(self, rule_id: str, make: Callable[[AlarmRule | None], T]) -> T:
        """Write what `make` makes of a rule, one change after the other: each is made of what the last one left."""
        async with self._changing:
            if not await self._until(self._has_last_change):
                raise _unavailable()
            rule = make(await self._db(self._store.rule, rule_id))
            self._last_change = await self._publisher.put_rule(rule_id, rule if isinstance(rule, AlarmRule) else None)
            await self._until(self._has_last_change)
            return rule

    async def _has_last_change(self) -> bool:
        return self._last_change is None or self._feed.has_rule(*self._last_change)

    # -- beside them

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.json_response(self._document)

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        problem = self._feed.problem()
        return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)


_NOTE = contract.ActionRequest
_REQUESTS = UUID("5b0c5f6e-7c1a-4d0b-9a53-0f4c7f0a8e21")
"""Namespace of the ids of actions that were asked for with an Idempotency-Key."""


def error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error: `{"error","message"}`."""
    return web.json_response({"error": code, "message": message}, status=status, headers=headers)


def _unavailable(who: str = "Kafka") -> Refused:
    refused = Refused(503, "unavailable", f"{who} does not answer; try again later")
    refused.answer.headers["Retry-After"] = _COME_AGAIN_SECONDS
    return refused


_CODES = {404: "not_found", 405: "method_not_allowed", 413: "payload_too_large"}


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """All errors in one form, aiohttp's own too; what is away is said so."""
    try:
        return await handler(request)
    except Refused as refused:
        return refused.answer
    except KafkaAway:
        return _unavailable().answer
    except SQLAlchemyError:
        return _unavailable("The database").answer
    except web.HTTPException as refused:
        allowed = {"Allow": refused.headers["Allow"]} if "Allow" in refused.headers else None
        return error(refused.status, _CODES.get(refused.status, "error"), refused.reason, allowed)
    except Exception:
        _log.exception("alarms: %s %s failed", request.method, request.path)
        return error(500, "internal", "This should not have happened; the log says more")


def _bearer(header: str) -> str:
    scheme, _, key = header.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _fields(found: StoredAlarm) -> dict[str, Any]:
    return msgspec.structs.asdict(found.alarm) | {"id": found.alarm.alarm_id, "created_at": found.created_at}


def _detail(found: StoredAlarm) -> contract.AlarmDetail:
    return contract.AlarmDetail.model_validate(_fields(found))


def _json(model: BaseModel, status: int = 200) -> web.Response:
    text = model.model_dump_json(by_alias=True, exclude_none=isinstance(model, AlarmRule))
    return web.json_response(text=text, status=status)


def _known(rule: AlarmRule | None) -> AlarmRule:
    if rule is None:
        raise Refused(404, "not_found", "There is no such rule")
    return rule


def _accepted(rule: AlarmRule | RefusedRule) -> AlarmRule:
    if isinstance(rule, RefusedRule):
        where = f"{rule.field}: " if rule.field else ""
        raise Refused(400, "invalid_request", f"{where}{rule.reason}")
    return rule


B = TypeVar("B", bound=BaseModel)


def _parse(body: bytes, model: type[B]) -> B:
    return checked(lambda: model.model_validate_json(body))


def checked(read: Callable[[], B]) -> B:
    """What was asked for; Refused with the field and the reason where it is not as it must be."""
    try:
        return read()
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused(400, "invalid_request", f"{where}: {first['msg']}" if where else first["msg"]) from wrong


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as wrong:
        raise Refused(400, "invalid_request", f"The body is not JSON: {wrong}") from wrong
    if not isinstance(found, dict):
        raise Refused(400, "invalid_request", "The body must be a JSON object")
    return found


def _action_id(asked: web.Request, action: str, alarm_id: str) -> UUID:
    """The same for a request that is made again with the same Idempotency-Key: the engine carries it out once."""
    key = asked.headers.get(contract.IDEMPOTENCY_KEY)
    if key is None:
        return uuid4()
    most = contract.MAX_IDEMPOTENCY_CHARS
    if not 1 <= len(key) <= most or not (key.isascii() and key.isprintable()):
        raise Refused(400, "invalid_request", f"{contract.IDEMPOTENCY_KEY}: must be 1 to {most} printable characters")
    return uuid5(_REQUESTS, "\n".join((asked[_ACTOR], alarm_id, action, key)))


def _until(taken: contract.ActionRequest, now: datetime) -> datetime | None:
    if not isinstance(taken, contract.SnoozeRequest):
        return None
    if not now < taken.until <= now + _LONGEST_SNOOZE:
        raise Refused(400, "invalid_request", f"until: must lie ahead, by {_LONGEST_SNOOZE.days} days at most")
    return taken.until.astimezone(UTC)


def _number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:12]) <= most):
        raise Refused(400, "invalid_request", f"{name}: must be a number from 1 to {most}")
    return int(text)


def _word(query: Mapping[str, str], name: str, words: list[str]) -> str | None:
    word = query.get(name)
    if word is not None and word not in words:
        raise Refused(400, "invalid_request", f"{name}: must be one of {', '.join(words)}")
    return word
