"""What Ogmen's REST API tells: states, logs and the registry, read again and again."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

from connectors.common.connection_state import Gap
from connectors.common.context import Context, count_in, utc_now
from connectors.common.dead_letters import MessageSource
from connectors.common.decoded import Decoded
from connectors.common.http_client import RestClient, VendorError
from connectors.ogmen import protocol
from connectors.ogmen.account import unusable
from connectors.ogmen.endpoints import (
    BATTERY,
    DEVICE,
    DEVICE_SETTINGS,
    INSIGHT,
    LOGS,
    PRIVACY,
    SLOW_STATES,
    Endpoint,
)
from connectors.ogmen.protocol import VENDOR, AnswerError, Entry
from connectors.ogmen.robot import Robot
from connectors.ogmen.settings import OgmenSettings
from runtime.metrics import GAPS
from schemas.envelope import Envelope, message_id
from schemas.wire import Problem, encode

_log = logging.getLogger(__name__)

_SUSPECTED = 3
"""So many requests in a row without an answer make an outage."""


@dataclass
class Outage:
    """Whether the API answers at all. One log line when it stops, one when it answers again; then there is a gap."""

    host: str
    down: bool = False
    _failures: int = 0
    _since: datetime | None = None
    _reason: str = ""

    def failed(self, now: datetime, reason: str) -> None:
        """A request had no answer, or one that only a broken server gives."""
        self._failures += 1
        self._since = self._since or now
        if self._failures >= _SUSPECTED and not self.down:
            self.down = True
            self._reason = reason
            _log.warning("ogmen: the API at %s does not answer (%s); trying again", self.host, reason)

    def answered(self, now: datetime) -> Gap | None:
        """A request was answered; the gap, where there was an outage."""
        gap = None
        if self.down and self._since is not None:
            _log.info("ogmen: the API at %s answers again", self.host)
            GAPS.labels(VENDOR).inc()
            gap = Gap(VENDOR, "rest", self._since, now, self._reason)
        self.down, self._failures, self._since = False, 0, None
        return gap


@dataclass
class Troubles:
    """Which endpoints cannot be used for which robots: one log line when the first goes, one when none is left."""

    _robots: dict[str, set[str]] = field(default_factory=dict)

    def note(self, endpoint: str, robot: str, problem: str | None, hint: str = "") -> None:
        """The outcome of one reading: None where it went well."""
        robots = self._robots.setdefault(endpoint, set())
        before = bool(robots)
        if problem is None:
            robots.discard(robot)
        else:
            robots.add(robot)
        if robots and not before:
            _log.warning("ogmen: cannot read %s (%s); trying again%s", endpoint, problem, hint)
        elif before and not robots:
            _log.info("ogmen: reading %s again", endpoint)


class RestPoller:
    """Reads every robot's states and logs until cancelled.

    Delivery: an entry counts as told when Kafka has it, and is remembered over restarts (`<data>/state/ogmen`).
    Where an answer does not reach back to what was told, more is asked for. A reading that fails stops no other; while
    the API does not answer at all, it is probed with single requests.
    """

    def __init__(
        self,
        settings: OgmenSettings,
        context: Context,
        rest: RestClient,
        robots: Mapping[str, Robot],
        found: Callable[[str, set[str]], None],
    ) -> None:
        self._settings = settings
        self._context = context
        self._rest = rest
        self._robots = robots
        self._found = found
        """Told which robots an account has."""
        self._requests = asyncio.Semaphore(settings.concurrent_requests)
        self._troubles = Troubles()
        self._outage = Outage(urlsplit(settings.api_url).hostname or "")
        self._locks: dict[str, asyncio.Lock] = {}
        self._resync: set[str] = set()
        self._resync_wanted = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        settings = self._settings
        logs, slow = (*LOGS, INSIGHT), SLOW_STATES
        async with asyncio.TaskGroup() as tasks:
            if settings.accounts:
                tasks.create_task(self._repeat(settings.account_seconds, self._read_accounts))
            tasks.create_task(self._repeat(settings.state_seconds, lambda: self._read_all((PRIVACY, BATTERY))))
            tasks.create_task(self._repeat(settings.log_seconds, lambda: self._read_all(logs)))
            tasks.create_task(self._repeat(settings.slow_seconds, lambda: self._read_all(slow)))
            tasks.create_task(self._resynchronise())

    def resynchronise(self, native_id: str) -> None:
        """The robot's socket was away: read its states at once, without waiting for their turn."""
        self._resync.add(native_id)
        self._resync_wanted.set()

    async def read_privacy(self, robot: Robot) -> None:
        """Before the first position of a robot is taken."""
        await self._read_robot(robot, (PRIVACY,))

    async def _repeat(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """Again and again, `seconds` from one beginning to the next."""
        while True:
            started = time.monotonic()
            await work()
            due = started + seconds * (0.95 + random.random() / 10)
            await asyncio.sleep(max(0.05 * seconds, due - time.monotonic()))

    async def _resynchronise(self) -> None:
        while True:
            await self._resync_wanted.wait()
            self._resync_wanted.clear()
            wanted, self._resync = self._resync, set()
            await self._for_each([self._robots[n] for n in wanted if n in self._robots], (PRIVACY, BATTERY, *LOGS))

    async def _read_all(self, endpoints: Iterable[Endpoint]) -> None:
        await self._for_each(list(self._robots.values()), tuple(endpoints))

    async def _for_each(self, robots: list[Robot], endpoints: tuple[Endpoint, ...]) -> None:
        if self._outage.down and robots:
            await self._read_robot(random.choice(robots), endpoints[:1], probing=True)
        await asyncio.gather(*(self._read_robot(robot, endpoints) for robot in robots))

    async def _read_robot(self, robot: Robot, endpoints: tuple[Endpoint, ...], probing: bool = False) -> None:
        """Read one robot's endpoints in turn. Two readings of a robot never overlap, or both would tell the same."""
        lock = self._locks.setdefault(robot.native_id, asyncio.Lock())
        async with lock, self._requests:
            if robot.gate.on is None and PRIVACY not in endpoints:
                endpoints = (PRIVACY, *endpoints)
            for endpoint in endpoints:
                if self._outage.down and not probing:
                    break
                await self._try(robot, endpoint)
            await robot.save()

    async def _try(self, robot: Robot, endpoint: Endpoint) -> None:
        hint = "; position and insights are left out unless the device settings tell it" if endpoint is PRIVACY else ""
        for path in self._paths(robot, endpoint):
            try:
                await self._read(robot, endpoint, path)
            except (VendorError, ValueError) as error:
                self._troubles.note(endpoint.name, path, said(error), hint)
            else:
                self._troubles.note(endpoint.name, path, None)

    def _paths(self, robot: Robot, endpoint: Endpoint) -> list[str]:
        """Where to read an endpoint of a robot: nowhere, once, or once a dog."""
        template = getattr(self._settings, endpoint.path_setting)
        if not template or (endpoint.private and robot.gate.hides()):
            return []
        if endpoint is not INSIGHT:
            return [protocol.fill(template, device_id=robot.native_id)]
        dogs = [dog for dog, native_id in self._settings.dogs.items() if native_id == robot.native_id]
        return [protocol.fill(template, dog_id=dog) for dog in dogs]

    async def _get(self, path: str, endpoint: str, params: dict[str, str] | None = None) -> bytes:
        try:
            body = await self._rest.get(path, params, endpoint=endpoint)
        except VendorError as error:
            if error.status is None or error.status >= 500:
                self._outage.failed(utc_now(), said(error))
            else:
                await self._answered()
            raise
        await self._answered()
        return body

    async def _answered(self) -> None:
        gap = self._outage.answered(utc_now())
        if gap is not None:
            await self._context.publisher.publish_all([gap.envelope(robot.device) for robot in self._robots.values()])

    # states and logs

    async def _read(self, robot: Robot, endpoint: Endpoint, path: str) -> None:
        """Read until the answer reaches back to what has been told; then tell what is new or has changed."""
        told = robot.told_of(path if endpoint is INSIGHT else endpoint.name)
        asked = self._settings.log_entries
        while True:
            params = {endpoint.count: str(asked)} if endpoint.count else {}
            body = await self._get(path, endpoint.name, params)
            received_at = utc_now()
            try:
                found = protocol.entries(body)
            except AnswerError as error:
                await self._refuse(robot, endpoint, body, error, received_at)
                raise
            robot.unusable.pop(endpoint.name, None)
            entries = [protocol.read_entry(endpoint, e, robot.device, received_at, robot.gate) for e in found]
            more = self._more(endpoint, asked)
            if not (told.versions and len(entries) >= asked > 0 and more and not _overlaps(entries, told.versions)):
                break
            asked = more
        if endpoint is PRIVACY:
            await self._tell_privacy(robot, found, received_at)
            return
        if endpoint is DEVICE:
            await self._register(robot, found, received_at)
        if endpoint is DEVICE_SETTINGS and robot.gate.on is None:
            self._observe(robot, found, received_at)  # better than nothing, where the privacy mode cannot be read
        horizon = told.oldest if asked != self._settings.log_entries else None
        await self._tell(robot, endpoint, entries, told.versions, horizon)
        versions = [(v, e.time) for e in entries for v in (e.version, e.stable) if v]
        told.remember(versions, 4 * max(len(entries), self._settings.log_entries))

    def _more(self, endpoint: Endpoint, asked: int) -> int:
        """How many entries to ask for next; 0 where that was all there is to ask for."""
        if asked == -1 or not endpoint.count:
            return 0
        if endpoint is INSIGHT:
            return -1  # ogmen.txt: «-1 for all the insights of that specific dog_id»
        return min(4 * asked, self._settings.most_log_entries) if asked < self._settings.most_log_entries else 0

    async def _tell(
        self,
        robot: Robot,
        endpoint: Endpoint,
        entries: list[Entry],
        told: Mapping[str, str],
        horizon: datetime | None,
    ) -> None:
        """Publish what is new, the oldest first, and wait until Kafka has it."""
        waiting: list[asyncio.Future[None]] = []
        known = set(told)
        for entry in sorted(entries, key=lambda e: e.time.timestamp() if e.time else 0.0):
            beyond = horizon is not None and entry.time is not None and entry.time < horizon
            if entry.version and (entry.version in known or beyond):
                continue
            decoded = entry.decoded
            if entry.stable in known and endpoint.bookkeeping:
                decoded = Decoded([_marked(e, endpoint) for e in decoded.envelopes])
            known |= {entry.version, entry.stable} - {""}
            waiting += await self._publish(decoded)
        await asyncio.gather(*waiting)

    async def _publish(self, decoded: Decoded) -> list[asyncio.Future[None]]:
        count_in(VENDOR, decoded)
        publisher = self._context.publisher
        return [
            *[await publisher.publish_soon(e) for e in decoded.envelopes],
            *[await publisher.dead_letter_soon(d) for d in decoded.dead_letters],
        ]

    async def _refuse(
        self, robot: Robot, endpoint: Endpoint, body: bytes, error: AnswerError, received_at: datetime
    ) -> None:
        """An answer that cannot be used is a dead letter once, not with each reading."""
        digest = hashlib.sha256(body).hexdigest()
        if robot.unusable.get(endpoint.name) == digest:
            return
        source = MessageSource(VENDOR, endpoint.type, received_at, robot.device)
        problem = Problem(path="", reason="bad_answer", detail=str(error))
        letter = unusable(body, source, problem, hidden=robot.gate.hides())
        await asyncio.gather(*await self._publish(Decoded(dead_letters=[letter])))
        robot.unusable[endpoint.name] = digest

    # privacy mode and registry

    async def _tell_privacy(self, robot: Robot, found: list[bytes], received_at: datetime) -> None:
        """Heed the privacy mode at once, and tell it whenever it changes.

        Its answer has neither id nor time: what makes a change one is the state before it, so that «on» after «off» is
        never taken for a repeat, and telling the same change again after a crash is.
        """
        if not self._observe(robot, found, received_at):
            raise AnswerError("the answer does not say whether the privacy mode is on")
        for body in found:
            for envelope in protocol.read_entry(PRIVACY, body, robot.device, received_at, robot.gate).decoded.envelopes:
                content = message_id([envelope.data])
                last_content, _, before = robot.privacy_version.partition(":")
                if content == last_content:
                    continue
                version = message_id([PRIVACY.type, robot.device, before, envelope.data])
                changed = Envelope(
                    version, envelope.type, envelope.source, envelope.device_id, received_at, envelope.data
                )
                await asyncio.gather(*await self._publish(Decoded([changed])))
                robot.privacy_version = f"{content}:{version}"

    def _observe(self, robot: Robot, found: list[bytes], now: datetime) -> bool:
        for body in found:
            status = protocol.privacy_status(body)
            if status is not None:
                robot.gate.observe(status.enabled, now, status.enabled_at, status.disabled_at)
                return True
        return False

    async def _register(self, robot: Robot, found: list[bytes], received_at: datetime) -> None:
        for body in found:
            device = protocol.device_record(body, robot.native_id, received_at)
            content = encode([device.model, device.serial_number, device.firmware_version, device.attributes])
            if robot.registered != content:
                await self._context.publisher.publish_device(device)
                robot.registered = content

    async def _read_accounts(self) -> None:
        for number, account in enumerate(self._settings.accounts):
            name = f"account {number + 1}"  # its id is not for the log
            try:
                path = protocol.fill(self._settings.account_devices_path, account_id=account)
                found = protocol.entries(await self._get(path, "account_devices"))
            except (VendorError, ValueError) as error:
                self._troubles.note("account_devices", name, said(error))
                continue
            self._troubles.note("account_devices", name, None)
            entries = {n: body for body in found if (n := protocol.native_id_of(body)) is not None}
            self._found(account, set(entries))
            for native_id, body in entries.items():
                if native_id in self._robots:
                    await self._register(self._robots[native_id], [body], utc_now())


def said(error: VendorError | ValueError) -> str:
    """What may be logged: our own words, and of the vendor's answer the status only."""
    if isinstance(error, VendorError):
        return f"HTTP {error.status}" if error.status else "no answer"
    return str(error)


def _overlaps(entries: list[Entry], told: Mapping[str, str]) -> bool:
    """Whether an answer holds anything that has been told: then nothing lies between."""
    return any(version in told for entry in entries for version in (entry.version, entry.stable) if version)


def _marked(envelope: Envelope, endpoint: Endpoint) -> Envelope:
    """The new version of an entry of which only the book-keeping changed: its readings were told before."""
    changed = ",".join(sorted(endpoint.bookkeeping))
    return Envelope(
        envelope.id,
        envelope.type,
        envelope.source,
        envelope.device_id,
        envelope.received_at,
        envelope.data,
        envelope.time,
        envelope.content_type,
        {**envelope.attributes, "changed": changed},
    )
