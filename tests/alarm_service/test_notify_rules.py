"""Which alarm events are delivered to whom, and in which words: all of it without I/O."""

from __future__ import annotations

import base64
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from alarm_service.notify import messages
from alarm_service.notify.messages import Notification
from alarm_service.notify.policies import LastNotified, Memberships, delivery_id, plan_deliveries
from alarm_service.notify.settings import (
    AlertmanagerConfig,
    EmailConfig,
    NotifySettings,
    SmsConfig,
    WebhookConfig,
)
from schemas.timestamps import format_iso
from tests.alarm_service.notifying import DEVICE, NOW, SECRET, event, later, settings, webhook

OPS = {"ops": webhook("https://example.com/webhooks/iot", allow_private=False)}
MEMBERS = Memberships({"hall-1": ["climasense:*"]}, {"indoor": [DEVICE]})


def _told(policy: dict[str, Any], *events: Any) -> list[str]:
    """What a policy delivers of successive events, by event type."""
    configured = settings(OPS, {"one": {"channel_ids": ["ops"], **policy}})
    last_notified: dict[str, LastNotified] = {}
    types: list[str] = []
    for each in events:
        for one in plan_deliveries(each, configured, MEMBERS, last_notified):
            last_notified["one"] = LastNotified(each.created_at, each.alarm.status)
            types.append(one.event.event_type)
    return types


@pytest.mark.parametrize(
    ("policy", "is_delivered"),
    [
        ({}, True),
        ({"is_enabled": False}, False),
        ({"severity_filter": ["critical", "major"]}, True),
        ({"severity_filter": ["info"]}, False),
        ({"rule_ids": ["high-temperature"]}, True),
        ({"rule_ids": ["another"]}, False),
        ({"event_types": ["resolved"]}, False),
        ({"scope_type": "device", "scope_ids": [DEVICE]}, True),
        ({"scope_type": "device", "scope_ids": ["climasense:sensor"]}, False),
        ({"scope_type": "vendor", "scope_ids": ["climasense"]}, True),
        ({"scope_type": "vendor", "scope_ids": ["karcher"]}, False),
        ({"scope_type": "group", "scope_ids": ["hall-1"]}, True),
        ({"scope_type": "group", "scope_ids": ["indoor"]}, False),
        ({"scope_type": "profile", "scope_ids": ["indoor"]}, True),
    ],
)
def test_a_policy_delivers_what_it_names_and_nothing_else(policy: dict[str, Any], is_delivered: bool) -> None:
    assert bool(_told(policy, event())) is is_delivered


def test_a_cooldown_holds_back_the_same_news_but_never_a_change() -> None:
    every = {"event_types": ["triggered", "repeated", "resolved", "reopened"], "cooldown_seconds": 60}
    story = [
        event(1),
        event(2, "repeated", at=later(10)),
        event(3, "resolved", at=later(20), status="resolved"),
        event(4, "reopened", at=later(21)),
        event(5, "repeated", at=later(80)),
        event(6, "repeated", at=later(81)),
        event(7, "repeated", at=later(140)),
    ]
    assert _told(every, *story) == ["triggered", "resolved", "reopened", "repeated"]
    assert _told({**every, "cooldown_seconds": 0}, *story) == [each.event_type for each in story]


def test_an_alarm_that_is_open_when_its_snooze_ends_is_notified_again() -> None:
    until = later(60)
    story = [
        event(1, "triggered"),
        event(2, "snoozed", at=later(1), snoozed_until=until),
        event(3, "repeated", at=later(30), snoozed_until=until),
        event(4, "snooze_ended", at=until),
        event(5, "repeated", at=later(61)),
    ]
    assert _told({"cooldown_seconds": 300}, *story) == ["triggered", "snooze_ended"], "in spite of the cool-down"
    assert _told({"event_types": ["resolved"]}, *story) == []
    assert _told({"event_types": ["snooze_ended"]}, *story) == ["snooze_ended"]


def test_a_snoozed_alarm_is_not_told_until_its_time_or_its_end() -> None:
    every = {"event_types": ["snoozed", "repeated", "resolved"], "cooldown_seconds": 0}
    until = later(60)
    story = [
        event(2, "snoozed", at=later(1), snoozed_until=until),
        event(3, "repeated", at=later(30), snoozed_until=until),
        event(4, "repeated", at=later(61), snoozed_until=until),
        event(5, "resolved", at=later(62), status="resolved", snoozed_until=until),
    ]
    assert _told(every, *story) == ["snoozed", "repeated", "resolved"]


def test_an_alertmanager_is_delivered_the_end_of_what_it_was_told_the_begin_of() -> None:
    channel = {"am": {"channel_type": "alertmanager", "config": {"url": "https://alerts.example.com"}}}
    configured = settings(channel, {"one": {"channel_ids": ["am"], "event_types": ["triggered"]}})
    kinds = [
        ("triggered", "active"),
        ("acknowledged", "acknowledged"),
        ("resolved", "resolved"),
        ("reopened", "active"),
    ]
    delivered = [
        kind for kind, status in kinds if plan_deliveries(event(1, kind, status=status), configured, MEMBERS, {})
    ]
    assert delivered == ["triggered", "resolved", "reopened"]


def test_the_id_of_a_delivery_derives_from_event_policy_and_channel() -> None:
    ids = {delivery_id(event(n).event_id, policy, channel) for n in (1, 2) for policy in "ab" for channel in "cd"}
    assert len(ids) == 8
    assert delivery_id(event(1).event_id, "a", "c") in ids


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"channels": {"ops": webhook("ftp://example.com")}}, "must be an http or https URL"),
        ({"channels": {"ops": webhook("https://example.com", secret="whsec_!")}}, "must be base64"),
        ({"channels": {"ops": {"channel_type": "pigeon", "config": {}}}}, "pigeon"),
        ({"channels": {"Ops!": webhook("https://example.com")}}, "pattern"),
        ({"policies": {"p": {"channel_ids": ["ops"]}}}, "[notify.policies.p] channel_ids: 'ops' is not in"),
        ({"channels": OPS, "policies": {"p": {"channel_ids": ["ops"], "scope_ids": ["x"]}}}, "must be empty for fleet"),
        ({"channels": OPS, "policies": {"p": {"channel_ids": ["ops"], "scope_type": "group"}}}, "scope_ids must name"),
    ],
)
def test_wrong_settings_are_refused_with_the_reason(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(reason)):
        NotifySettings.model_validate(wrong)


# -- the words


def _sent(what: Any = None, attempt: int = 1) -> Notification:
    return Notification("0c0ffee0-0000-5000-8000-000000000001", attempt, NOW, what, "one" if what else None)


def test_the_documented_recipe_verifies_a_webhook_and_refuses_what_was_changed() -> None:
    """The code in docs/notifications.md is what receivers copy: it is run here as it stands there."""
    page = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text(encoding="utf-8")
    recipe: dict[str, Any] = {}
    exec(re.search(r"```python\n(import base64.*?)```", page, re.S)[1], recipe)  # type: ignore[index]
    config = WebhookConfig(url=SecretStr("https://example.com/x"), secret=SecretStr(SECRET))
    request = messages.webhook(config, _sent(event()))
    verify, now = recipe["is_genuine"], NOW.timestamp()
    assert verify(SECRET, request.headers, request.body, now)
    assert not verify(SECRET, request.headers, request.body + b" ", now)
    assert not verify(SECRET, request.headers, request.body, now + 301)
    assert not verify(SECRET, {**request.headers, "webhook-id": "another"}, request.body, now)
    assert not verify("whsec_" + base64.b64encode(b"another").decode(), request.headers, request.body, now)


def test_a_signature_is_that_of_the_standard() -> None:
    """The example of the Standard Webhooks reference libraries."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = messages.signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_a_device_says_formats_and_mentions_nothing_in_a_chat() -> None:
    hostile = event(title="<!channel> *boo* [x](https://evil.example)", message="a & b")
    slack = messages.slack("https://example.com", _sent(hostile)).body.decode()
    assert "<!channel>" not in slack and "&lt;!channel&gt;" in slack and "a &amp; b" in slack
    teams = messages.teams("https://example.com", _sent(hostile)).body.decode()
    assert "[x](" not in teams.replace("\\\\", "") or "\\\\[x\\\\](" in teams


def test_a_mail_has_one_line_of_subject_and_an_id_that_repeats_keep() -> None:
    config = EmailConfig(
        host="mail.example.com", sender="fleet@example.com", recipients=["a@example.com", "b@example.com"]
    )
    hostile = event(title="Hot\r\nBcc: everybody@example.com", note="Ünruhe")
    first, second = (messages.email(config, _sent(hostile, attempt)) for attempt in (1, 2))
    assert first["Message-ID"] == second["Message-ID"] == "<0c0ffee0-0000-5000-8000-000000000001@example.com>"
    assert first["Subject"] == "[CRITICAL] Hot Bcc: everybody@example.com"
    assert first["Bcc"] is None and first["To"] == "a@example.com, b@example.com"
    assert "Ünruhe" in first.get_content()


def test_a_text_is_cut_and_names_its_fields_as_the_gateway_does() -> None:
    config = SmsConfig(
        url=SecretStr("https://example.com"),
        recipients=["+4712345678"],
        sender="fleet",
        to_field="numbers",
        max_chars=40,
    )
    body = json.loads(messages.sms(config, _sent(event())).body)
    assert body == {"numbers": ["+4712345678"], "text": "[CRITICAL] High temperature: sensor-001…", "from": "fleet"}


def test_an_alert_keeps_its_labels_and_ends_with_its_alarm() -> None:
    config = AlertmanagerConfig(url=SecretStr("https://alerts.example.com/"), labels={"site": "north"})
    hour = timedelta(hours=1)
    begin = messages.alertmanager(config, _sent(event()), hour)
    end = messages.alertmanager(config, _sent(event(2, "resolved", at=NOW, status="resolved")), hour)
    (first,), (last,) = json.loads(begin.body), json.loads(end.body)
    assert begin.url == "https://alerts.example.com/api/v2/alerts"
    assert first["labels"] == last["labels"]
    assert first["labels"]["site"] == "north" and first["labels"]["severity"] == "critical"
    assert (first["endsAt"], last["endsAt"]) == (format_iso(NOW + hour), format_iso(NOW))
    fast = messages.alertmanager(config, _sent(event(2, "resolved", at=later(60), status="resolved")), hour)
    (ahead,) = json.loads(fast.body)
    assert ahead["startsAt"] == ahead["endsAt"] == format_iso(NOW), "an end that lies ahead is no end there"
