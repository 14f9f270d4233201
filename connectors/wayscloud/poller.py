"""What WAYSCloud tells by REST, read again and again: registry, definitions, health, alarms, rules."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from connectors.common.context import Context, utc_now
from connectors.common.dead_letters import MessageSource, dead_letter
from connectors.common.decoded import Decoded
from connectors.common.http_client import VendorError
from connectors.common.publishing.outgoing_record import VendorRule
from connectors.common.state_file import StateFile
from connectors.wayscloud import objects
from connectors.wayscloud.cloud import Cloud
from connectors.wayscloud.objects import VENDOR, Datapoint
from connectors.wayscloud.settings import WayscloudSettings
from runtime.backoff import Backoff
from runtime.periodic import PeriodicJob
from schemas.device import device_id
from schemas.envelope import JSON, message_id
from schemas.redact import redact
from schemas.wire import Problem, encode

_log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
_OPEN = ("active", "acknowledged")


class Definitions:
    """The account's datapoint definitions, by name; kept over restarts, since packets come before REST has answered."""

    def __init__(self, file: StateFile) -> None:
        self._file = file
        self.by_name: dict[str, Datapoint] = {}
        for name, fields in file.read().items():
            if isinstance(fields, dict):
                self.by_name[name] = Datapoint(*(str(fields.get(key, "")) for key in ("id", "unit", "type")))

    async def read(self, cloud: Cloud) -> None:
        """Read all of them; each in full, where the list is brief about it."""
        found: dict[str, Datapoint] = {}
        for item in await cloud.items("datapoints"):
            if "unit" not in item or "data_type" not in item:
                item |= await cloud.read("datapoints", str(item["id"]))
            if (named := objects.datapoint(item)) is not None:
                found[named[0]] = named[1]
        if found != self.by_name:
            self.by_name.clear()  # in place: the inbox has it
            self.by_name.update(found)
            self._file.write({name: {"id": d.id, "unit": d.unit, "type": d.type} for name, d in found.items()})


class Poller:
    """Reads the account until cancelled; one that fails stops no other. One log line down, one up, for each list."""

    def __init__(
        self,
        settings: WayscloudSettings,
        context: Context,
        cloud: Cloud,
        definitions: Definitions,
        meet: Callable[[set[str]], None],
    ) -> None:
        self._settings = settings
        self._context = context
        self._cloud = cloud
        self._definitions = definitions
        self._meet = meet
        self._fields: dict[str, dict[str, Any]] = {}
        """All that is known of each device of the registry, by native id."""
        self._read_at: dict[str, float] = {}
        self._told_values: dict[str, dict[str, Any]] = {}
        self._told_devices: dict[str, bytes] = {}
        self._belongs_to: dict[str, dict[str, Any]] = {}
        self._unheard: list[str] = []
        self._history_read_at = -1e9
        self._alarms = StateFile(context.state_dir / "wayscloud-alarms.json")
        self._told_alarms: dict[str, list[str]] = {
            name: told for name, told in self._alarms.read().items() if isinstance(told, list) and len(told) == 2
        }
        """Signature and status of each alarm as told last."""
        self._rules = StateFile(context.state_dir / "wayscloud-rules.json")
        self._told_rules: dict[str, str] = {str(k): str(v) for k, v in self._rules.read().items()}

    async def run(self) -> None:
        """Until cancelled."""
        settings = self._settings
        async with asyncio.TaskGroup() as tasks:
            for what, seconds, work in (
                ("groups and profiles", settings.registry_seconds, self._read_memberships),
                ("devices", settings.registry_seconds, self._read_devices),
                ("devices in full", _TICK_SECONDS, self._read_due_devices),
                ("alarms", settings.alarm_seconds, self._read_alarms),
                ("alarm rules", settings.rule_seconds, self._read_rules),
            ):
                tasks.create_task(repeat(what, seconds, work))

    # -- registry

    async def _read_memberships(self) -> None:
        groups = await self._cloud.items("groups")
        profiles = [p | await self._cloud.read("profiles", str(p["id"])) for p in await self._cloud.items("profiles")]
        settings = self._settings
        self._belongs_to = objects.memberships(groups, profiles, settings.groups, settings.profiles)
        unheard = objects.unheard_topics(profiles, settings.topics)
        if unheard != self._unheard and unheard:
            _log.warning("wayscloud: topics of profiles that no filter of ours covers: %s", ", ".join(unheard))
        self._unheard = unheard
        for native in list(self._fields):
            await self._publish_device(native)

    async def _read_devices(self) -> None:
        items = await self._cloud.items("devices", "device_id")
        for item in items:
            await self._observe(str(item["device_id"]), item)
        self._fields = {native: self._fields[native] for native in (str(item["device_id"]) for item in items)}
        self._meet(set(self._fields))

    async def _read_due_devices(self) -> None:
        """Each device in full, with tags and health, as often as configured; the first problem is raised at the end."""
        now = asyncio.get_running_loop().time()
        due = [d for d in self._fields if now - self._read_at.get(d, -1e9) >= self._settings.device_seconds]
        problem: Exception | None = None
        for native in due:
            try:
                await self._read_device(native)
            except (VendorError, ValueError) as error:
                if not isinstance(error, VendorError) or error.status != 404:  # deleted since it was listed
                    problem = problem or error
            self._read_at[native] = now
        if problem is not None:
            raise problem

    async def _read_device(self, native: str) -> None:
        fields = await self._cloud.read("devices", native)
        if not isinstance(fields.get("tags"), list):
            fields["tags"] = objects.tags(await self._cloud.get("devices", native, "tags"))
        await self._observe(native, fields)
        body = await self._cloud.get("devices", native, "health")
        await self._deliver(Decoded([objects.health(body, device_id(VENDOR, native), utc_now())]))

    async def _observe(self, native: str, fields: dict[str, Any]) -> None:
        """Take in a device object, brief or in full."""
        self._fields[native] = self._fields.get(native, {}) | fields | {"device_id": native}
        await self._publish_device(native)
        told = self._told_values.setdefault(native, {})
        if news := objects.changed_values(fields, told):
            await self._deliver(Decoded([objects.device_values(news, device_id(VENDOR, native), utc_now())]))
            told.update(news)

    async def _publish_device(self, native: str) -> None:
        device = objects.device_record(self._fields[native], self._belongs_to.get(native, {}), utc_now())
        content = encode([device.name, device.model, device.firmware_version, device.attributes])
        if self._told_devices.get(native) != content:
            await self._context.publisher.publish_device(device)
            self._told_devices[native] = content

    # -- alarms

    async def _read_alarms(self) -> None:
        """The open ones, and those that were open and are not listed any more; now and then, all of them."""
        listed: dict[str, dict[str, Any]] = {}
        now = asyncio.get_running_loop().time()
        whole = now - self._history_read_at >= self._settings.alarm_history_seconds
        for params in [{}] if whole else [{"status": status} for status in _OPEN]:
            listed |= {str(alarm["id"]): alarm for alarm in await self._cloud.items("alarms", **params)}
        try:
            for name, alarm in listed.items():
                if self._told_alarms.get(name, [""])[0] != objects.alarm_signature(alarm):
                    await self._tell_alarm(name)
            for name, (_, status) in list(self._told_alarms.items()):
                if name not in listed and (status in _OPEN or whole):
                    await self._tell_vanished(name)
        finally:
            self._alarms.write(self._told_alarms)
        if whole:
            self._history_read_at = now

    async def _tell_alarm(self, name: str) -> None:
        detail = await self._cloud.read("alarms", name)
        told = [objects.alarm_signature(detail), str(detail.get("status"))]
        if self._told_alarms.get(name) == told:
            return
        timeline = await self._cloud.get("alarms", name, "timeline")
        now = utc_now()
        try:
            decoded = Decoded([objects.alarm(detail, timeline, now)])
        except ValueError as error:
            decoded = Decoded(dead_letters=[_refused(objects.ALARM, encode(detail), str(error), now)])
        await self._deliver(decoded)
        self._told_alarms[name] = told

    async def _tell_vanished(self, name: str) -> None:
        """An alarm that the list does not show: resolved, or deleted and to be forgotten."""
        try:
            await self._tell_alarm(name)
        except VendorError as error:
            if error.status != 404:
                raise
            del self._told_alarms[name]

    # -- rules

    async def _read_rules(self) -> None:
        """Each rule in full, for the list lacks `config`; to the alarm engine as it is. A deleted one is deleted."""
        names = [str(item["id"]) for item in await self._cloud.items("rules")]
        try:
            for name in dict.fromkeys([*names, *self._told_rules]):
                try:
                    rule: bytes | None = redact(await self._cloud.get("rules", name))
                except VendorError as error:
                    if error.status != 404:
                        raise
                    rule = None
                await self._tell_rule(name, rule)
        finally:
            self._rules.write(self._told_rules)

    async def _tell_rule(self, name: str, rule: bytes | None) -> None:
        """With the definitions by id, for a rule names its datapoint by id and readings by name."""
        by_id = {d.id: {"name": n, "unit": d.unit, "type": d.type} for n, d in self._definitions.by_name.items()}
        used = {identity: facts for identity, facts in by_id.items() if rule and identity.encode() in rule}
        digest = message_id([rule or b"", encode(used)]) if rule is not None else ""
        if self._told_rules.get(name, "") == digest:
            return
        headers = [("content-type", JSON.encode()), ("ce_source", b"wayscloud/rest")]
        headers += [("ce_datapoints", encode(used))] if used else []
        await self._context.publisher.publish_rule(VendorRule(VENDOR, name, rule, headers, utc_now()))
        if rule is None:
            del self._told_rules[name]
        else:
            self._told_rules[name] = digest

    async def _deliver(self, decoded: Decoded) -> None:
        await asyncio.gather(*await self._context.deliver(VENDOR, decoded))


async def repeat(what: str, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Read repeatedly until cancelled. A failure is logged once and retried with back-off."""

    def backoff() -> Backoff:
        return Backoff(base=2.0, cap=max(30.0, min(seconds, 300.0)))

    await PeriodicJob(f"wayscloud: reading the {what}", seconds, (VendorError, ValueError), backoff).run(work)


def _refused(message_type: str, payload: bytes, detail: str, now: datetime) -> Any:
    source = MessageSource(VENDOR, message_type, now)
    return dead_letter(payload, source, Problem(path="", reason="missing", detail=detail))
