"""The account's alarms and alarm rules, read by REST."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from connectors.common.clock import utc_now
from connectors.common.context import Context
from connectors.common.dead_letters import MessageSource, dead_letter
from connectors.common.http_client import VendorError
from connectors.common.publishing.outgoing_record import VendorRule
from connectors.common.read_message import ReadMessage
from connectors.common.state_file import StateFile
from connectors.wayscloud import objects
from connectors.wayscloud.api import WayscloudApi
from connectors.wayscloud.datapoints import DatapointDefinitions
from connectors.wayscloud.objects import VENDOR
from schemas.envelope import JSON, message_id
from schemas.json_reading import NotJson
from schemas.redact import redact
from schemas.wire import Problem, encode

_OPEN = ("active", "acknowledged")
_NEVER = float("-inf")
_RULE = "wayscloud.rule"


class AlarmReader:
    """Publishes each alarm whose state changed, with its timeline. What was published is kept over restarts."""

    def __init__(self, context: Context, api: WayscloudApi, history_seconds: float) -> None:
        """Every `history_seconds`, all alarms are read and not only the open ones."""
        self._context = context
        self._api = api
        self._history_seconds = history_seconds
        self._history_read_at = _NEVER
        self._file = StateFile(context.state_dir / "wayscloud-alarms.json")
        self._published: dict[str, list[str]] = {
            name: state for name, state in self._file.read().items() if isinstance(state, list) and len(state) == 2
        }
        """Signature and status of each alarm as it was published last."""

    async def read(self) -> None:
        """Read the open alarms, and those that were open and are no longer listed. VendorError or ValueError.

        An alarm that cannot be read costs no other; its ValueError is raised at the end.
        """
        now = asyncio.get_running_loop().time()
        with_history = now - self._history_read_at >= self._history_seconds
        listed: dict[str, dict[str, Any]] = {}
        for params in [{}] if with_history else [{"status": status} for status in _OPEN]:
            listed |= {str(alarm["id"]): alarm for alarm in await self._api.items("alarms", **params)}
        problem: ValueError | None = None
        try:
            for name in self._due(listed, with_history):
                try:
                    await (self._publish(name) if name in listed else self._publish_unlisted(name))
                except ValueError as error:
                    problem = error
        finally:
            self._file.write(self._published)
        if with_history:
            self._history_read_at = now
        if problem is not None:
            raise problem

    def _due(self, listed: Mapping[str, dict[str, Any]], with_history: bool) -> list[str]:
        """The alarms that may have changed."""
        changed = [
            name
            for name, alarm in listed.items()
            if self._published.get(name, [""])[0] != objects.alarm_signature(alarm)
        ]
        unlisted = [
            name
            for name, (_, status) in self._published.items()
            if name not in listed and (status in _OPEN or with_history)
        ]
        return changed + unlisted

    async def _publish(self, name: str) -> None:
        detail = await self._api.read("alarms", name)
        state = [objects.alarm_signature(detail), str(detail.get("status"))]
        if self._published.get(name) == state:
            return
        timeline = await self._api.get("alarms", name, "timeline")
        now = utc_now()
        try:
            message = ReadMessage([objects.alarm(detail, timeline, now)])
        except ValueError as error:
            problem = Problem(path="", reason="missing", detail=str(error))
            letter = dead_letter(encode(detail), MessageSource(VENDOR, objects.ALARM, now), problem)
            message = ReadMessage(dead_letters=[letter])
        await self._context.settle(VENDOR, message)
        self._published[name] = state

    async def _publish_unlisted(self, name: str) -> None:
        """An alarm that the list does not hold is resolved, or it was deleted and is forgotten."""
        try:
            await self._publish(name)
        except VendorError as error:
            if error.status != 404:
                raise
            del self._published[name]


class RuleReader:
    """Publishes each alarm rule that changed. What was published is kept over restarts."""

    def __init__(self, context: Context, api: WayscloudApi, definitions: DatapointDefinitions) -> None:
        self._context = context
        self._api = api
        self._definitions = definitions
        self._file = StateFile(context.state_dir / "wayscloud-rules.json")
        self._published: dict[str, str] = {str(k): str(v) for k, v in self._file.read().items()}
        """Digest of each rule as it was published last."""
        self._refused: dict[str, str] = {}
        """Why each rule that cannot be read was refused."""

    async def read(self) -> None:
        """Read each rule in full, since the list lacks `config`. VendorError where the API does not answer."""
        names = [str(item["id"]) for item in await self._api.items("rules")]
        try:
            for name in dict.fromkeys([*names, *self._published]):
                try:
                    await self._publish(name, await self._rule(name))
                except NotJson as error:
                    await self._refuse(name, error)
        finally:
            self._file.write(self._published)

    async def withdraw(self) -> None:
        """Publish the deletion of all rules that were published."""
        try:
            for name in list(self._published):
                await self._publish(name, None)
        finally:
            self._file.write(self._published)

    async def _refuse(self, name: str, error: NotJson) -> None:
        """Publish the dead letter of a rule that cannot be read, once; the other rules are read all the same."""
        if self._refused.get(name) == str(error):
            return
        self._refused[name] = str(error)
        problem = Problem(path="", reason=error.reason, detail=f"rule {name}: {error}")
        letter = dead_letter(b"", MessageSource(VENDOR, _RULE, utc_now()), problem)
        await self._context.publisher.dead_letter(letter)

    async def _rule(self, name: str) -> bytes | None:
        """The rule, redacted, for the account's devices; None where it was deleted."""
        try:
            return objects.rule_of_account(redact(await self._api.get("rules", name)))
        except VendorError as error:
            if error.status != 404:
                raise
            return None

    async def _publish(self, name: str, rule: bytes | None) -> None:
        """Publish the rule with the definitions of its datapoints, or its deletion."""
        used = self._definitions.used_in(rule) if rule else {}
        digest = message_id([rule or b"", encode(used)]) if rule is not None else ""
        if self._published.get(name, "") == digest:
            return
        headers = [("content-type", JSON.encode()), ("ce_source", b"wayscloud/rest")]
        headers += [("ce_datapoints", encode(used))] if used else []
        await self._context.publisher.publish_rule(VendorRule(VENDOR, name, rule, headers, utc_now()))
        if rule is None:
            del self._published[name]
        else:
            self._published[name] = digest
