"""Where notifications may go: never to a private address unless that is allowed, whatever name leads there."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope
from pydantic import TypeAdapter

from alarm_service.notify.dispatcher import send_test
from alarm_service.notify.messages import Notification
from alarm_service.notify.senders import Outcome, sender_of
from alarm_service.notify.settings import Channel
from alarm_service.notify.targets import is_public
from runtime.ports import free_port
from tests.alarm_service.notifying import NOW, event, receiving, webhook


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("64:ff9b::5db8:d822", True),  # NAT64 of a public address
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("ff02::1", False),
        ("::127.0.0.1", False),
        ("::93.184.216.34", False),
        ("64:ff9b:1::7f00:1", False),
        ("64:ff9b:1:ffff::1", False),
        ("fec0::1", False),
        ("feff::1", False),
    ],
)
def test_public_addresses_are_told_from_others(address: str, public: bool) -> None:
    assert is_public(address) is public


def channel(value: dict[str, Any]) -> Channel:
    channel: Channel = TypeAdapter(Channel).validate_python(value)
    return channel


async def attempt(value: dict[str, Any], number: int = 1) -> Outcome:
    async with sender_of(channel(value)) as sender:
        return await sender.send(Notification("0c0ffee0-0000-5000-8000-000000000001", number, NOW, event(), "one"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_private_receiver_is_refused_unless_allowed(host: str) -> None:
    async with receiving() as receiver:
        url = receiver.url.replace("127.0.0.1", host)
        refused = await attempt(webhook(url, allow_private=False))
        assert not refused.delivered and "allow_private" in refused.detail and not receiver.got
        assert (await attempt(webhook(url))).delivered and len(receiver.got) == 1


async def test_a_redirect_is_not_followed() -> None:
    async with receiving() as inner:
        answer = web.Response(status=307, headers={"Location": inner.url})
        async with receiving(lambda number, request: answer) as outer:
            outcome = await attempt(webhook(outer.url))
    assert not outcome.delivered and "307" in outcome.detail and not inner.got


class Mailbox:
    """What a real SMTP server takes."""

    def __init__(self) -> None:
        self.got: list[Envelope] = []
        self.refuse: dict[str, str] = {}
        self.answer = "250 taken"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Envelope, address: str, options: Any) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        if self.answer.startswith("250"):
            self.got.append(envelope)
        return self.answer


@asynccontextmanager
async def mail_server(**options: Any) -> AsyncIterator[tuple[Mailbox, dict[str, Any]]]:
    """A server on loopback, and a channel to it."""
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port(), **options)
    await asyncio.to_thread(controller.start)
    try:
        config = {
            "host": "127.0.0.1",
            "port": controller.port,
            "security": "none",
            "sender": "fleet@example.com",
            "recipients": ["a@example.com", "b@example.com"],
            "allow_private": True,
            "timeout_seconds": 2,
        }
        yield mailbox, {"channel_type": "email", "config": config}
    finally:
        await asyncio.to_thread(controller.stop)


async def test_mail_goes_to_a_real_server_and_says_what_became_of_it() -> None:
    async with mail_server() as (mailbox, mail):
        assert (await attempt(mail)).delivered
        assert (await attempt(mail, 2)).delivered
        ids = {line for one in mailbox.got for line in one.content.splitlines() if line.startswith(b"Message-ID")}
        assert len(mailbox.got) == 2 and len(ids) == 1
        assert mailbox.got[0].rcpt_tos == ["a@example.com", "b@example.com"]

        mailbox.refuse = {"b@example.com": "550 nobody"}
        partly = await attempt(mail)
        assert partly.delivered and "refused for b@example.com" in partly.detail

        mailbox.refuse |= {"a@example.com": "550 nobody"}
        assert (await attempt(mail)).final
        mailbox.refuse["a@example.com"] = "450 later"
        assert not (await attempt(mail)).final
        mailbox.refuse, mailbox.answer = {}, "451 busy"
        busy = await attempt(mail)
        assert not busy.delivered and not busy.final and "busy" in busy.detail
        mailbox.answer = "554 spam"
        assert (await attempt(mail)).final
    assert not (await attempt(mail)).delivered  # nobody listens any more


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_mail_is_encrypted_with_a_certificate_that_is_checked(
    security: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, offered = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(offered)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    options = {"ssl_context": offered} if security == "tls" else {"tls_context": offered, "require_starttls": True}
    async with mail_server(**options) as (mailbox, mail):
        mail["config"] |= {"security": security}
        unknown = await attempt(mail)
        assert not unknown.delivered and "certificate" in unknown.detail.lower() and not mailbox.got
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert (await attempt(mail)).delivered and len(mailbox.got) == 1


async def test_a_mail_server_on_a_private_address_is_refused_unless_allowed() -> None:
    async with mail_server() as (mailbox, mail):
        mail["config"] |= {"allow_private": False, "host": "localhost"}
        refused = await attempt(mail)
    assert not refused.delivered and "allow_private" in refused.detail and not mailbox.got


@pytest.mark.parametrize("kind", ["slack", "teams", "sms", "alertmanager"])
async def test_every_kind_of_channel_reaches_a_receiver(kind: str) -> None:
    async with receiving() as receiver:
        config: dict[str, Any] = {"url": receiver.url, "allow_private": True}
        config |= {"recipients": ["+4712345678"]} if kind == "sms" else {}
        value = {"channel_type": kind, "config": config}
        assert (await attempt(value)).delivered
        assert (await send_test(channel(value))).delivered
    assert [one.headers["Content-Type"] for one in receiver.got] == ["application/json"] * 2
    assert b"High temperature" in receiver.got[0].body
    assert len({one.key for one in receiver.got}) == 2


async def test_a_receiver_that_never_answers_costs_no_more_than_its_time() -> None:
    async with receiving(lambda number, request: 30.0) as receiver:
        outcome = await attempt(webhook(receiver.url, timeout_seconds=0.2))
    assert not outcome.delivered and not outcome.final and "0.2 s" in outcome.detail


@pytest.mark.parametrize(("status", "final"), [(400, True), (413, True), (401, False), (404, False), (503, False)])
async def test_only_what_is_wrong_with_the_message_itself_is_final(status: int, final: bool) -> None:
    answer = {"text": "no\nthanks", "status": status, "headers": {"Retry-After": "7"}}
    async with receiving(lambda number, request: web.Response(**answer)) as receiver:
        outcome = await attempt(webhook(receiver.url))
    assert outcome == Outcome(False, f"HTTP {status}: no thanks", final, 7.0)
