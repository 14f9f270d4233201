"""Ogmen end to end: simulated cloud on real sockets, alerts by HTTP, real Kafka."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from connectors.common.http_client import RestClient
from connectors.common.publisher import Publisher
from connectors.ogmen.connector import check
from connectors.ogmen.endpoints import ENDPOINTS
from connectors.ogmen.settings import OgmenSettings
from runtime.kafka import KafkaSettings
from runtime.metrics import GAPS
from schemas.envelope import GAP, Envelope
from schemas.topics import DEVICES
from simulators.net import serve
from simulators.ogmen.payloads import (
    LOG_SECONDS,
    OroRobot,
    Privacy,
    account,
    chatter,
    occupancy_map,
    odom,
    tf,
    with_account,
)
from tests.connectors.ogmen import SECRET, Clock, alert, cloud, running, settings_for, webhook
from tests.support.tails import OpenTail, RawTail, Tail
from tests.support.waiting import eventually


async def test_robots_arrive_in_kafka_sampled_and_redacted(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("ogmen")
    async with cloud() as (ogmen, urls):
        ids = [robot.device_id for robot in ogmen.fleet.robots]
        settings = settings_for(devices=ids, state_seconds=1, odometry_hz=2, **urls)
        async with running(settings, publisher, tmp_path):
            started = time.monotonic()
            found = await raw.envelopes(
                lambda found: (
                    {e.device_id for e in found if e.type == "ogmen.channel"} == {f"ogmen:{i}" for i in ids}
                    and {"ogmen.battery.log", "ogmen.connectivity.log", "ogmen.location.log"} <= {e.type for e in found}
                    and any(b'"map"' in e.data or b'"/map"' in e.data for e in found)
                )
            )
            await asyncio.sleep(2)
            found = await raw.envelopes(lambda found: True)
            seconds = time.monotonic() - started
    channel = [json.loads(e.data) for e in found if e.type == "ogmen.channel"]
    odometry = [m for m in channel if m["topic"].strip("/") == "odom"]
    assert 0 < len(odometry) <= len(ids) * (2.3 * seconds + 2)
    assert all("topic" in m for m in channel)
    logs = b"".join(e.data for e in found if e.type.endswith(".log"))
    assert b'"ip_address":"[redacted]"' in logs and b"192.168." not in logs
    entries = [e.id for e in found if e.type == "ogmen.connectivity.log"]
    assert len(entries) == len(set(entries)), "each entry once"


async def test_a_lost_socket_leaves_a_gap(publisher: Publisher, raw_tail: RawTail, tmp_path: Path) -> None:
    raw = await raw_tail("ogmen")
    async with cloud() as (ogmen, urls):
        robot = ogmen.fleet.robots[0].device_id
        async with running(settings_for(devices=[robot], **urls), publisher, tmp_path):
            await raw.envelopes(lambda found: any(e.type == "ogmen.channel" for e in found))
            ogmen.sockets.channels.of(robot).drop()
            found = await raw.envelopes(lambda found: any(e.type == GAP for e in found))
    gap = next(e for e in found if e.type == GAP)
    assert (gap.device_id, json.loads(gap.data)["channel"]) == (f"ogmen:{robot}", "websocket")


async def test_an_alert_is_acknowledged_as_documented(publisher: Publisher, raw_tail: RawTail, tmp_path: Path) -> None:
    raw = await raw_tail("ogmen")
    one = alert()
    async with webhook(publisher, tmp_path) as post:
        assert await post(one) == (200, {"message": "Alert sent successfully.", "acknowledged": True})
        assert (await post(one | {"uuid": one["uuid"].upper()}))[0] == 200, "a redelivery is acknowledged again"
        assert (await post(alert(), device="robot%2F%C3%A4%20b"))[0] == 200
    found = await raw.envelopes(lambda found: len(found) >= 3)
    assert {e.type for e in found} == {"ogmen.alert"}
    assert len({e.id for e in found if e.device_id == "ogmen:robot-1"}) == 1
    assert any(e.device_id == "ogmen:robot/ä b" for e in found)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "the body is not JSON"),
        ([], 400, "the body must be an object"),
        (alert(uuid=None), 400, "uuid: is required"),
        (alert(uuid="7"), 400, "uuid: must be a UUID"),
        (alert(severity=6), 400, "severity: must be 1 to 5"),
        (alert(severity="1"), 400, "severity: must be an integer"),
        (alert(severity=True), 400, "severity: must be an integer"),
        (alert(timestamp="now"), 400, "timestamp: must be an ISO 8601"),
        (alert(header=3), 400, "header: must be a string"),
        (alert(body="x" * 70_000), 413, "the body must not be longer than 65536 bytes"),
    ],
)
async def test_a_bad_alert_is_named_and_kept(
    publisher: Publisher, dead_tail: Tail, tmp_path: Path, body: object, status: int, message: str
) -> None:
    async with webhook(publisher, tmp_path) as post:
        got, answer = await post(body)
    assert got == status and answer["message"].startswith(message) and answer["acknowledged"] is False
    letter = (await dead_tail.dead_letters(1))[-1]
    assert letter.device_id == "ogmen:robot-1" and letter.message_type == "ogmen.alert"


async def test_alerts_need_the_secret_and_keep_to_the_rate(publisher: Publisher, tmp_path: Path) -> None:
    async with webhook(publisher, tmp_path, alerts_per_minute=2) as post:
        for secret in (None, "", "wrong", "ä"):
            assert (await post(alert(), secret=secret))[0] == 401
        assert [(await post(alert()))[0] for _ in range(3)] == [200, 200, 429]
        assert (await post(alert(), device="other"))[0] == 200


async def test_an_alert_that_comes_before_the_publisher_is_connected_waits_for_it(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    publisher = Publisher(kafka_settings)
    async with webhook(publisher, tmp_path) as post:
        assert publisher.problem and not publisher.away
        assert (await post(alert()))[0] == 200
    await publisher.stop()


async def test_no_alert_is_acknowledged_while_kafka_is_away(tmp_path: Path) -> None:
    nowhere = Publisher(KafkaSettings(bootstrap_servers="127.0.0.1:9"))
    await nowhere.start()
    async with webhook(nowhere, tmp_path) as post:
        assert (await post(alert()))[0] == 503
    await nowhere.stop(0.1)


async def test_check(unused_port: Callable[[], int], tmp_path: Path) -> None:
    results = await check(OgmenSettings(webhook_port=unused_port()), tmp_path)
    assert {r.name: r.ok for r in results} == {
        "ogmen: devices": False,
        "ogmen: WebSocket": False,
        "ogmen: webhook secret": False,
        "ogmen: webhook": True,
    }


# -- what is read by REST

EVERYTHING = {
    "volume_path": "/volume/{device_id}",
    "display_brightness_path": "/display_brightness/{device_id}",
    "status_light_brightness_path": "/status_light_brightness/{device_id}",
}
KINDS = {f"ogmen.{endpoint.name}.log" for endpoint in ENDPOINTS}


@pytest.mark.parametrize("odd", [False, True], ids=["usual answers", "answers of every shape"])
async def test_every_endpoint_arrives(publisher: Publisher, raw_tail: RawTail, tmp_path: Path, odd: bool) -> None:
    raw = await raw_tail("ogmen")
    async with cloud(devices=1, odd_answers=odd) as (ogmen, urls):
        oro = ogmen.fleet.robots[0]
        options = {"devices": [oro.device_id], "dogs": {oro.dog_id: oro.device_id}} | EVERYTHING | urls
        often = {"state_seconds": 0.2, "log_seconds": 0.2, "slow_seconds": 0.2}
        async with running(settings_for(**options, **often), publisher, tmp_path):
            found = await raw.envelopes(lambda found: {e.type for e in found} >= KINDS)
    mine = [e for e in found if e.device_id == f"ogmen:{oro.device_id}"]
    assert {e.type for e in mine} >= KINDS
    for kind in ("connectivity", "location", "system_usage", "activity", "insight", "treat_bin", "privacy"):
        ids = [e.id for e in mine if e.type == f"ogmen.{kind}.log"]
        assert len(ids) == len(set(ids)), f"{kind}: each version once"


def versions(found: list[Envelope], kind: str) -> list[tuple[int, bytes]]:
    return [(json.loads(e.data)["log_id"], e.data) for e in found if e.type == f"ogmen.{kind}.log"]


LOGS = ("activity", "connectivity", "location", "system_usage")


def whole(found: list[Envelope], kind: str) -> bool:
    """Whether entries of the log came, and none is missing between the first and the last."""
    numbers = sorted({number for number, _ in versions(found, kind)})
    return bool(numbers) and numbers == list(range(numbers[0], numbers[-1] + 1))


async def test_new_and_changed_entries_come_once_also_over_a_restart(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("ogmen")
    clock = Clock()
    async with cloud(clock, devices=1) as (ogmen, urls):
        settings = settings_for(devices=[ogmen.fleet.robots[0].device_id], log_seconds=0.2, log_entries=20, **urls)
        for ahead in (0, 35, 500):  # entries are synced after 30 s, resolved after 60 s; 500 s are 50 new entries
            clock.ahead = float(ahead)
            async with running(settings, publisher, tmp_path):
                newest = int(clock() // LOG_SECONDS)
                await raw.envelopes(lambda found, n=newest: n in {i for i, _ in versions(found, "location")})
                await asyncio.sleep(1.0)
                # on a busy machine, what was asked for to leave no hole may still be on its way
                await raw.envelopes(lambda found: all(whole(found, kind) for kind in LOGS))
        found = await raw.envelopes(lambda found: True)
    for kind in LOGS:
        told = versions(found, kind)
        assert len(told) == len(set(told)), f"{kind}: a version came twice"
        assert whole(found, kind), f"{kind}: more was asked for, to leave no hole"
    synced = [e for e in found if e.type == "ogmen.connectivity.log" and e.attributes]
    assert synced and all(json.loads(e.data)["is_synced"] for e in synced)
    assert {e.attributes["changed"] for e in synced} == {"is_synced,synced_at"}
    resolved = [number for number, data in versions(found, "activity") if json.loads(data)["resolved"]]
    assert len(set(resolved) & {n for n, data in versions(found, "activity") if not json.loads(data)["resolved"]}) > 0


async def test_insights_come_by_the_dog_and_all_of_them_after_a_long_silence(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("ogmen")
    clock = Clock()
    async with cloud(clock, devices=2) as (ogmen, urls):
        one, other = ogmen.fleet.robots
        dogs = {one.dog_id: other.device_id}  # whatever the cloud thinks: the configuration says whose dog it is
        settings = settings_for(devices=[other.device_id], dogs=dogs, log_seconds=0.2, log_entries=5, **urls)

        def numbers(found: list[Envelope]) -> list[int]:
            insights = [e for e in found if e.type == "ogmen.insight.log"]
            assert {e.device_id for e in insights} <= {f"ogmen:{other.device_id}"}
            return [json.loads(e.data)["insight_id"] for e in insights]

        async with running(settings, publisher, tmp_path):
            await raw.envelopes(lambda found: len(numbers(found)) >= 5)
            clock.ahead = 2000.0
            newest = int(clock() // LOG_SECONDS)
            found = await raw.envelopes(lambda found: newest in numbers(found))
            await asyncio.sleep(0.5)
            found = await raw.envelopes(lambda found: True)
    told = numbers(found)
    assert len(told) == len(set(told)) and sorted(told) == list(range(min(told), max(told) + 1))
    assert min(told) > newest - 300, "what lies before the first reading is not asked for"


async def test_an_accounts_robots_are_found_registered_and_let_go(
    publisher: Publisher, raw_tail: RawTail, tail: OpenTail, tmp_path: Path
) -> None:
    raw, devices = await raw_tail("ogmen"), await tail(DEVICES)
    async with cloud(devices=4) as (ogmen, urls):
        account = ogmen.fleet.robots[0].account_id
        theirs = {robot.device_id for robot in ogmen.fleet.robots if robot.account_id == account}
        settings = settings_for(accounts=[account], account_seconds=0.2, **urls)
        async with running(settings, publisher, tmp_path) as connector:
            await raw.envelopes(
                lambda found: (
                    {e.device_id for e in found if e.type == "ogmen.channel"} == {f"ogmen:{i}" for i in theirs}
                )
            )
            records = await devices.until(lambda records: len({r.key for r in records}) >= 2)
            assert {r.key for r in records} == {f"ogmen:{i}".encode() for i in theirs}
            assert all(json.loads(r.value or b"")["model"] == "ORo" for r in records)
            assert not [r for r in records if account.encode() in (r.value or b"")]
            gone = ogmen.fleet.remove(ogmen.fleet.robots[0].device_id)
            async with asyncio.timeout(10):
                while len(ogmen.sockets.listening) > 1:
                    await asyncio.sleep(0.05)
            assert gone not in ogmen.sockets.listening and set(connector._robots) == theirs - {gone}


async def test_maps_go_raw_up_to_what_kafka_takes_and_larger_ones_do_not_end_the_connection(
    publisher: Publisher, raw_tail: RawTail, dead_tail: Tail, tmp_path: Path
) -> None:
    raw = await raw_tail("ogmen")
    header = (
        b'{"topic":"map","header":{"stamp":{"sec":1,"nanosec":2},"frame_id":"map"},"info":{"resolution":0.05},"data":['
    )
    large, too_large = (header + b"0," * cells + b"100]}" for cells in (4_100_000, 5_000_000))
    async with cloud(devices=1) as (ogmen, urls):
        robot = ogmen.fleet.robots[0].device_id
        async with running(settings_for(devices=[robot], socket_url=urls["socket_url"]), publisher, tmp_path):
            await ogmen.sockets.send(robot, too_large)
            await ogmen.sockets.send(robot, large)
            found = await raw.envelopes(lambda found: any(e.data == large for e in found), 40)
            (letter,) = await dead_tail.dead_letters(1)
    assert (letter.problems[0].reason, letter.payload_bytes) == ("too_large", len(too_large))
    assert not [e for e in found if e.type == GAP]


# -- privacy mode

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
            await asyncio.sleep(1.2)  # a poll and some
            heeded = time.time()
            await asyncio.sleep(2)
            switched_off = time.time()
            ogmen.fleet.privacy[oro.device_id] = Privacy(False, switched_on, switched_off)
            found = await raw.envelopes(
                lambda found: any(tells_where(e) and e.received_at.timestamp() > switched_off for e in found)
            )
            await asyncio.sleep(1)
            found = await raw.envelopes(lambda found: True)
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
    assert [r.getMessage() for r in caplog.records if "privacy" in r.getMessage()] == [
        "ogmen: cannot read privacy (HTTP 404); trying again; "
        "position and insights are left out unless the device settings tell it"
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
            await asyncio.sleep(1)
            found = await raw.envelopes(lambda found: True)
    assert {e.device_id for e in found if tells_where(e)} == {f"ogmen:{public}"}


# -- account data

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
            await asyncio.sleep(0.5)
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


# -- outages


async def test_two_hundred_sockets_that_fall_together_do_not_storm_back(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    raw = await raw_tail("ogmen")
    gaps = GAPS.labels("ogmen")._value.get()
    async with cloud(devices=200, rate=0.5, map_cells=4, map_seconds=600) as (ogmen, urls):
        ids = [robot.device_id for robot in ogmen.fleet.robots]
        settings = settings_for(devices=ids, handshakes_per_second=50, socket_url=urls["socket_url"])
        async with running(settings, publisher, tmp_path):
            await eventually(lambda: len(ogmen.sockets.listening) == 200)
            ogmen.refusing = 503
            ogmen.sockets.channels.drop_all()
            dropped = time.monotonic()
            await eventually(lambda: not ogmen.sockets.listening)
            await asyncio.sleep(2)
            ogmen.refusing = None
            await eventually(lambda: len(ogmen.sockets.listening) == 200)
            found = await raw.envelopes(lambda found: sum(e.type == GAP for e in found) >= 200)
    attempts = [at for at in ogmen.sockets.handshakes if at >= dropped]
    for start in attempts:
        assert len([at for at in attempts if start <= at < start + 1]) <= 120, "the pace is kept"
    assert len(attempts) < 200 * 8, "and it slows down"
    assert sorted(e.device_id for e in found if e.type == GAP) == sorted(f"ogmen:{i}" for i in ids), "a gap each"
    body = json.loads(next(e.data for e in found if e.type == GAP))
    assert set(body) == {"from", "to", "reason", "channel"} and body["from"] < body["to"]
    assert GAPS.labels("ogmen")._value.get() - gaps == 200
    lines = [r.getMessage() for r in caplog.records if r.name == "connectors.common.connection_state"]
    down, up = ([line for line in lines if words in line] for words in ("no connection", "connected again"))
    assert (len(down), len(up), len(lines)) == (200, 200, 400), "one line down and one up, for each"


async def test_an_outage_of_the_api_is_one_line_down_one_up_and_a_gap(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(RestClient, "attempts", 1)
    raw = await raw_tail("ogmen")
    async with cloud(devices=10) as (ogmen, urls):
        ids = [robot.device_id for robot in ogmen.fleet.robots]
        settings = settings_for(
            devices=ids, state_seconds=0.3, log_seconds=0.3, slow_seconds=0.3, api_url=urls["api_url"]
        )
        async with running(settings, publisher, tmp_path):
            await raw.envelopes(lambda found: {e.device_id for e in found} >= {f"ogmen:{i}" for i in ids})
            ogmen.refusing = 503
            await eventually(lambda: any("does not answer" in r.getMessage() for r in caplog.records))
            await asyncio.sleep(0.5)
            before = sum(ogmen.requests.values())
            await asyncio.sleep(1)
            probes = sum(ogmen.requests.values()) - before
            ogmen.refusing = None
            found = await raw.envelopes(lambda found: sum(e.type == GAP for e in found) >= 10)
            await asyncio.sleep(0.5)
    assert 1 <= probes <= 30, "single requests see whether it is back"
    assert {e.device_id for e in found if e.type == GAP} == {f"ogmen:{i}" for i in ids}
    assert {json.loads(e.data)["channel"] for e in found if e.type == GAP} == {"rest"}
    lines = [r.getMessage() for r in caplog.records if "the API at" in r.getMessage()]
    assert lines == [
        "ogmen: the API at 127.0.0.1 does not answer (HTTP 503); trying again",
        "ogmen: the API at 127.0.0.1 answers again",
    ]


async def test_an_endpoint_that_is_missing_stops_no_other(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    raw = await raw_tail("ogmen")
    async with cloud(devices=3) as (ogmen, urls):
        ids = [robot.device_id for robot in ogmen.fleet.robots]
        settings = settings_for(devices=ids, log_seconds=0.2, connectivity_path="/nowhere/{device_id}", **urls)
        async with running(settings, publisher, tmp_path):
            found = await raw.envelopes(
                lambda found: (
                    {(e.device_id, e.type) for e in found if e.type in ("ogmen.location.log", "ogmen.activity.log")}
                    >= {(f"ogmen:{i}", f"ogmen.{kind}.log") for i in ids for kind in ("location", "activity")}
                )
            )
            await asyncio.sleep(0.5)
    assert {e.device_id for e in found if e.type == "ogmen.location.log"} == {f"ogmen:{i}" for i in ids}
    assert [r.getMessage() for r in caplog.records if "cannot read" in r.getMessage()] == [
        "ogmen: cannot read connectivity (HTTP 404); trying again"
    ]


async def test_an_answer_that_cannot_be_used_is_a_dead_letter_once(
    publisher: Publisher, dead_tail: Tail, tmp_path: Path
) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>Log in, John Doe <user@example.com></html>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/{anything:.*}", page)
    async with serve(app, "127.0.0.1", 0) as port:
        settings = settings_for(devices=["r"], state_seconds=0.1, api_url=f"http://127.0.0.1:{port}")
        async with running(settings, publisher, tmp_path):
            await dead_tail.dead_letters(2)
            await asyncio.sleep(1)
            letters = await dead_tail.dead_letters(2)
    kinds = [letter.message_type for letter in letters]
    assert len(kinds) == len(set(kinds)) and "ogmen.battery.log" in kinds
    assert not [letter for letter in letters if "user@" in letter.payload]


async def test_signed_alerts(publisher: Publisher, raw_tail: RawTail, tmp_path: Path) -> None:
    raw = await raw_tail("ogmen")
    key = SecretStr("signing key")
    options = {"signature_secret": key, "signature_timestamp_header": "X-Time", "webhook_secret": None}
    async with running(settings_for(**options), publisher, tmp_path) as connector:
        url = f"http://127.0.0.1:{connector.webhook_port}/alerts/robot-1"
        async with aiohttp.ClientSession() as http:

            async def post(body: bytes, at: float, secret: str = "signing key") -> int:
                moment = str(int(at))
                digest = hmac.digest(secret.encode(), moment.encode() + b"." + body, "sha256").hex()
                headers = {"X-Time": moment, "X-Signature": f"sha256={digest}"}
                async with http.post(url, data=body, headers=headers) as response:
                    return response.status

            body = json.dumps(alert(link_for_large_image="https://assets.example.com/x.gif")).encode()
            assert await post(body, time.time()) == 200
            assert await post(body, time.time(), secret="another") == 401
            assert await post(body, time.time() - 3600) == 401
            assert await post(b"x" * 100_000, time.time()) == 413
            async with http.post(url, data=body, headers={"X-Webhook-Secret": SECRET}) as response:
                assert response.status == 401
    (found,) = await raw.envelopes(lambda found: len(found) >= 1)
    assert found.data == body, "links and all"


async def test_the_secret_is_demanded_beside_the_signature(publisher: Publisher, tmp_path: Path) -> None:
    async with running(settings_for(signature_secret=SecretStr("k")), publisher, tmp_path) as connector:
        url = f"http://127.0.0.1:{connector.webhook_port}/alerts/robot-1"
        body = json.dumps(alert()).encode()
        signature = {"X-Signature": "sha256=" + hmac.digest(b"k", body, "sha256").hex()}
        async with aiohttp.ClientSession() as http:
            for headers, status in (
                ({}, 401),
                ({"X-Webhook-Secret": SECRET}, 401),
                (signature, 401),
                (signature | {"X-Webhook-Secret": SECRET}, 200),
            ):
                async with http.post(url, data=body, headers=headers) as response:
                    assert response.status == status


async def test_robots_that_post_again_though_they_were_answered(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("ogmen")
    async with running(settings_for(), publisher, tmp_path) as connector:
        url = f"http://127.0.0.1:{connector.webhook_port}/alerts/{{device_id}}"
        simulated = {"webhook_url": url, "webhook_secret": SecretStr(SECRET), "alert_seconds": 0.5}
        async with cloud(alert_repeats=True, **simulated) as (ogmen, _), ogmen.alerts.posting():
            found = await raw.envelopes(lambda found: len(found) >= 12)
    by_alert: dict[str, set[str]] = {}
    for envelope in found:
        by_alert.setdefault(json.loads(envelope.data)["uuid"].lower(), set()).add(envelope.id)
    assert all(len(ids) == 1 for ids in by_alert.values()), "one id, whatever the case of its letters"
    assert len(by_alert) < len(found)
