"""Reports when this process listens to a vendor's devices, so that our own outages are no silence of theirs.

A report is acknowledged by Kafka before anything is taken from a source that was not listened to before. Every second
or so the process reports up to when it has listened, after everything that it received before that is in Kafka
(docs/adr/0024-coverage.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from connectors.common.publisher import Publisher
from connectors.common.span_log import SpanLog
from runtime.kafka import KafkaSettings, client_options
from runtime.metrics import COVERAGE_REPORTED_AT, COVERED
from runtime.topic_reader import read_topic
from schemas import wire
from schemas.coverage import STALE_AFTER, coverage_key, vendor_subject
from schemas.timestamps import to_micros
from schemas.topics import COVERAGE

_log = logging.getLogger(__name__)

CONNECTOR = "connector"
"""The channel of a connector whose sources are all listened to, or have channels of their own."""
SOCKET = "socket"

_EVERY_SECONDS = 1.0
_RETRY_SECONDS = 2.0
_DECLARED_SECONDS = 10.0
_DECLARING_SECONDS = 0.2


class Coverage:
    """Says what is listened to. This class reports nothing: silence is counted all the time."""

    async def listening(self, channel: str = CONNECTOR, device: str = "") -> None:
        """Say that a channel, or a device's socket, is listened to from now on; wait until Kafka knows it."""

    def interrupted(self, channel: str = CONNECTOR, device: str = "") -> None:
        """Say that a channel, or a device's socket, is not listened to from now on."""

    async def resume(self, device: str, since: datetime | None = None) -> None:
        """Take over a device's socket, which nobody has listened to since then, or since the process before ended."""

    def stopped(self) -> None:
        """Say that nothing is listened to from now on."""


class CoverageReporter(Coverage):
    """Reports the coverage of one vendor by one process. `process` names the process; its successor has the same name.

    Delivery: a report is written until Kafka acknowledges it. Where Kafka did not acknowledge any for `LAPSE`, or the
    process was frozen for as long, the time counts as not listened to.
    """

    def __init__(
        self, vendor: str, process: str, publisher: Publisher, kafka: KafkaSettings, clock: Callable[[], datetime]
    ) -> None:
        self._vendor = vendor
        self._process = process
        self._publisher = publisher
        self._kafka = kafka
        self._clock = clock
        self._channels: dict[str, SpanLog] = {}
        self._devices: dict[str, SpanLog] = {}
        self._own: set[str] = set()
        """The devices whose sockets this process has had; `_devices` has those of other processes, too."""
        self._changed: set[str] = set()
        self._restored_at = 0
        """When this process had read what was reported before it."""
        self._others_until = 0
        """Up to when other processes had reported then."""
        self._is_known = asyncio.Event()
        self._is_off = False

    # -- see `Coverage`

    async def listening(self, channel: str = CONNECTOR, device: str = "") -> None:
        """See `Coverage.listening`."""
        await self._is_known.wait()
        log = self._log_of(channel, device)
        if self._is_off or not log.begin(self._now()):
            return
        await self._report(log, channel, device)

    def interrupted(self, channel: str = CONNECTOR, device: str = "") -> None:
        """See `Coverage.interrupted`."""
        if self._log_of(channel, device).end(self._now()) and device:
            self._changed.add(device)

    async def resume(self, device: str, since: datetime | None = None) -> None:
        """See `Coverage.resume`."""
        await self._is_known.wait()
        log = self._devices.get(device)
        if log is not None and log.end(self._lost_at(log, since)):
            self._changed.add(device)

    def _lost_at(self, log: SpanLog, since: datetime | None) -> int:
        """When a socket was lost that this process takes over.

        Where nobody listened to the vendor before this process, that gap is the vendor's, and none of each device.
        """
        if since is None:
            return self._restored_at if log.reported_until < self._restored_at else self._now()
        was_alone = self._others_until < self._restored_at - STALE_AFTER
        return max(to_micros(since), self._restored_at) if was_alone else to_micros(since)

    def stopped(self) -> None:
        """See `Coverage.stopped`."""
        for channel in self._channels:
            self.interrupted(channel)
        for device in self._devices:
            self.interrupted(SOCKET, device)

    # -- reporting

    async def run(self) -> None:
        """Report until cancelled."""
        await self._restore()
        self._restored_at = self._now()
        self._is_known.set()
        if self._is_off:
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            await self._report_all()

    async def _report_all(self) -> None:
        """Report what has changed, and up to when this process has listened."""
        now = self._now()
        for log in self._channels.values():
            log.lapse(now)
        changed, self._changed = self._changed, set()
        channels = [(channel, log, [*log.spans]) for channel, log in self._channels.items()]
        await self._publisher.flushed()  # what was received before `now` is in Kafka
        for device in sorted(changed):
            await self._report(self._devices[device], SOCKET, device)
        for channel, log, spans in channels:
            await self._publish(wire.Coverage(self._vendor, channel, spans, now))
            log.reported_until = now
        self._measure()

    def _measure(self) -> None:
        logs = [*self._channels.values(), *(self._devices[device] for device in self._own)]
        COVERED.labels(self._vendor).set(sum(log.is_listening for log in logs))
        COVERAGE_REPORTED_AT.labels(self._vendor).set(self._now() / 1_000_000)

    async def _report(self, log: SpanLog, channel: str, device: str) -> None:
        now = self._now()
        await self._publish(wire.Coverage(self._vendor, channel, [*log.spans], now, device))
        log.reported_until = max(log.reported_until, now)

    async def _publish(self, report: wire.Coverage) -> None:
        subject = report.device_id or vendor_subject(self._vendor)
        await self._publisher.publish_coverage(report, report.device_id or self._key(report.channel), subject)

    def _key(self, channel: str) -> str:
        return coverage_key(vendor_subject(self._vendor), channel, self._process)

    def _log_of(self, channel: str, device: str) -> SpanLog:
        if device:
            self._own.add(device)
            return self._devices.setdefault(device, SpanLog())
        return self._channels.setdefault(channel, SpanLog())

    def _now(self) -> int:
        return to_micros(self._clock())

    # -- what was reported before

    async def _restore(self) -> None:
        """Read what was reported before; where there is no such topic, nothing is ever reported."""
        give_up_at = self._now() + _DECLARED_SECONDS * 1_000_000
        while True:
            try:
                await self._read()
            except UnknownTopicOrPartitionError:
                if self._now() < give_up_at:  # it is declared while the connectors start
                    await asyncio.sleep(_DECLARING_SECONDS)
                    continue
                _log.warning("%s: no topic %s: silence counts while nobody listens, too", self._vendor, COVERAGE)
                self._is_off = True
                return
            except (KafkaError, OSError, TimeoutError) as error:
                _log.debug("%s: what was listened to cannot be read yet: %s", self._vendor, error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _read(self) -> None:
        async for batch in read_topic(client_options(self._kafka), COVERAGE):
            for record in batch.records:
                if record.value is None:
                    continue
                report = wire.decode_coverage(record.value)
                if report.vendor != self._vendor:
                    continue
                log = SpanLog(report.spans, report.reported_until)
                if report.device_id:
                    self._devices[report.device_id] = log
                elif (record.key or b"").decode() == self._key(report.channel):
                    log.end(log.reported_until)
                    self._channels[report.channel] = log
                else:
                    self._others_until = max(self._others_until, report.reported_until)
