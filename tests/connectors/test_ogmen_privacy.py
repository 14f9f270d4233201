"""Privacy mode of Ogmen's robots, and account data that no topic and no log may bear."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from connectors.common.publisher import Publisher
from schemas.envelope import Envelope
from schemas.topics import DEVICES
from simulators.ogmen.payloads import (
    OroRobot,
    Privacy,
    account,
    chatter,
    occupancy_map,
    odom,
    tf,
    with_account,
)
from tests.connectors.ogmen import (
    EVERYTHING,
    KINDS,
    SECRET,
    alert,
    cloud,
    polled,
    running,
    settings_for,
)
from tests.support.tails import OpenTail, RawTail, Tail

PRIVATE = ("ogmen.location.log", "ogmen.insight.log")


def tells_where(envelope: Envelope) -> bool:
    return envelope.type in PRIVATE or envelope.type == "ogmen.channel"


async def test_privacy_mode_is_heeded_within_a_poll_and_told(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("ogmen")
    async with cloud(devices=1) as (ogmen, urls):
        oro = ogmen.fleet.robots[0]
        often = {"state_seconds": 0.5, "log_seconds": 0.3}
        options = {"devices": [oro.device_id], "dogs": {oro.dog_id: oro.device_id}, "odometry_hz": 0}
        async with running(settings_for(**options, **often, **urls), publisher, tmp_path):
            await raw.envelopes(lambda found: {e.type for e in found} >= {"ogmen.channel", *PRIVATE})
            switched_on = time.time()
            ogmen.fleet.privacy[oro.device_id] = Privacy(True, switched_on, None)
            await polled(ogmen, 1, "privacy_mode")
            heeded = time.time()
            await polled(ogmen, 4, "connectivity_logs", "battery_status")  # places and insights are not asked for
            switched_off = time.time()
            ogmen.fleet.privacy[oro.device_id] = Privacy(False, switched_on, switched_off)
            found = await raw.envelopes(
                lambda found: any(tells_where(e) and e.received_at.timestamp() > switched_off for e in found)
            )
            await polled(ogmen, 3, "location_logs", "dog_insights")
            found = await raw.all_envelopes()
    during = [e for e in found if heeded < e.received_at.timestamp() < switched_off]
    assert [e.type for e in during if tells_where(e)] == []
    assert "ogmen.battery.log" in {e.type for e in during}, "the rest goes on"
    late = [e for e in found if e.type in PRIVATE and e.time and switched_on <= e.time.timestamp() <= switched_off]
    assert [e for e in late if e.received_at.timestamp() > heeded] == [], "nor is it caught up on afterwards"
    told = [json.loads(e.data)["privacy_mode_enabled"] for e in found if e.type == "ogmen.privacy.log"]
    assert told == [False, True, False], "each change once"


async def test_nothing_is_taken_as_long_as_privacy_cannot_be_read(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = await raw_tail("ogmen")
    async with cloud(devices=2) as (ogmen, urls):
        ids = [robot.device_id for robot in ogmen.fleet.robots]
        without = {"device_settings_path": ""}
        wrong = settings_for(devices=ids, state_seconds=0.2, privacy_path="/wrong/{device_id}", **without, **urls)
        async with running(wrong, publisher, tmp_path):
            found = await raw.envelopes(lambda found: sum(e.type == "ogmen.battery.log" for e in found) > 20)
    assert [e.type for e in found if tells_where(e)] == []
    (line,) = [r.getMessage() for r in caplog.records if "privacy" in r.getMessage()]
    assert line in [
        f"ogmen: cannot read privacy at /wrong/{robot} (HTTP 404); trying again; "
        "position and insights are left out unless the device settings report the privacy mode"
        for robot in ids
    ]


async def test_the_device_settings_tell_of_privacy_where_its_own_answer_does_not(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("ogmen")
    async with cloud(devices=2) as (ogmen, urls):
        private, public = (robot.device_id for robot in ogmen.fleet.robots)
        ogmen.fleet.privacy[private] = Privacy(True, time.time() - 60)
        often = {"slow_seconds": 0.2, "log_seconds": 0.2, "state_seconds": 0.2}
        wrong = settings_for(devices=[private, public], privacy_path="/wrong/{device_id}", **often, **urls)
        async with running(wrong, publisher, tmp_path):
            found = await raw.envelopes(
                lambda found: {e.type for e in found} >= {"ogmen.location.log", "ogmen.channel"}
            )
            await polled(ogmen, 3, "location_logs", "device_settings")
            found = await raw.all_envelopes()
    assert {e.device_id for e in found if tells_where(e)} == {f"ogmen:{public}"}


SECRETS = [
    *("OGM123", "user@example.com", "John Doe", "Who are you", "Premium Plus", "Monthly", "Buddy", "Golden Retriever"),
    *("Dr Vet", "Epilepsy", "POL-778", "photos.example.com", "under the mat", "High Street", "Oslo", "HomeWiFi"),
    *("192.168.", "24:cf:24", "registration", "secure_enclave"),
]


async def test_no_account_data_reaches_a_topic_or_a_log(
    publisher: Publisher, raw_tail: RawTail, dead_tail: Tail, tail: OpenTail, tmp_path: Path, caplog: Any
) -> None:
    """The documented payloads, with account data in all of them, by every way in; also broken in the middle."""
    caplog.set_level("DEBUG")
    raw, devices = await raw_tail("ogmen"), await tail(DEVICES)
    async with cloud(devices=2, account_leaks=True, odd_answers=True, chatter_every=2) as (ogmen, urls):
        oro = ogmen.fleet.robots[0]
        ids = [robot.device_id for robot in ogmen.fleet.robots]
        options = {"devices": ids, "accounts": [oro.account_id], "dogs": {oro.dog_id: oro.device_id}} | EVERYTHING
        often = {"state_seconds": 0.3, "log_seconds": 0.3, "slow_seconds": 0.3, "account_seconds": 0.3}
        async with running(settings_for(**options, **often, **urls), publisher, tmp_path) as connector:
            for payload in hostile_payloads(oro):
                await ogmen.sockets.send(oro.device_id, payload)
            base = f"http://127.0.0.1:{connector.webhook_port}/alerts/{oro.device_id}"
            async with aiohttp.ClientSession(headers={"X-Webhook-Secret": SECRET}) as http:
                leaking = with_account(oro, alert())
                for body in (leaking, leaking | {"severity": 9}):
                    await http.post(base, data=json.dumps(body).encode())
                await http.post(base, data=json.dumps(leaking).encode()[:-30])
            found = await raw.envelopes(lambda found: {e.type for e in found} >= {*KINDS, "ogmen.alert"}, 40)
            letters = await dead_tail.dead_letters(4)
            records = await devices.until(lambda records: len(records) >= 2)
            ogmen.refusing = 403
            await polled(ogmen, 1, "location_logs")
        asked = set(ogmen.requests)
    accounts = {robot.account_id for robot in ogmen.fleet.robots}
    everything = [e.data.decode() + str(e.headers()) for e in found]
    everything += [str(letter) for letter in letters]
    everything += [(r.value or b"").decode() for r in records]
    everything += [record.getMessage() for record in caplog.records]
    everything += [path.read_text() for path in (tmp_path / "ogmen").glob("*")]
    leaked = {secret for secret in {*SECRETS, *accounts} for text in everything if secret in text}
    assert leaked - {"secure_enclave"} == set()
    assert not asked & {"users", "subscriptions", "pets", "dogs"}, "what is about people is not even asked for"


def hostile_payloads(oro: OroRobot) -> list[bytes]:
    now = time.time()
    leaking = [
        with_account(oro, message)
        for message in (odom(oro, now), tf(oro, now), occupancy_map(oro, now, 40), chatter(oro, 0))
    ]
    whole = [json.dumps(message).encode() for message in leaking]
    return [
        *whole,
        json.dumps(account(oro)).encode(),
        json.dumps({"topic": "household", "msg": json.dumps(account(oro))}).encode(),
        *(payload[: len(payload) // 2] for payload in whole),
        whole[0].replace(b"John", b"John\xff"),
    ]
