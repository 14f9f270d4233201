"""Sending one notification over one channel, once.

Every attempt ends as an `Outcome`: delivered, refused for good (the receiver will never accept this message), or to be
repeated. Redirects are not followed: a receiver must not send us to another address.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Self, assert_never

import aiohttp
import aiosmtplib

from alarm_service.notify import messages
from alarm_service.notify.messages import HttpRequest, Notification
from alarm_service.notify.settings import (
    AlertmanagerChannel,
    AlertmanagerConfig,
    Channel,
    EmailChannel,
    EmailConfig,
    SlackChannel,
    SmsChannel,
    TargetConfig,
    TeamsChannel,
    WebhookChannel,
)
from alarm_service.notify.targets import connected, public_socket
from schemas import wire

_NEVER = {400, 410, 413, 415, 422}
"""Statuses that refuse this very message. Wrong credentials or paths can be corrected: such attempts are repeated."""

_RESENT_COPIES = 5
"""Number of failed re-sendings in a row after which Alertmanager drops an alert."""

_MAX_RETRY_AFTER = 3600.0
_MAX_ERROR_CHARS = 300


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. `final`: repeating is useless. `retry_after`: the receiver's request, in seconds."""

    delivered: bool
    detail: str = ""
    final: bool = False
    retry_after: float | None = None


class Sender(ABC):
    """Sends over one channel. Use as a context: what it keeps open is closed at its end."""

    resend_every: timedelta | None = None
    """How often the receiver wants all open alarms once more; None: never."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        return None

    @abstractmethod
    async def send(self, sent: Notification) -> Outcome:
        """Make one attempt."""

    async def send_open(self, events: list[wire.AlarmEvent], now: datetime) -> Outcome:
        """Send the open alarms to a receiver that has `resend_every`."""
        raise NotImplementedError(f"{type(self).__name__} sends events only")


class MailSender(Sender):
    """Sends each notification by a connection of its own."""

    def __init__(self, config: EmailConfig) -> None:
        self._config = config

    async def send(self, sent: Notification) -> Outcome:
        """Make one attempt."""
        return await _attempted(lambda: _mail(self._config, sent), self._config.timeout_seconds)


class HttpSender(Sender):
    """Posts the request that `request` makes of a notification; the connection is kept open in between."""

    def __init__(self, config: TargetConfig, request: Callable[[Notification], HttpRequest]) -> None:
        self._request = request
        self._timeout = config.timeout_seconds
        connector = aiohttp.TCPConnector(
            limit=1, use_dns_cache=False, socket_factory=None if config.allow_private else public_socket
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=config.timeout_seconds),
            headers={"User-Agent": "fleetlake"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._session.close()

    async def send(self, sent: Notification) -> Outcome:
        """Make one attempt."""
        return await self._post(self._request(sent))

    async def _post(self, request: HttpRequest) -> Outcome:
        return await _attempted(lambda: self._posted(request), self._timeout)

    async def _posted(self, request: HttpRequest) -> Outcome:
        async with self._session.post(
            request.url, data=request.body, headers=request.headers, allow_redirects=False
        ) as answer:
            if 200 <= answer.status < 300:
                return Outcome(True, f"HTTP {answer.status}")
            words = (await answer.content.read(_MAX_ERROR_CHARS)).decode(errors="replace")
            detail = f"HTTP {answer.status}: {' '.join(words.split())}".rstrip(": ")
            return Outcome(False, detail, answer.status in _NEVER, _seconds(answer.headers.get("Retry-After")))


class AlertmanagerSender(HttpSender):
    """Posts alerts, which an Alertmanager shows only as long as they are sent once more."""

    def __init__(self, config: AlertmanagerConfig) -> None:
        self.resend_every = timedelta(seconds=config.resend_seconds)
        self._config = config
        self._open_for = self.resend_every * _RESENT_COPIES
        super().__init__(config, lambda sent: messages.alertmanager(config, sent, self._open_for))

    async def send_open(self, events: list[wire.AlarmEvent], now: datetime) -> Outcome:
        """Send all open alarms."""
        return await self._post(messages.alertmanager_open(self._config, events, now, self._open_for))


def sender_of(channel: Channel) -> Sender:
    """The sender of a channel; it is the one place that knows the kinds of channels. Needs a running event loop."""
    match channel:
        case EmailChannel(config=config):
            return MailSender(config)
        case AlertmanagerChannel(config=config):
            return AlertmanagerSender(config)
        case WebhookChannel(config=config):
            return HttpSender(config, partial(messages.webhook, config))
        case SlackChannel(config=config):
            return HttpSender(config, partial(messages.slack, config.url.get_secret_value()))
        case TeamsChannel(config=config):
            return HttpSender(config, partial(messages.teams, config.url.get_secret_value()))
        case SmsChannel(config=config):
            return HttpSender(config, partial(messages.sms, config))
        case _:
            assert_never(channel)


async def _attempted(attempt: Callable[[], Awaitable[Outcome]], timeout: float) -> Outcome:
    """Turn every failure into an outcome: one channel's failure must not end the others."""
    try:
        async with asyncio.timeout(timeout):
            return await attempt()
    except TimeoutError:
        return Outcome(False, f"no answer within {timeout:g} s")
    except (aiohttp.ClientError, aiosmtplib.SMTPException, OSError, ValueError) as error:
        return Outcome(False, _words(error))


async def _mail(config: EmailConfig, sent: Notification) -> Outcome:
    """Delivered when the server has accepted it for at least one recipient; the detail names the others."""
    sock = await connected(config.host, config.port, allow_private=config.allow_private)
    client = aiosmtplib.SMTP(
        hostname=config.host,
        sock=sock,
        use_tls=config.security == "tls",
        start_tls=config.security == "starttls",
        username=config.username or None,
        password=config.password.get_secret_value() if config.username else None,
        timeout=config.timeout_seconds,
    )
    try:
        async with client:
            refused, reply = await client.send_message(messages.email(config, sent))
    except aiosmtplib.SMTPRecipientsRefused as error:
        return Outcome(False, _words(error), final=all(each.code >= 500 for each in error.recipients))
    except (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPDataError) as error:
        return Outcome(False, _words(error), final=error.code >= 500)
    finally:
        sock.close()
    missing = f"; refused for {', '.join(sorted(refused))}" if refused else ""
    return Outcome(True, f"{reply}{missing}"[:_MAX_ERROR_CHARS])


def _words(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:_MAX_ERROR_CHARS]


def _seconds(header: str | None) -> float | None:
    """`Retry-After` in seconds; the rare form with a date is ignored."""
    if header is None or not header.strip().isdigit():
        return None
    return min(float(header), _MAX_RETRY_AFTER)
