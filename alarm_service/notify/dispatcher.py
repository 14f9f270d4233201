"""Makes deliveries: one queue per channel, so that a dead receiver delays no other channel.

A queue makes one delivery at a time. A failed attempt puts that delivery off, longer each time (the time of its next
attempt is stored). The queue also pauses, longer with each failure in a row, so that a dead receiver is not contacted
for every alarm. Deliveries of other alarms overtake one that is put off; events of one alarm keep their order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from alarm_service.notify.messages import Notification
from alarm_service.notify.outbox import Claimed, Outbox
from alarm_service.notify.senders import Outcome, Sender, sender_of
from alarm_service.notify.settings import Channel, NotifySettings
from runtime.metrics import NOTIFICATIONS, NOTIFICATIONS_WAITING

_log = logging.getLogger(__name__)

_POLL_SECONDS = 5.0
"""Another process may have written into the outbox without waking this one."""

_CLEAN_UP_SECONDS = 60.0
_LEASE_MARGIN = timedelta(seconds=2)


def pause(failures: int, first: float, cap: float, jitter: float) -> float:
    """Seconds to wait after this many failures in a row: `first`, doubling to `cap`, less up to half by `jitter`."""
    return float(min(cap, first * 2.0 ** min(failures - 1, 30)) * (1 - jitter / 2))


class Dispatcher:
    """The queues of all channels that are enabled."""

    def __init__(self, outbox: Outbox, settings: NotifySettings) -> None:
        self._outbox = outbox
        self._settings = settings
        self._queues = {
            key: ChannelQueue(key, channel, outbox, settings)
            for key, channel in settings.channels.items()
            if channel.is_enabled
        }

    def wake(self) -> None:
        """Look at once whether deliveries are due."""
        for queue in self._queues.values():
            queue.wake()

    async def run(self) -> None:
        """Deliver until cancelled. The next process repeats a delivery that is under way then."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._clean_up())
            for queue in self._queues.values():
                group.create_task(queue.run())

    async def _clean_up(self) -> None:
        while True:
            given_up = await asyncio.to_thread(self._outbox.clean_up)
            if given_up:
                _log.warning("notify: gave up %d deliveries after %g h", given_up, self._settings.give_up_hours)
            waiting = await asyncio.to_thread(self._outbox.waiting)
            for key in self._queues:
                NOTIFICATIONS_WAITING.labels(key).set(waiting.get(key, 0))
            await asyncio.sleep(_CLEAN_UP_SECONDS)


class ChannelQueue:
    """The deliveries of one channel, one after the other."""

    def __init__(self, key: str, channel: Channel, outbox: Outbox, settings: NotifySettings) -> None:
        self._key = key
        self._channel = channel
        self._outbox = outbox
        self._settings = settings
        self._lease = timedelta(seconds=channel.config.timeout_seconds) + _LEASE_MARGIN
        self._woken = asyncio.Event()
        for status in ("delivered", "retried", "failed"):
            NOTIFICATIONS.labels(key, status)  # 0 before the first, so that Prometheus sees it rise
        self._failures = 0
        self._resend_open_at = time.monotonic()  # a clock set back would let an Alertmanager resolve what is open

    def wake(self) -> None:
        """Look at once whether a delivery is due."""
        self._woken.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with sender_of(self._channel) as sender:
            while True:
                self._woken.clear()
                outcome = await self._resend_open(sender) or await self._deliver(sender)
                if outcome is None:
                    await self._wait(sender)
                elif not outcome.delivered and not outcome.final:
                    await asyncio.sleep(max(self._pause(), outcome.retry_after or 0))

    async def _deliver(self, sender: Sender) -> Outcome | None:
        """Attempt the next delivery that is due; None if there is none."""
        claimed = await asyncio.to_thread(self._outbox.claim, self._key, self._lease)
        if claimed is None:
            return None
        sent = Notification(claimed.id, claimed.attempt, _now(), claimed.event, claimed.policy_id)
        outcome = await self._attempt(lambda: sender.send(sent))
        await self._settle(claimed, outcome)
        return outcome

    async def _settle(self, claimed: Claimed, outcome: Outcome) -> None:
        settings = self._settings
        if outcome.delivered:
            status = "delivered"
            await asyncio.to_thread(self._outbox.delivered, claimed.id, outcome.detail)
        elif outcome.final or _now() - claimed.created_at > timedelta(hours=settings.give_up_hours):
            status = "failed"
            _log.error("notify: %s: gave up delivery %s: %s", self._key, claimed.id, outcome.detail)
            await asyncio.to_thread(self._outbox.failed, claimed.id, outcome.detail)
        else:
            status = "retried"
            seconds = pause(claimed.attempt, settings.retry_seconds, settings.retry_cap_seconds, random.random())
            wait = max(seconds, outcome.retry_after or 0)
            await asyncio.to_thread(self._outbox.postponed, claimed.id, outcome.detail, wait)
        NOTIFICATIONS.labels(self._key, status).inc()

    async def _resend_open(self, sender: Sender) -> Outcome | None:
        """Send the open alarms once more when that is due; the outcome if it failed, else None.

        Whatever the outcome, it is due again only after `resend_every`, and deliveries come in between.
        """
        if sender.resend_every is None:
            return None
        if time.monotonic() < self._resend_open_at:
            return None
        self._resend_open_at = time.monotonic() + sender.resend_every.total_seconds()
        events = await asyncio.to_thread(self._outbox.open_alarms, self._key)
        if not events:
            return None
        outcome = await self._attempt(lambda: sender.send_open(events, _now()))
        if outcome.final:
            _log.error("notify: %s refuses the %d open alarms: %s", self._key, len(events), outcome.detail)
        return None if outcome.delivered else outcome

    async def _attempt(self, send: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Make one attempt; log when the receiver begins to fail and when it works once more."""
        try:
            outcome = await send()
        except Exception as error:  # a defect in one message must not end the other queues
            _log.exception("notify: %s: cannot send", self._key)
            outcome = Outcome(False, f"{type(error).__name__}: {error}")
        if outcome.delivered:
            if self._failures:
                _log.info("notify: %s accepts notifications again", self._key)
            self._failures = 0
        elif not outcome.final:
            if not self._failures:
                _log.warning("notify: %s does not accept notifications: %s", self._key, outcome.detail)
            self._failures += 1
        return outcome

    def _pause(self) -> float:
        settings = self._settings
        return pause(max(1, self._failures), settings.retry_seconds, settings.retry_cap_seconds, random.random())

    async def _wait(self, sender: Sender) -> None:
        """Wait until woken, until something is due, or until it is time to look."""
        waits = [_POLL_SECONDS]
        if (due := await asyncio.to_thread(self._outbox.next_due, self._key)) is not None:
            waits.append((due - _now()).total_seconds())
        if sender.resend_every is not None:
            waits.append(self._resend_open_at - time.monotonic())
        seconds = max(0.05, min(waits))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)


async def send_test(channel: Channel) -> Outcome:
    """Send a test notification directly, without outbox and policies."""
    async with sender_of(channel) as sender:
        return await sender.send(Notification(str(uuid4()), 1, _now(), None))


def _now() -> datetime:
    return datetime.now(UTC)
