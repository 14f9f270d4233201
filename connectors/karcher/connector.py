"""Kärcher's cloud: registry, one WebSocket a robotic machine, statuses, reports, notifications, commands by REST."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

import aiohttp

from connectors.common.connection_state import ConnectionState, Gap
from connectors.common.context import Context, count_in, utc_now
from connectors.common.dead_letters import MessageSource, dead_letter
from connectors.common.decoded import Decoded
from connectors.common.device_ownership import DeviceTasks
from connectors.common.http_client import VendorError
from connectors.common.rate_limits import FloodGuard
from connectors.common.state_file import StateFile
from connectors.common.websocket import WebSocketFeed
from connectors.karcher import protocol
from connectors.karcher.cloud import open_cloud
from connectors.karcher.commands import CommandReader
from connectors.karcher.history import History
from connectors.karcher.protocol import VENDOR, AnswerError, Machine, Page
from connectors.karcher.settings import KarcherSettings
from runtime.backoff import Backoff
from runtime.periodic import PeriodicJob
from schemas.timestamps import format_iso
from schemas.wire import Problem, encode

_log = logging.getLogger(__name__)

_REFUSED_TOKEN_SECONDS = 600.0
"""A token that a socket answered with 403 is renewed no sooner than this: it lacks the scope, most likely."""

Read = Callable[[bytes, dict[str, str], datetime], Decoded]


class KarcherConnector:
    """Keeps the registry, the sockets and the polls of one account going until cancelled.

    Delivery: sockets have no replay; an outage leaves a gap record and the machine's status is read again at once.
    Reports, notifications and commands are remembered over restarts (`state_dir`), and read with overlap, so that none
    is missed and none told twice.

    Where several processes run, each reads the sockets, statuses and command histories of its own machines. All
    of them read the registry; the leader reads the lists of the whole account.
    """

    def __init__(self, settings: KarcherSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._ownership = context.ownership
        self._machines: dict[str, Machine] = {}
        self._devices: dict[str, str] = {}
        self._published: dict[str, bytes] = {}
        self._handshakes = asyncio.Semaphore(settings.concurrent_handshakes)
        self._invalid: set[str] = set()
        self._resync: set[str] = set()
        self._resync_wanted = asyncio.Event()
        self._registry_read = asyncio.Event()
        self._said_forbidden = False

    async def run(self) -> None:
        """Until cancelled; raises only on a defect."""
        self._context.health.ready.append(self._problem)
        timeout = aiohttp.ClientTimeout(total=self._settings.request_timeout_seconds)
        async with aiohttp.ClientSession(timeout=timeout) as http, asyncio.TaskGroup() as tasks:
            self._cloud = open_cloud(self._settings, http, self._context.state_dir)
            self._commands = CommandReader(self._cloud, self._context.state_dir, self._publish)
            self._sockets = DeviceTasks(tasks)
            every = self._settings
            for what, seconds, work in (
                ("registry", every.registry_seconds, self._read_registry),
                ("statuses", every.status_seconds, self._read_statuses),
                ("cleaning reports", every.history_seconds, self._read_reports),
                ("notifications", every.history_seconds, self._read_notifications),
                ("command executions", every.commands_seconds, self._read_commands),
            ):
                if seconds:
                    tasks.create_task(self._repeat(what, seconds, work))
            tasks.create_task(self._follow_share())
            tasks.create_task(self._resynchronise())

    def _problem(self) -> str | None:
        return None if self._registry_read.is_set() else "karcher: the registry has not been read yet"

    async def _repeat(self, what: str, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """Read repeatedly, and (but for the registry) at once when the ownership changes.

        A failure is logged once and retried with back-off; what is forbidden (403) is retried later.
        """
        version = self._ownership.version

        def backoff() -> Backoff:
            return Backoff(base=2.0, cap=max(60.0, min(seconds, 300.0)))

        def least_pause(error: Exception) -> float:
            forbidden = isinstance(error, VendorError) and error.status == 403
            return self._settings.registry_seconds if forbidden else 0.0

        async def wait(pause: float) -> None:
            nonlocal version
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ownership.changed(version)
            version = self._ownership.version

        job = PeriodicJob(f"karcher: reading the {what}", seconds, (VendorError, AnswerError), backoff, least_pause)
        await job.run(work, asyncio.sleep if what == "registry" else wait)

    # The registry, and the sockets of the machines in it that are ours.

    async def _read_registry(self) -> None:
        pages = self._cloud.pages(self._settings.specifications_path, {}, "specifications")
        items = [item async for page in pages for item in page.items]
        machines = {m.machine_id: m for item in items if (m := await self._machine(item)) is not None}
        gone = [machine for machine_id, machine in self._machines.items() if machine_id not in machines]
        self._machines = machines
        self._devices = {machine_id: m.device_id for machine_id, m in machines.items()}
        self._invalid.clear()  # ask again for those the cloud did not know
        self._registry_read.set()
        self._reconcile_sockets()
        await self._publish_devices(gone)

    async def _machine(self, item: bytes) -> Machine | None:
        now = utc_now()
        try:
            return protocol.read_machine(item, now)
        except AnswerError as error:
            source = MessageSource(VENDOR, "karcher.machine", now)
            letter = dead_letter(item, source, Problem(path="", reason="missing", detail=str(error)))
            if self._ownership.is_leader:
                await self._context.publisher.dead_letter_soon(letter)
            return None

    async def _follow_share(self) -> None:
        await self._registry_read.wait()
        while True:
            version = self._ownership.version
            self._reconcile_sockets()
            await self._publish_devices([])
            await self._ownership.changed(version)

    async def _publish_devices(self, gone: Iterable[Machine]) -> None:
        """Tell of our machines that are new or changed, and of those that the registry has no more."""
        ours = self._ours()
        here = {machine.device_id for machine in ours}
        waiting = []
        for machine in ours:
            device = machine.device
            content = encode([device.name, device.model, device.attributes])
            if self._published.get(device.device_id) != content:
                self._published[device.device_id] = content
                waiting.append(self._context.publisher.publish_device(device))
        for machine in gone:
            if machine.device_id not in here and self._ownership.owns(machine.device_id):
                self._published.pop(machine.device_id, None)
                waiting.append(self._context.publisher.publish_device(protocol.unregistered(machine, utc_now())))
        await asyncio.gather(*waiting)

    def _ours(self) -> list[Machine]:
        return [machine for machine in self._machines.values() if self._ownership.owns(machine.device_id)]

    def _reconcile_sockets(self) -> None:
        """Hold the sockets of our robotic machines, and no other. Where another process, or the one before us, held
        them, the time since then is a gap.
        """
        if not self._registry_read.is_set():
            return
        ours = self._ours()
        interrupted = self._ownership.take_lapsed()
        since = {m.device_id: interrupted.get(self._ownership.partition(m.device_id)) for m in ours}
        self._sockets.keep(
            {
                machine.device_id: partial(self._listen, machine, since[machine.device_id])
                for machine in ours
                if self._settings.is_robotic(machine.material_number)
            }
        )

    async def _listen(self, machine: Machine, since: datetime | None) -> None:
        """A machine's socket. One that the cloud refuses for good (400, 403, 404) is tried again as seldom as the
        registry is read.
        """
        link = ConnectionState(VENDOR, "websocket", machine.device_id)
        if since is not None:
            link.interrupted(since, "held by no process, or handed over")
        token = ""

        async def url() -> str:
            nonlocal token
            token = await self._token(link)
            return protocol.socket_url(self._settings.urls[2], machine.material_number, machine.serial_number, token)

        async def on_status(status: int) -> None:
            if status == 401:
                self._cloud.tokens.refused(token)
            if status == 403:
                self._note_forbidden()
                self._cloud.tokens.refused(token, after=_REFUSED_TOKEN_SECONDS)
            if status in (400, 403, 404):
                await asyncio.sleep(self._settings.registry_seconds * (0.5 + random.random()))

        sequence = 0

        async def on_message(payload: bytes) -> None:
            nonlocal sequence
            sequence += 1
            await self._forward(protocol.socket_message(payload, machine.device_id, utc_now(), sequence))

        rate = self._settings.messages_per_second
        feed = WebSocketFeed(
            link,
            url,
            on_message,
            partial(self._on_gap, machine),
            on_status,
            self._handshakes,
            flood=FloodGuard(machine.device_id, rate, burst=10 * rate),
        )
        await feed.run()

    def _note_forbidden(self) -> None:
        if not self._said_forbidden:
            _log.warning(
                "karcher: sockets are forbidden (403): the scope external-api/websocket:connect is needed; "
                "going on with REST"
            )
        self._said_forbidden = True

    async def _token(self, link: ConnectionState) -> str:
        backoff = Backoff(base=2.0, cap=300.0)
        while True:
            try:
                return await self._cloud.tokens.token()
            except VendorError as error:
                link.lost(utc_now(), str(error))
                await asyncio.sleep(backoff.next(random.random()))

    async def _on_gap(self, machine: Machine, gap: Gap) -> None:
        await self._context.publisher.publish_soon(gap.envelope(machine.device_id))
        self._resync.add(machine.machine_id)
        self._resync_wanted.set()

    # Statuses

    async def _read_statuses(self) -> None:
        await self._registry_read.wait()
        await self._poll([m.machine_id for m in self._ours() if m.machine_id not in self._invalid])

    async def _resynchronise(self) -> None:
        """After a gap the status is read at once; machines that came back together share requests."""
        while True:
            await self._resync_wanted.wait()
            self._resync_wanted.clear()
            wanted, self._resync = self._resync, set()
            try:
                await self._poll([machine for machine in wanted if machine in self._machines])
            except (VendorError, AnswerError):
                _log.debug("karcher: resynchronising failed; the regular reading will do it")

    async def _poll(self, machine_ids: list[str]) -> None:
        for some in protocol.chunks(machine_ids):
            for page in await self._statuses(some):
                for machine_id, message in page.errors:
                    self._note_invalid(machine_id, message)
                for item in page.items:
                    await self._forward(protocol.status(item, self._devices, utc_now()))

    async def _statuses(self, machine_ids: list[str]) -> list[Page]:
        """A request that is refused as a whole (400) because of one machine is asked again for each of them."""
        try:
            return [await self._cloud.statuses(machine_ids)]
        except VendorError as error:
            if error.status != 400:
                raise
            if len(machine_ids) > 1:
                return [page for one in machine_ids for page in await self._statuses([one])]
            self._note_invalid(machine_ids[0], str(error))
            return []

    def _note_invalid(self, machine_id: str, message: str) -> None:
        if machine_id not in self._invalid:
            _log.info("karcher: no status of %s (%s)", self._devices.get(machine_id, machine_id), message)
        self._invalid.add(machine_id)

    # Lists of the whole account, and commands of each machine

    async def _read_reports(self) -> None:
        """The window goes from where the last reading ended, with an overlap, to now."""

        def pages(since: datetime, now: datetime) -> AsyncIterator[Page]:
            window = {"startDate": format_iso(since), "endDate": format_iso(now), "sort": "asc"}
            return self._cloud.pages(self._settings.reports_path, window, "cleaning-reports")

        await self._read_list("reports", pages, protocol.cleaning_report)

    async def _read_notifications(self) -> None:
        """There is no window: newest first, down to where the last reading began, less an overlap."""

        async def pages(since: datetime, _: datetime) -> AsyncIterator[Page]:
            async for page in self._cloud.pages(self._settings.notifications_path, {"sort": "desc"}, "notifications"):
                yield page
                if any((at := protocol.received_time(item)) is not None and at < since for item in page.items):
                    return

        await self._read_list("notifications", pages, protocol.notification)

    async def _read_list(
        self, name: str, pages: Callable[[datetime, datetime], AsyncIterator[Page]], read: Read
    ) -> None:
        """Publish what is new in a list; it is remembered when Kafka has all of it."""
        await self._registry_read.wait()
        if not self._ownership.is_leader:
            return
        now = utc_now()
        file = StateFile(self._context.state_dir / f"karcher-{name}.json")
        history = History.load(file.read(), timedelta(days=self._settings.first_history_days))
        waiting: list[asyncio.Future[None]] = []
        told: list[tuple[str, datetime]] = []
        async for page in pages(history.since(now), now):
            for item in page.items:
                decoded = read(item, self._devices, now)
                decoded.envelopes = [e for e in decoded.envelopes if history.is_new(e.id)]
                decoded.dead_letters = [d for d in decoded.dead_letters if history.is_new(d.payload_sha256)]
                waiting += await self._publish(decoded)
                told += [(e.id, max(e.time or now, now)) for e in decoded.envelopes]
                told += [(d.payload_sha256, now) for d in decoded.dead_letters]
        await asyncio.gather(*waiting)
        for key, at in told:
            history.tell(key, at)
        history.read(now)
        file.write(history.dump())

    async def _read_commands(self) -> None:
        await self._registry_read.wait()
        robots = [m for m in self._ours() if self._settings.is_robotic(m.material_number)]
        parts: dict[int, list[Machine]] = {}
        for machine in robots:
            parts.setdefault(self._ownership.partition(machine.device_id), []).append(machine)
        for part, machines in sorted(parts.items()):
            await self._commands.read(part, machines, self._ownership.owns)

    async def _publish(self, decoded: Decoded) -> list[asyncio.Future[None]]:
        """Queue what one element came to; the futures are done when Kafka has it."""
        if decoded.envelopes or decoded.dead_letters:
            count_in(VENDOR, decoded)
        publisher = self._context.publisher
        return [
            *[await publisher.publish_soon(e) for e in decoded.envelopes],
            *[await publisher.dead_letter_soon(d) for d in decoded.dead_letters],
        ]

    async def _forward(self, decoded: Decoded) -> None:
        await self._context.forward(VENDOR, decoded)
