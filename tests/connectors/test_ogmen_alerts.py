"""Alerts that Ogmen posts to the webhook: acknowledged, refused, signed, posted again."""

from __future__ import annotations

import hmac
import json
import time
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from connectors.common.publisher import Publisher
from runtime.kafka import KafkaSettings
from tests.connectors.ogmen import (
    SECRET,
    alert,
    cloud,
    running,
    settings_for,
    webhook,
)
from tests.support.tails import RawTail, Tail


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
