"""Makes deliveries: a lane per channel, so that a dead receiver delays nobody else.

Within a lane, one delivery at a time. An attempt that fails pushes that delivery back, longer each time (the time of
its next attempt is stored), and the lane rests, longer with each failure in a row, so that a dead receiver is not asked
once for every alarm. Other alarms pass one that its receiver does not take; events of one alarm keep their order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from alarm_service.notify.messages import Notification
from alarm_service.notify.outbox import Claimed, Outbox
from alarm_service.notify.senders import Outcome, Sender
from alarm_service.notify.settings import AlertmanagerChannel, Channel, NotifySettings
from runtime.metrics import NOTIFICATIONS, NOTIFICATIONS_WAITING

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0
"""Another process may have written into the outbox; of that there is no word."""

_TIDY_SECONDS = 60.0
_LEASE_MARGIN = timedelta(seconds=2)


def pause(failures: int, first: float, cap: float, jitter: float) -> float:
    """Seconds to wait after so many failures in a row: doubling from `first` up to `cap`, less `jitter` halves."""
    return float(min(cap, first * 2.0 ** min(failures - 1, 30)) * (1 - jitter / 2))


class Dispatcher:
    """The lanes of all channels that are enabled."""

    def __init__(self, outbox: Outbox, settings: NotifySettings) -> None:
        self._outbox = outbox
        self._settings = settings
        self._lanes = {
            key: Lane(key, channel, outbox, settings)
            for key, channel in settings.channels.items()
            if channel.is_enabled
        }

    def wake(self) -> None:
        """Look at once whether there is something to send."""
        for lane in self._lanes.values():
            lane.wake()

    async def run(self) -> None:
        """Deliver until cancelled. A delivery under way then is attempted again by the next process."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tidy())
            for lane in self._lanes.values():
                group.create_task(lane.run())

    async def _tidy(self) -> None:
        while True:
            given_up = await asyncio.to_thread(self._outbox.tidy)
            if given_up:
                _log.warning("notify: %d deliveries given up after %g h", given_up, self._settings.give_up_hours)
            waiting = await asyncio.to_thread(self._outbox.waiting)
            for key in self._lanes:
                NOTIFICATIONS_WAITING.labels(key).set(waiting.get(key, 0))
            await asyncio.sleep(_TIDY_SECONDS)


class Lane:
    """The deliveries of one channel, one after the other."""

    def __init__(self, key: str, channel: Channel, outbox: Outbox, settings: NotifySettings) -> None:
        self._key = key
        self._channel = channel
        self._outbox = outbox
        self._settings = settings
        self._lease = timedelta(seconds=channel.config.timeout_seconds) + _LEASE_MARGIN
        self._news = asyncio.Event()
        self._failures = 0
        self._tell_open_at = _now()

    def wake(self) -> None:
        """There may be something to send."""
        self._news.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with Sender(self._channel) as sender:
            while True:
                self._news.clear()
                outcome = await self._tell_open(sender) or await self._deliver(sender)
                if outcome is None:
                    await self._wait()
                elif not outcome.delivered and not outcome.final:
                    await asyncio.sleep(max(self._rest(), outcome.retry_after or 0))

    async def _deliver(self, sender: Sender) -> Outcome | None:
        """Attempt the next delivery that is due; None where there is none."""
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
            _log.error("notify: %s: delivery %s is given up: %s", self._key, claimed.id, outcome.detail)
            await asyncio.to_thread(self._outbox.failed, claimed.id, outcome.detail)
        else:
            status = "retried"
            seconds = pause(claimed.attempt, settings.retry_seconds, settings.retry_cap_seconds, random.random())
            wait = max(seconds, outcome.retry_after or 0)
            await asyncio.to_thread(self._outbox.postponed, claimed.id, outcome.detail, wait)
        NOTIFICATIONS.labels(self._key, status).inc()

    async def _tell_open(self, sender: Sender) -> Outcome | None:
        """Tell an Alertmanager what is open, if it is time to; None if it is not, or it went well."""
        if not isinstance(self._channel, AlertmanagerChannel):
            return None
        now = _now()
        if now < self._tell_open_at:
            return None
        events = await asyncio.to_thread(self._outbox.open_alarms, self._key)
        if events:
            outcome = await self._attempt(lambda: sender.send_open(events, Notification("", 1, now, None)))
            if not outcome.delivered:
                return outcome
        self._tell_open_at = now + timedelta(seconds=self._channel.config.resend_seconds)
        return None

    async def _attempt(self, send: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """One attempt, with a log line where the receiver goes away and where it is back."""
        try:
            outcome = await send()
        except Exception as error:  # a defect in a message must not end the other lanes
            _log.exception("notify: %s: cannot send", self._key)
            outcome = Outcome(False, f"{type(error).__name__}: {error}")
        if outcome.delivered:
            if self._failures:
                _log.info("notify: %s takes notifications again", self._key)
            self._failures = 0
        elif not outcome.final:
            if not self._failures:
                _log.warning("notify: %s takes no notifications: %s", self._key, outcome.detail)
            self._failures += 1
        return outcome

    def _rest(self) -> float:
        settings = self._settings
        return pause(max(1, self._failures), settings.retry_seconds, settings.retry_cap_seconds, random.random())

    async def _wait(self) -> None:
        """Until there is news, something is due, or it is time to look."""
        now = _now()
        dues = [now + timedelta(seconds=_LOOK_SECONDS), await asyncio.to_thread(self._outbox.next_due, self._key)]
        if isinstance(self._channel, AlertmanagerChannel):
            dues.append(self._tell_open_at)
        seconds = max(0.05, (min(due for due in dues if due is not None) - now).total_seconds())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)


async def send_test(channel: Channel) -> Outcome:
    """Send a test notification, past the outbox and all policies."""
    async with Sender(channel) as sender:
        return await sender.send(Notification(str(uuid4()), 1, _now(), None))


def _now() -> datetime:
    return datetime.now(UTC)
