"""Sending one notification over one channel, once.

Every attempt ends as an `Outcome`: delivered, refused for good (the receiver will never accept this message), or to be
repeated. Redirects are not followed: a receiver must not send us to another address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self, assert_never

import aiohttp
import aiosmtplib

from alarm_service.notify import messages
from alarm_service.notify.messages import HttpRequest, Notification
from alarm_service.notify.settings import (
    AlertmanagerChannel,
    Channel,
    EmailChannel,
    EmailConfig,
    SlackChannel,
    SmsChannel,
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


class Sender:
    """Sends over one channel. An HTTP connection is kept open between notifications."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        config = channel.config
        connector = aiohttp.TCPConnector(
            limit=1, use_dns_cache=False, socket_factory=None if config.allow_private else public_socket
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=config.timeout_seconds),
            headers={"User-Agent": "fleetlake"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._session.close()

    @property
    def open_for(self) -> timedelta:
        """How long Alertmanager shows an alert that is not sent once more; zero for other channels."""
        channel = self._channel
        seconds = channel.config.resend_seconds if isinstance(channel, AlertmanagerChannel) else 0.0
        return timedelta(seconds=seconds * _RESENT_COPIES)

    async def send(self, sent: Notification) -> Outcome:
        """Make one attempt."""
        channel = self._channel
        if isinstance(channel, EmailChannel):
            return await _attempted(lambda: _mail(channel.config, sent), channel.config.timeout_seconds)
        return await self._post(self._request(channel, sent))

    async def send_open(self, events: list[wire.AlarmEvent], sent: Notification) -> Outcome:
        """Send an Alertmanager the open alarms; `sent` has the time."""
        channel = self._channel
        assert isinstance(channel, AlertmanagerChannel)
        return await self._post(messages.alertmanager_open(channel.config, events, sent.sent_at, self.open_for))

    def _request(
        self,
        channel: WebhookChannel | SlackChannel | TeamsChannel | SmsChannel | AlertmanagerChannel,
        sent: Notification,
    ) -> HttpRequest:
        match channel:
            case WebhookChannel():
                return messages.webhook(channel.config, sent)
            case SlackChannel():
                return messages.slack(channel.config.url.get_secret_value(), sent)
            case TeamsChannel():
                return messages.teams(channel.config.url.get_secret_value(), sent)
            case SmsChannel():
                return messages.sms(channel.config, sent)
            case AlertmanagerChannel():
                return messages.alertmanager(channel.config, sent, self.open_for)
            case _:
                assert_never(channel)

    async def _post(self, request: HttpRequest) -> Outcome:
        return await _attempted(lambda: self._posted(request), self._channel.config.timeout_seconds)

    async def _posted(self, request: HttpRequest) -> Outcome:
        async with self._session.post(
            request.url, data=request.body, headers=request.headers, allow_redirects=False
        ) as answer:
            if 200 <= answer.status < 300:
                return Outcome(True, f"HTTP {answer.status}")
            words = (await answer.content.read(_MAX_ERROR_CHARS)).decode(errors="replace")
            detail = f"HTTP {answer.status}: {' '.join(words.split())}".rstrip(": ")
            return Outcome(False, detail, answer.status in _NEVER, _seconds(answer.headers.get("Retry-After")))


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
