"""MQTT packets as envelopes, attribute by attribute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest

from connectors.wayscloud import protocol
from connectors.wayscloud.protocol import Inbox, Packet, native_id, subscriptions
from schemas.envelope import Envelope

NOW = datetime(2026, 3, 30, 10, tzinfo=UTC)
FILTERS = ["devices/+/sensors/#", "own/+"]
TOPIC = "devices/s/sensors/t"


def envelope(
    payload: bytes, dup: bool = False, identity: str = "", inbox: Inbox | None = None, at: datetime = NOW
) -> Envelope:
    packet = Packet(TOPIC, payload, False, dup, identity)
    [made] = (inbox or Inbox(FILTERS)).packet(packet, at).envelopes
    return made


def test_a_packet_as_an_envelope() -> None:
    made = envelope(b"21.5")
    assert (made.type, made.source, made.device_id) == ("wayscloud.publish", "wayscloud/mqtt", "wayscloud:s")
    assert (made.received_at, made.data, made.time) == (NOW, b"21.5", None)
    assert made.attributes == {"mqtttopic": TOPIC}
    again = envelope(b"21.5", dup=True, identity="client/7")
    assert again.attributes == {"mqtttopic": TOPIC, "mqttpacket": "client/7", "mqttdup": "true"}


@pytest.mark.parametrize(
    ("payload", "kind"), [(b"21.5", "json"), (b'{"a": 1}', "json"), (b"eco", "plain"), (b"12:30", "plain")]
)
def test_a_payload_is_json_or_text(payload: bytes, kind: str) -> None:
    assert envelope(payload).content_type == ("application/json" if kind == "json" else "text/plain")


@pytest.mark.parametrize(
    ("payload", "hours"),
    [
        (b'{"timestamp": "2026-03-30T09:00:00Z"}', 1),
        (b' {"measured_at": "2026-03-30T08:00:00Z"}', 2),
        (b'{"timestamp": "2026-03-30T09:00:00Z", "measured_at": "2026-03-30T08:00:00Z"}', 1),
        (b'{"timestamp": "soon", "measured_at": "2026-03-30T08:00:00Z"}', 2),
        (b'{"timestamp": 3}', None),
        (b"[1]", None),
        (b"21.5", None),
    ],
)
def test_the_time_of_a_payload(payload: bytes, hours: int | None) -> None:
    made = envelope(payload)
    assert made.time == (None if hours is None else NOW - timedelta(hours=hours))
    inbox = Inbox(FILTERS)
    same = envelope(payload, inbox=inbox).id == envelope(payload, inbox=inbox).id
    assert same is (hours is not None), "without a time, equal payloads are two messages"


def test_untimed_packets_are_told_apart_by_receipt_and_number() -> None:
    inbox = Inbox(FILTERS)
    assert len({envelope(b"1", inbox=inbox).id for _ in range(3)}) == 3
    assert envelope(b"1", inbox=Inbox(FILTERS)).id == envelope(b"1", inbox=Inbox(FILTERS)).id
    assert envelope(b"1").id != envelope(b"1", at=NOW + timedelta(microseconds=1)).id


def test_the_memory_of_untimed_packets_is_bounded() -> None:
    with patch.object(protocol, "_REMEMBERED", 2):
        inbox = Inbox(FILTERS)
        first, second = envelope(b"1", inbox=inbox).id, envelope(b"2", inbox=inbox).id
        assert envelope(b"1", dup=True, inbox=inbox).id == first
        envelope(b"3", inbox=inbox)
        assert envelope(b"2", dup=True, inbox=inbox).id == second
        assert envelope(b"1", dup=True, inbox=inbox).id != first


def test_what_is_left_out_and_why() -> None:
    inbox = Inbox(FILTERS)
    assert inbox.packet(Packet(TOPIC, b"1", True, False), NOW).left_out == "retained"
    assert inbox.packet(Packet("other/s", b"1", False, False), NOW).left_out == "other_topic"
    [letter] = inbox.packet(Packet(TOPIC, b"", False, False), NOW).dead_letters
    assert [(each.path, each.reason, each.detail) for each in letter.problems] == [("", "missing", "an empty payload")]
    assert (letter.device_id, letter.vendor, letter.message_type) == ("wayscloud:s", "wayscloud", "wayscloud.publish")


@pytest.mark.parametrize(
    ("topic", "filters", "device"),
    [
        ("devices/s/sensors/t", FILTERS, "s"),
        ("devices/s/sensors", FILTERS, "s"),
        ("devices/s/other/t", FILTERS, None),
        ("own/s", FILTERS, "s"),
        ("own/s/t", FILTERS, None),
        ("own/", FILTERS, None),
        ("own/s", ["$share/g/own/+"], "s"),
        ("own/s", ["own/#"], None),
        ("a/b/c", ["+/b/+"], "a"),
        ("a/b", ["+/b/+"], None),
    ],
)
def test_the_device_is_the_level_at_the_first_plus(topic: str, filters: list[str], device: str | None) -> None:
    assert native_id(topic, filters) == device


def test_subscriptions_for_a_device_and_a_group() -> None:
    assert subscriptions(["a/+/+", "b/#"]) == ("a/+/+", "b/#")
    assert subscriptions(["a/+/+"], "g", "s") == ("$share/g/a/s/+",)
