"""The endpoints of alarm rules.

A change goes to the rules topic, and is answered when it has come back from there into the store. Changes are made one
after the other, each from what the previous one left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from aiohttp import web

from alarm_service.api.backend import Backend
from alarm_service.api.requests import Handler, RequestRefused, json_response, parse_object, unavailable
from runtime.http_body import read_whole
from schemas import alarm_api as contract
from schemas.records import AlarmRule
from schemas.rule_fields import unknown_rule_field
from schemas.rules import RefusedRule, merge_rule, parse_rule

R = TypeVar("R", bound=AlarmRule | None)


class RuleEndpoints:
    """The handlers, by the names of `schemas.alarm_api.ENDPOINTS`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._changing = asyncio.Lock()
        self._last_change: tuple[int, int] | None = None

    def handlers(self) -> Mapping[str, Handler]:
        """The handlers by endpoint name."""
        return {
            "list_rules": self._rules,
            "create_rule": self._create,
            "read_rule": self._rule,
            "update_rule": self._update,
            "delete_rule": self._delete,
            "enable": partial(self._switch, enabled=True),
            "disable": partial(self._switch, enabled=False),
        }

    async def _rules(self, _: web.Request) -> web.Response:
        rules = await self._backend.query(self._backend.database.rules.all)
        listed = [contract.RuleListed.model_validate(rule.model_dump()) for rule in rules]
        return json_response(contract.RuleList(rules=listed))

    async def _rule(self, request: web.Request) -> web.Response:
        rule = await self._backend.query(self._backend.database.rules.get, request.match_info["rule_id"])
        return json_response(_existing(rule))

    async def _create(self, request: web.Request) -> web.Response:
        fields = _known_fields(parse_object(await read_whole(request, request.client_max_size)))
        now = datetime.now(UTC)
        fields["id"] = fields.get("id") or str(uuid4())
        rule = _accepted(parse_rule({**fields, "source": "api", "created_at": now, "updated_at": now}))

        def create(current: AlarmRule | None) -> AlarmRule:
            if current is not None:
                raise RequestRefused(409, "conflict", f"There is already a rule {rule.id}")
            return rule

        return json_response(await self._change(rule.id, create), 201)

    async def _update(self, request: web.Request) -> web.Response:
        changes = _known_fields(parse_object(await read_whole(request, request.client_max_size)))
        for name in ("source", "created_at", "updated_at"):
            changes.pop(name, None)
        return await self._merge(request, changes)

    async def _switch(self, request: web.Request, *, enabled: bool) -> web.Response:
        return await self._merge(request, {"is_enabled": enabled})

    async def _merge(self, request: web.Request, changes: Mapping[str, Any]) -> web.Response:
        ours = {"source": "api", "updated_at": datetime.now(UTC)}

        def merge(current: AlarmRule | None) -> AlarmRule:
            return _accepted(merge_rule(_existing(current), changes)).model_copy(update=ours)

        return json_response(await self._change(request.match_info["rule_id"], merge))

    async def _delete(self, request: web.Request) -> web.Response:
        def delete(current: AlarmRule | None) -> None:
            _existing(current)

        await self._change(request.match_info["rule_id"], delete)
        return web.Response(status=204)

    async def _change(self, rule_id: str, change: Callable[[AlarmRule | None], R]) -> R:
        """Publish what `change` makes of the current rule (None deletes it), and wait until it is stored."""
        async with self._changing:
            if not await self._backend.wait_until(self._has_last_change):
                raise unavailable()
            rule = change(await self._backend.query(self._backend.database.rules.get, rule_id))
            self._last_change = await self._backend.publisher.put_rule(rule_id, rule)
            await self._backend.wait_until(self._has_last_change)
            return rule

    async def _has_last_change(self) -> bool:
        return self._last_change is None or self._backend.ingest.has_rule(*self._last_change)


def _existing(rule: AlarmRule | None) -> AlarmRule:
    if rule is None:
        raise RequestRefused(404, "not_found", "There is no such rule")
    return rule


def _known_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields; RequestRefused where one is no field of a rule, since it would have no effect."""
    if (unknown := unknown_rule_field(fields)) is not None:
        name, reason = unknown
        raise RequestRefused(400, "invalid_request", f"{name}: {reason}")
    return fields


def _accepted(rule: AlarmRule | RefusedRule) -> AlarmRule:
    if isinstance(rule, RefusedRule):
        where = f"{rule.field}: " if rule.field else ""
        raise RequestRefused(400, "invalid_request", f"{where}{rule.reason}")
    return rule
