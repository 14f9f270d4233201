"""What receivers get, channel by channel, word for word: people and programs at the other end rely on it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr

from alarm_service.notify import messages
from alarm_service.notify.messages import HttpRequest, Notification
from alarm_service.notify.policies import LastNotified, delivery_id, is_cooling, is_snoozed
from alarm_service.notify.settings import AlertmanagerConfig, EmailConfig, Policy, SmsConfig, WebhookConfig
from schemas import wire
from tests.alarm_service import notifying
from tests.alarm_service.notifying import SECRET

AT = datetime(2026, 3, 30, 10, 0, 0, 123456, tzinfo=UTC)
SENT = AT + timedelta(seconds=5)
DELIVERY = "0c0ffee0-0000-5000-8000-000000000001"
ALARM = "e422b0cb-85e4-539c-a87c-350e7e3cebcc"
HOUR = timedelta(hours=1)


def event(kind: str = "repeated", status: str = "active", **more: Any) -> wire.AlarmEvent:
    return notifying.event(2, kind, at=AT, status=status, **more)


def changed(event: wire.AlarmEvent, **fields: Any) -> wire.AlarmEvent:
    return msgspec.structs.replace(event, alarm=msgspec.structs.replace(event.alarm, **fields))


def sent(what: wire.AlarmEvent | None) -> Notification:
    return Notification(DELIVERY, 2, SENT, what, "one" if what else None)


def body(request: HttpRequest) -> Any:
    return json.loads(request.body)


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("triggered", "[CRITICAL] High temperature: sensor-001"),
        ("repeated", "[CRITICAL] High temperature: sensor-001 (again)"),
        ("snoozed", "[CRITICAL] High temperature: sensor-001 (snoozed)"),
        ("resolved", "[CRITICAL] High temperature: sensor-001 (resolved)"),
    ],
)
def test_a_title_says_severity_alarm_and_event(kind: str, title: str) -> None:
    assert messages.title(event(kind)) == title
    assert messages.title(None) == "fleetlake test notification"


def test_the_facts_of_an_alarm() -> None:
    always = [
        ("Device", "climasense:sensor-001"),
        ("Rule", "High temperature"),
        ("Status", "active"),
        ("Since", "2026-03-30T10:00:00.123456Z"),
        ("Occurrences", "2"),
    ]
    assert messages.facts(event("triggered")) == [*always, ("Alarm", ALARM)]
    assert messages.facts(changed(event(note="n"), flapping=True)) == [
        *always,
        ("Repeated", "2026-03-30T10:00:00.123456Z by rule_engine"),
        ("Note", "n"),
        ("Flapping", "it comes and goes"),
        ("Alarm", ALARM),
    ]
    assert messages.facts(None) == []


def test_secrets_of_a_request_are_not_shown() -> None:
    assert repr(HttpRequest("https://secret", b"b", {"a": "secret"})) == "HttpRequest(body=b'b')"


def test_a_webhook_carries_the_event_and_may_be_signed() -> None:
    config = WebhookConfig(url=SecretStr("https://e.com/x"), secret=SecretStr(SECRET), bearer_token=SecretStr("tok"))
    what = event()
    request = messages.webhook(config, sent(what))
    assert request.url == "https://e.com/x"
    assert body(request) == {
        "type": "alarm.repeated",
        "timestamp": "2026-03-30T10:00:00.123456Z",
        "policy_id": "one",
        "data": json.loads(wire.encode(what)),
    }
    signature = request.headers.pop("webhook-signature")
    assert request.headers == {
        "Content-Type": "application/json",
        "Idempotency-Key": DELIVERY,
        "X-Fleetlake-Attempt": "2",
        "webhook-id": DELIVERY,
        "webhook-timestamp": "1774864805",
        "Authorization": "Bearer tok",
    }
    assert signature.startswith("v1,")
    bare = messages.webhook(WebhookConfig(url=SecretStr("https://e.com/x")), sent(None))
    assert bare.headers.keys() == {
        *("Content-Type", "Idempotency-Key", "X-Fleetlake-Attempt", "webhook-id", "webhook-timestamp")
    }
    assert body(bare) == {
        "type": "test",
        "timestamp": "2026-03-30T10:00:05.123456Z",
        "policy_id": None,
        "data": {"message": "Sent to see whether this channel works. No alarm."},
    }


def test_slack_gets_the_facts_without_mentions_and_formats() -> None:
    request = messages.slack("https://hook", sent(event()))
    assert (request.url, request.headers["Idempotency-Key"]) == ("https://hook", DELIVERY)
    lines = [
        "*[CRITICAL] High temperature: sensor-001 (again)*",
        "environment.temperature &gt; 35; now 36.5 Cel",
        "Device: climasense:sensor-001",
        "Rule: High temperature",
        "Status: active",
        "Since: 2026-03-30T10:00:00.123456Z",
        "Occurrences: 2",
        "Repeated: 2026-03-30T10:00:00.123456Z by rule\N{ZERO WIDTH SPACE}_engine",
        f"Alarm: {ALARM}",
    ]
    assert body(request) == {
        "text": "[CRITICAL] High temperature: sensor-001 (again)",
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(lines)}}],
    }
    hostile = body(messages.slack("u", sent(event(title="<@a> & *b* ~c~ `d`"))))["text"]
    blank = "\N{ZERO WIDTH SPACE}"
    assert hostile == f"[CRITICAL] &lt;@a&gt; &amp; {blank}*b{blank}* {blank}~c{blank}~ {blank}`d{blank}` (again)"
    long = body(messages.slack("u", sent(event(message="m" * 4000))))["blocks"][0]["text"]["text"]
    assert len(long) == 3000


@pytest.mark.parametrize(
    ("severity", "status", "colour"),
    [
        ("critical", "active", "attention"),
        ("major", "active", "attention"),
        ("minor", "active", "warning"),
        ("warning", "acknowledged", "warning"),
        ("info", "active", "accent"),
        ("other", "active", "default"),
        ("critical", "resolved", "good"),
    ],
)
def test_teams_gets_a_card_in_the_colour_of_the_severity(severity: str, status: str, colour: str) -> None:
    request = messages.teams("https://hook", sent(event(status=status, severity=severity, title="a\\b [c](d) *e* _f_")))
    assert request.url == "https://hook"
    [attachment] = body(request)["attachments"]
    assert body(request)["type"] == "message"
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["contentUrl"] is None
    content = attachment["content"]
    first, second, table = content.pop("body")
    assert content == {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
    }
    assert first == {
        "type": "TextBlock",
        "text": f"\\[{severity.upper()}\\] a\\\\b \\[c\\](d) \\*e\\* \\_f\\_ (again)",
        "weight": "bolder",
        "size": "medium",
        "color": colour,
        "wrap": True,
    }
    assert second == {"type": "TextBlock", "text": "environment.temperature > 35; now 36.5 Cel", "wrap": True}
    assert table["type"] == "FactSet"
    assert table["facts"][0] == {"title": "Device", "value": "climasense:sensor-001"}
    assert len(table["facts"]) == 7


def test_a_test_card_has_the_default_colour() -> None:
    first, second, table = body(messages.teams("u", sent(None)))["attachments"][0]["content"]["body"]
    assert (first["color"], table["facts"]) == ("default", [])
    assert second["text"] == "Sent to see whether this channel works. No alarm."


def test_a_text_is_cut_to_its_length_and_has_a_sender_where_one_is_set() -> None:
    words = "[CRITICAL] High temperature: sensor-001 (again): environment.temperature > 35; now 36.5 Cel"
    config = SmsConfig(
        url=SecretStr("https://sms"), recipients=["+1"], max_chars=len(words), bearer_token=SecretStr("t")
    )
    request = messages.sms(config, sent(event()))
    assert (request.url, request.headers["Authorization"]) == ("https://sms", "Bearer t")
    assert body(request) == {"to": ["+1"], "text": words}
    shorter = config.model_copy(update={"max_chars": len(words) - 1, "sender": "me"})
    assert body(messages.sms(shorter, sent(event()))) == {"to": ["+1"], "text": words[:-2] + "…", "from": "me"}


ALERTS = AlertmanagerConfig(url=SecretStr("https://a.com/"), labels={"site": "n"}, bearer_token=SecretStr("t"))
LABELS = {
    "alertname": "High temperature",
    "severity": "critical",
    "rule_id": "high-temperature",
    "device_id": "climasense:sensor-001",
    "vendor": "climasense",
    "alarm_id": ALARM,
    "metric": "environment.temperature",
    "site": "n",
}


def test_an_alert_is_open_for_its_time() -> None:
    request = messages.alertmanager(ALERTS, sent(event()), HOUR)
    assert (request.url, request.headers["Authorization"]) == ("https://a.com/api/v2/alerts", "Bearer t")
    assert request.headers["Idempotency-Key"] == DELIVERY
    assert body(request) == [
        {
            "labels": LABELS,
            "annotations": {
                "summary": "High temperature: sensor-001",
                "description": "environment.temperature > 35; now 36.5 Cel",
                "status": "active",
            },
            "startsAt": "2026-03-30T10:00:00.123456Z",
            "endsAt": "2026-03-30T11:00:05.123456Z",
        }
    ]
    every = messages.alertmanager_open(ALERTS, [event(), event()], SENT, HOUR)
    assert body(every) == body(request) * 2
    assert every.headers == {"Content-Type": "application/json", "Authorization": "Bearer t"}
    assert every.url == request.url


@pytest.mark.parametrize(
    ("triggered", "resolved", "starts", "ends"),
    [(-60, -30, -60, -30), (-60, None, -60, 0), (-60, 30, -60, 0), (30, 60, 0, 0), (-30, -60, -30, -30)],
)
def test_an_alert_ends_within_its_life_and_not_in_the_future(
    triggered: int, resolved: int | None, starts: int, ends: int
) -> None:
    """Seconds from the sending."""

    def at(seconds: int) -> datetime:
        return SENT + timedelta(seconds=seconds)

    what = changed(
        event(status="resolved"), triggered_at=at(triggered), resolved_at=None if resolved is None else at(resolved)
    )
    [alert] = body(messages.alertmanager(ALERTS, sent(what), HOUR))
    assert [datetime.fromisoformat(alert[name]) for name in ("startsAt", "endsAt")] == [at(starts), at(ends)]


def test_an_alert_of_no_metric_has_no_such_label_and_a_test_lasts_a_minute() -> None:
    [alert] = body(messages.alertmanager(ALERTS, sent(changed(event(), metric=None)), HOUR))
    assert alert["labels"] == {name: value for name, value in LABELS.items() if name != "metric"}
    plain = AlertmanagerConfig(url=SecretStr("https://a.com"))
    request = messages.alertmanager(plain, sent(None), HOUR)
    assert "Authorization" not in request.headers
    assert body(request) == [
        {
            "labels": {"alertname": "FleetlakeTest", "severity": "info"},
            "annotations": {
                "summary": "fleetlake test notification",
                "description": "Sent to see whether this channel works. No alarm.",
            },
            "startsAt": "2026-03-30T10:00:05.123456Z",
            "endsAt": "2026-03-30T10:01:05.123456Z",
        }
    ]


@pytest.mark.parametrize(("sender", "domain"), [("Fleet <f@e.com>", "e.com"), ("f@e.com", "e.com")])
def test_a_mail_belongs_to_the_thread_of_its_alarm(sender: str, domain: str) -> None:
    config = EmailConfig(host="h", sender="f@e.com", recipients=["a@e.com", "b@e.com"]).model_copy(
        update={"sender": sender}
    )
    mail = messages.email(config, sent(event(title="Hot\nnews " + "x" * 300)))
    assert mail["To"] == "a@e.com, b@e.com"
    assert mail["Date"] == "Mon, 30 Mar 2026 10:00:05 +0000"
    assert mail["Message-ID"] == f"<{DELIVERY}@{domain}>"
    assert mail["References"] == f"<{ALARM}@{domain}>"
    assert (mail["Auto-Submitted"], mail["X-Fleetlake-Attempt"]) == ("auto-generated", "2")
    assert mail["Subject"].startswith("[CRITICAL] Hot news xxx") and len(mail["Subject"]) == 200
    lines = mail.get_content().splitlines()
    assert lines[:3] == ["environment.temperature > 35; now 36.5 Cel", "", "Device: climasense:sensor-001"]
    assert lines[-1] == f"Alarm: {ALARM}"
    test = messages.email(config, sent(None))
    assert test["References"] is None
    assert test.get_content() == "Sent to see whether this channel works. No alarm.\n\n"


# -- policies


def test_delivery_ids_stay_as_they_are() -> None:
    """Receivers recognise duplicates by them, also over an upgrade."""
    assert delivery_id("e", "p", "c") == "bef01099-0448-5263-b62d-872ed5a570e5"


@pytest.mark.parametrize(
    ("kind", "until", "snoozed"),
    [
        ("repeated", 1, True),
        ("repeated", 0, False),
        ("repeated", None, False),
        ("snoozed", 1, False),
        ("resolved", 1, False),
    ],
)
def test_until_when_an_alarm_is_snoozed(kind: str, until: int | None, snoozed: bool) -> None:
    ends = None if until is None else AT + timedelta(seconds=until)
    assert is_snoozed(event(kind, snoozed_until=ends)) is snoozed


@pytest.mark.parametrize(
    ("last", "cooling"),
    [
        (None, False),
        (LastNotified(AT - timedelta(seconds=60), "active"), False),
        (LastNotified(AT - timedelta(seconds=59), "active"), True),
        (LastNotified(AT - timedelta(seconds=1), "acknowledged"), False),
    ],
)
def test_how_long_a_policy_cools(last: LastNotified | None, cooling: bool) -> None:
    policy = Policy(channel_ids=["c"], cooldown_seconds=60)
    assert is_cooling(event(), policy, last) is cooling
