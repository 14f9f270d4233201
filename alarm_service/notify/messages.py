"""What is sent over each kind of channel (pure: ids, times and texts are arguments).

Webhooks follow Standard Webhooks (standardwebhooks.com): headers `webhook-id`, `webhook-timestamp`,
`webhook-signature`. Every notification over HTTP also carries `Idempotency-Key`, a mail its `Message-ID`: all of them
are the delivery's id, the same in each attempt, so that a receiver can recognise duplicates. Open alarms that are
resent to an Alertmanager belong to no delivery and carry none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

import msgspec

from alarm_service.notify.settings import AlertmanagerConfig, EmailConfig, SmsConfig, WebhookConfig, key_of
from schemas import wire
from schemas.timestamps import format_iso

TEST = "test"
"""Event type of a test notification; it has no alarm."""

_TEST_TITLE = "fleetlake test notification"
_TEST_TEXT = "Sent to see whether this channel works. No alarm."
_COLOURS = {"critical": "attention", "major": "attention", "minor": "warning", "warning": "warning", "info": "accent"}
_VERBS = {"repeated": "again", "triggered": "", "snoozed": "snoozed", "snooze_ended": "open still, no longer snoozed"}


@dataclass(frozen=True)
class Notification:
    """One attempt at one delivery. `event` is None for a test."""

    delivery_id: str
    attempt: int
    sent_at: datetime
    event: wire.AlarmEvent | None
    policy_id: str | None = None

    @property
    def event_type(self) -> str:
        """The alarm event's type, or `test`."""
        return self.event.event_type if self.event is not None else TEST


@dataclass(frozen=True)
class HttpRequest:
    """A POST."""

    url: str = field(repr=False)
    body: bytes
    headers: dict[str, str] = field(repr=False)


def title(event: wire.AlarmEvent | None) -> str:
    """One line: severity, alarm, and the event."""
    if event is None:
        return _TEST_TITLE
    verb = _VERBS.get(event.event_type, event.event_type)
    return f"[{event.alarm.severity.upper()}] {event.alarm.title}{f' ({verb})' if verb else ''}"


def facts(event: wire.AlarmEvent | None) -> list[tuple[str, str]]:
    """Names and values to show, in order."""
    if event is None:
        return []
    alarm = event.alarm
    lines = [
        ("Device", alarm.device_id),
        ("Rule", alarm.rule_name),
        ("Status", alarm.status),
        ("Since", format_iso(alarm.triggered_at)),
        ("Occurrences", str(alarm.occurrence_count)),
    ]
    if event.event_type != "triggered":
        lines.append(
            (event.event_type.replace("_", " ").capitalize(), f"{format_iso(event.created_at)} by {event.actor}")
        )
    if event.note:
        lines.append(("Note", event.note))
    if alarm.flapping:
        lines.append(("Flapping", "it comes and goes"))
    return [*lines, ("Alarm", alarm.alarm_id)]


def text(event: wire.AlarmEvent | None) -> str:
    """The alarm's own message, or the text of a test."""
    return event.alarm.message if event is not None else _TEST_TEXT


# -- webhook


def webhook(config: WebhookConfig, sent: Notification) -> HttpRequest:
    """The alarm event as `{"type", "timestamp", "policy_id", "data"}`, signed where the channel has a secret."""
    data: Any = {"message": _TEST_TEXT} if sent.event is None else msgspec.to_builtins(sent.event)
    happened = sent.sent_at if sent.event is None else sent.event.created_at
    kind = TEST if sent.event is None else f"alarm.{sent.event_type}"
    body = _json({"type": kind, "timestamp": format_iso(happened), "policy_id": sent.policy_id, "data": data})
    seconds = str(int(sent.sent_at.timestamp()))
    headers = {"webhook-id": sent.delivery_id, "webhook-timestamp": seconds}
    if config.secret is not None:
        headers["webhook-signature"] = signature(
            key_of(config.secret.get_secret_value()), sent.delivery_id, seconds, body
        )
    if config.bearer_token is not None:
        headers["Authorization"] = f"Bearer {config.bearer_token.get_secret_value()}"
    return HttpRequest(config.url.get_secret_value(), body, _headers(sent) | headers)


def signature(key: bytes, message_id: str, seconds: str, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 of id, time and body, joined by full stops."""
    digest = hmac.new(key, b".".join((message_id.encode(), seconds.encode(), body)), hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


# -- chats and texts


def slack(url: str, sent: Notification) -> HttpRequest:
    """A message with the facts as fields; what devices and people wrote cannot mention or format anything."""
    lines = [f"*{_slack(title(sent.event))}*", _slack(text(sent.event))]
    lines += [f"{name}: {_slack(value)}" for name, value in facts(sent.event)]
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(lines)[:3000]}}]
    return HttpRequest(url, _json({"text": _slack(title(sent.event)), "blocks": blocks}), _headers(sent))


def _slack(value: str) -> str:
    escaped = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "*_~`":
        escaped = escaped.replace(sign, f"\N{ZERO WIDTH SPACE}{sign}")
    return escaped


def teams(url: str, sent: Notification) -> HttpRequest:
    """An Adaptive Card, which is what a Teams workflow takes."""
    colour = _COLOURS.get(sent.event.alarm.severity, "default") if sent.event is not None else "default"
    if sent.event is not None and sent.event.alarm.status == "resolved":
        colour = "good"
    content = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {
                "type": "TextBlock",
                "text": _plain(title(sent.event)),
                "weight": "bolder",
                "size": "medium",
                "color": colour,
                "wrap": True,
            },
            {"type": "TextBlock", "text": _plain(text(sent.event)), "wrap": True},
            {
                "type": "FactSet",
                "facts": [{"title": name, "value": _plain(value)} for name, value in facts(sent.event)],
            },
        ],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": content}
    return HttpRequest(url, _json({"type": "message", "attachments": [attachment]}), _headers(sent))


def _plain(value: str) -> str:
    """Escape Markdown, which text blocks render: a device's words must not become links or emphasis."""
    for sign in "\\[]*_":
        value = value.replace(sign, f"\\{sign}")
    return value


def sms(config: SmsConfig, sent: Notification) -> HttpRequest:
    """One request for all recipients."""
    words = f"{title(sent.event)}: {text(sent.event)}"
    words = words if len(words) <= config.max_chars else words[: config.max_chars - 1] + "…"
    body: dict[str, Any] = {config.to_field: config.recipients, config.text_field: words}
    if config.sender:
        body[config.from_field] = config.sender
    return HttpRequest(config.url.get_secret_value(), _json(body), _headers(sent, config.bearer_token))


# -- Alertmanager


def alertmanager(config: AlertmanagerConfig, sent: Notification, open_for: timedelta) -> HttpRequest:
    """One event to an Alertmanager."""
    event = sent.event
    alert = _test_alert(config, sent.sent_at) if event is None else _alert(config, event, sent.sent_at, open_for)
    return HttpRequest(_alerts_url(config), _json([alert]), _headers(sent, config.bearer_token))


def alertmanager_open(
    config: AlertmanagerConfig, events: list[wire.AlarmEvent], now: datetime, open_for: timedelta
) -> HttpRequest:
    """All open alarms, so that Alertmanager continues to show them."""
    alerts = [_alert(config, event, now, open_for) for event in events]
    headers = {"Content-Type": "application/json", **_bearer(config.bearer_token)}
    return HttpRequest(_alerts_url(config), _json(alerts), headers)


def _alerts_url(config: AlertmanagerConfig) -> str:
    return config.url.get_secret_value().rstrip("/") + "/api/v2/alerts"


def _alert(config: AlertmanagerConfig, event: wire.AlarmEvent, now: datetime, open_for: timedelta) -> dict[str, Any]:
    """An alert; its labels are its identity. Where a vendor changes an alarm's severity, the older alert expires.

    An end in the future, by a device's fast clock, would mean «open until then», and is therefore cut to `now`.
    """
    alarm = event.alarm
    starts, ends = min(alarm.triggered_at, now), now + open_for
    if alarm.status == "resolved":
        ends = max(starts, min(alarm.resolved_at or now, now))
    labels = {
        "alertname": alarm.rule_name,
        "severity": alarm.severity,
        "rule_id": alarm.rule_id,
        "device_id": alarm.device_id,
        "vendor": alarm.vendor,
        "alarm_id": alarm.alarm_id,
        **({"metric": alarm.metric} if alarm.metric else {}),
        **config.labels,
    }
    return {
        "labels": labels,
        "annotations": {"summary": alarm.title, "description": alarm.message, "status": alarm.status},
        "startsAt": format_iso(starts),
        "endsAt": format_iso(ends),
    }


def _test_alert(config: AlertmanagerConfig, now: datetime) -> dict[str, Any]:
    return {
        "labels": {**config.labels, "alertname": "FleetlakeTest", "severity": "info"},
        "annotations": {"summary": _TEST_TITLE, "description": _TEST_TEXT},
        "startsAt": format_iso(now),
        "endsAt": format_iso(now + timedelta(minutes=1)),
    }


# -- mail


def email(config: EmailConfig, sent: Notification) -> EmailMessage:
    """A plain text mail; those of one alarm make a thread."""
    message = EmailMessage()
    message["From"] = config.sender
    message["To"] = ", ".join(config.recipients)
    message["Subject"] = " ".join(title(sent.event).split())[:200]
    message["Date"] = format_datetime(sent.sent_at)
    domain = config.sender.rpartition("@")[2].strip("> ") or "fleetlake"
    message["Message-ID"] = f"<{sent.delivery_id}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Fleetlake-Attempt"] = str(sent.attempt)
    if sent.event is not None:
        message["References"] = f"<{sent.event.alarm.alarm_id}@{domain}>"
    lines = [text(sent.event), "", *(f"{name}: {value}" for name, value in facts(sent.event))]
    message.set_content("\n".join(lines) + "\n")
    return message


# -- shared


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _bearer(token: Any) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}


def _headers(sent: Notification, token: Any = None) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "Idempotency-Key": sent.delivery_id,
        "X-Fleetlake-Attempt": str(sent.attempt),
        **_bearer(token),
    }
