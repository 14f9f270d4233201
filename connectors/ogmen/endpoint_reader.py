"""Reads one endpoint of one robot and publishes what is new in the answer."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from connectors.common.clock import utc_now
from connectors.common.context import Context
from connectors.common.dead_letters import MessageSource
from connectors.common.entrance import problem_of
from connectors.common.http_client import VendorError
from connectors.common.read_message import ReadMessage
from connectors.ogmen import protocol
from connectors.ogmen.account_data import unusable
from connectors.ogmen.cloud import Cloud, loggable
from connectors.ogmen.endpoints import DEVICE, DEVICE_SETTINGS, INSIGHT, PRIVACY, Endpoint
from connectors.ogmen.failing_endpoints import FailingEndpoints
from connectors.ogmen.privacy_events import PrivacyPublisher
from connectors.ogmen.protocol import VENDOR, AnswerError, Entry
from connectors.ogmen.registry import RobotRegistry
from connectors.ogmen.robot import Robot
from connectors.ogmen.seen_log_entries import SeenLogEntries
from connectors.ogmen.settings import OgmenSettings
from schemas.envelope import Envelope
from schemas.wire import Problem

_ALL = -1
"""Asks for all entries."""
_PRIVACY_HINT = "; position and insights are left out unless the device settings report the privacy mode"


@dataclass(frozen=True)
class Answer:
    """The entries of an endpoint, as bytes and as read."""

    raw: list[bytes]
    entries: list[Entry]
    requested: int
    """How many entries were asked for."""
    received_at: datetime


class EndpointReader:
    """Delivery: an entry counts as seen when Kafka has it. Where an answer does not reach back to a seen entry, more
    entries are asked for, as far as the API and `most_log_entries` allow.
    """

    def __init__(
        self,
        settings: OgmenSettings,
        context: Context,
        cloud: Cloud,
        registry: RobotRegistry,
        failing: FailingEndpoints,
    ) -> None:
        self._settings = settings
        self._context = context
        self._cloud = cloud
        self._registry = registry
        self._failing = failing
        self._privacy = PrivacyPublisher(context)

    async def read(self, robot: Robot, endpoint: Endpoint) -> None:
        """Read an endpoint of a robot. A failure is logged, not raised, and stops no other reading."""
        hint = _PRIVACY_HINT if endpoint is PRIVACY else ""
        for path in self._paths(robot, endpoint):
            try:
                await self._read(robot, endpoint, path)
            except (VendorError, ValueError, RecursionError, OverflowError) as error:
                self._failing.failed(endpoint.name, path, loggable(error), hint)
            else:
                self._failing.succeeded(endpoint.name, path)

    def _paths(self, robot: Robot, endpoint: Endpoint) -> list[str]:
        """Where to read an endpoint of a robot: nowhere, at one path, or at one path per dog."""
        template = getattr(self._settings, endpoint.path_setting)
        if not template or (endpoint.private and robot.gate.hides()):
            return []
        if endpoint is not INSIGHT:
            return [protocol.fill(template, device_id=robot.native_id)]
        dogs = [dog for dog, native_id in self._settings.dogs.items() if native_id == robot.native_id]
        return [protocol.fill(template, dog_id=dog) for dog in dogs]

    async def _read(self, robot: Robot, endpoint: Endpoint, path: str) -> None:
        seen = robot.seen_of(path if endpoint is INSIGHT else endpoint.name)
        answer = await self._request(robot, endpoint, path, seen)
        if endpoint is PRIVACY:
            await self._privacy.publish(robot, answer.raw, answer.received_at)
            return
        if endpoint is DEVICE:
            await self._registry.publish(robot, answer.raw, answer.received_at)
        if endpoint is DEVICE_SETTINGS and robot.gate.on is None:
            robot.observe_privacy(answer.raw, answer.received_at)  # where the privacy mode itself cannot be read
        horizon = seen.oldest if answer.requested != self._settings.log_entries else None
        await self._publish_new(endpoint, answer.entries, seen.versions, horizon)
        versions = [(version, e.time) for e in answer.entries for version in (e.version, e.stable) if version]
        seen.add(versions, 4 * max(len(answer.entries), self._settings.log_entries))

    async def _request(self, robot: Robot, endpoint: Endpoint, path: str, seen: SeenLogEntries) -> Answer:
        """Ask for more and more entries until the answer reaches back to a seen one. VendorError, AnswerError."""
        requested = self._settings.log_entries
        while True:
            params = {endpoint.count: str(requested)} if endpoint.count else {}
            body = await self._cloud.get(path, endpoint.name, params)
            received_at = utc_now()
            try:
                raw = protocol.entries(body)
            except AnswerError as error:
                source = MessageSource(VENDOR, endpoint.type, received_at, robot.device)
                await self._refuse(robot, endpoint, body, source, error)
                raise
            robot.unusable.pop(endpoint.name, None)
            entries = [_entry(endpoint, e, robot, received_at) for e in raw]
            more = self._more(endpoint, requested)
            has_gap = seen.versions and len(entries) >= requested > 0 and not _overlaps(entries, seen.versions)
            if not (has_gap and more):
                return Answer(raw, entries, requested, received_at)
            requested = more

    def _more(self, endpoint: Endpoint, requested: int) -> int:
        """How many entries to ask for after `requested`; 0 where there is no way to get more."""
        if requested == _ALL or not endpoint.count:
            return 0
        if endpoint is INSIGHT:
            return _ALL  # Ogmen's API document: «-1 for all the insights of that specific dog_id»
        most = self._settings.most_log_entries
        return min(4 * requested, most) if requested < most else 0

    async def _publish_new(
        self, endpoint: Endpoint, entries: list[Entry], seen: Mapping[str, str], horizon: datetime | None
    ) -> None:
        """Publish the entries that are new or changed, oldest first, and wait until Kafka has them.

        Entries before `horizon` are older than every seen one: they were published once and forgotten since.
        """
        waiting: list[asyncio.Future[None]] = []
        known = set(seen)
        for entry in sorted(entries, key=lambda e: e.time.timestamp() if e.time else 0.0):
            beyond = horizon is not None and entry.time is not None and entry.time < horizon
            if entry.version and (entry.version in known or beyond):
                continue
            message = entry.message
            if entry.stable in known and endpoint.bookkeeping:
                message = ReadMessage([_marked(e, endpoint) for e in message.envelopes])
            known |= {entry.version, entry.stable} - {""}
            waiting += await self._context.deliver(VENDOR, message)
        await asyncio.gather(*waiting)

    async def _refuse(
        self, robot: Robot, endpoint: Endpoint, body: bytes, source: MessageSource, error: AnswerError
    ) -> None:
        """Publish the dead letter of an answer that cannot be used: once, not with each reading."""
        digest = hashlib.sha256(body).hexdigest()
        if robot.unusable.get(endpoint.name) == digest:
            return
        problem = Problem(path="", reason="bad_answer", detail=str(error))
        letter = unusable(body, source, problem, hidden=robot.gate.hides())
        await asyncio.gather(*await self._context.deliver(VENDOR, ReadMessage(dead_letters=[letter])))
        robot.unusable[endpoint.name] = digest


def _entry(endpoint: Endpoint, entry: bytes, robot: Robot, received_at: datetime) -> Entry:
    """An entry of an answer; one that cannot be read costs no other."""
    try:
        return protocol.read_entry(endpoint, entry, robot.device, received_at, robot.gate)
    except Exception as error:
        source = MessageSource(VENDOR, endpoint.type, received_at, robot.device)
        letter = unusable(entry, source, problem_of(error, endpoint.type), hidden=robot.gate.hides())
        return Entry(ReadMessage(dead_letters=[letter]))


def _overlaps(entries: list[Entry], seen: Mapping[str, str]) -> bool:
    """Whether an answer contains a seen entry: then no entry lies between this answer and the one before."""
    return any(version in seen for entry in entries for version in (entry.version, entry.stable) if version)


def _marked(envelope: Envelope, endpoint: Endpoint) -> Envelope:
    """The new version of an entry of which only the book-keeping changed: its readings were published before."""
    changed = ",".join(sorted(endpoint.bookkeeping))
    return replace(envelope, attributes={**envelope.attributes, "changed": changed})
