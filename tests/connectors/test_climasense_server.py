"""ClimaSense end to end: HTTP on loopback, real Kafka."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from connectors.climasense.checks import check
from connectors.climasense.connector import ClimasenseConnector
from connectors.climasense.protocol import Provisioned
from connectors.climasense.settings import ClimasenseSettings
from connectors.climasense.store.store import open_store
from connectors.common.context import Context
from connectors.common.coverage import Coverage
from connectors.common.publisher import Publisher
from runtime.api_keys import hash_key
from runtime.kafka import KafkaSettings
from tests.support.tails import RawTail, Tail
from tests.support.waiting import eventually

KEY = "sk_device_0123456789"
DOCUMENTED = {
    "latitude": 37.7749,
    "longitude": -122.4194,
    "readings": [
        {"sensor_type": "temperature", "value": 23.5, "timestamp": "2026-03-29T12:00:00Z"},
        {"sensor_type": "humidity", "value": 45.2, "timestamp": "2026-03-29T12:00:00Z"},
        {"sensor_type": "battery_level", "value": 87, "timestamp": "2026-03-29T12:00:00Z"},
    ],
}


@asynccontextmanager
async def server(
    publisher: Publisher, folder: Path, coverage: Coverage | None = None, **options: Any
) -> AsyncIterator[Callable[..., Any]]:
    """`await post(body, key)` answers status, JSON and headers."""
    keys = folder / "keys.json"
    keys.write_text(json.dumps({"hub-1": hash_key(KEY), "sensor/ä": hash_key("other")}))
    settings = ClimasenseSettings(**{"port": 0, "keys_file": keys, **options})
    connector = ClimasenseConnector(settings, Context(publisher, folder, coverage=coverage or Coverage()))
    task = asyncio.create_task(connector.run())
    await eventually(lambda: connector.port)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{connector.port}") as http:

        async def post(body: object, key: str | None = KEY) -> tuple[int, dict[str, Any], Any]:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            async with http.post("/v1/telemetry", data=data, headers=headers) as response:
                return response.status, await response.json(), response.headers

        try:
            yield post
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_the_documented_body_is_accepted_once_kafka_has_it(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("climasense")
    async with server(publisher, tmp_path) as post:
        body = json.dumps(DOCUMENTED, indent=1).encode()
        for _ in range(2):  # a retry has the same id
            status, answer, _headers = await post(body)
            assert (status, answer["accepted"]) == (200, 3)
        status, answer, _headers = await post(DOCUMENTED, "other")
        assert status == 200
    found = await raw.envelopes(lambda found: len(found) >= 3)
    assert [e.data for e in found if e.device_id == "climasense:hub-1"] == [body, body]
    assert len({e.id for e in found if e.device_id == "climasense:hub-1"}) == 1
    assert {e.device_id for e in found} == {"climasense:hub-1", "climasense:sensor/ä"}


class _Unreported(Coverage):
    """Kafka does not know yet that we listen."""

    def __init__(self) -> None:
        self.reported = asyncio.Event()

    async def listening(self, channel: str = "", device: str = "") -> None:
        await self.reported.wait()


async def test_nothing_is_taken_before_kafka_knows_that_we_listen(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw, coverage = await raw_tail("climasense"), _Unreported()
    async with server(publisher, tmp_path, coverage, ack_timeout_seconds=0.05) as post:
        status, _, headers = await post(DOCUMENTED)
        assert (status, headers["Retry-After"]) == (503, "5"), "the device keeps it"
        coverage.reported.set()
        known_at = datetime.now(UTC)
        await eventually(lambda: _is_taken(post))
    (taken,) = await raw.envelopes(lambda found: bool(found))
    assert taken.received_at >= known_at


async def _is_taken(post: Callable[..., Any]) -> bool:
    status, _, _ = await post(DOCUMENTED)
    return bool(status == 200)


async def test_one_bad_reading_does_not_cost_the_good_ones(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("climasense")
    bad: list[Any] = [
        {"sensor_type": "temperature", "value": "warm"},
        {"value": 3},
        {"sensor_type": "iaq", "value": True},
        {"sensor_type": "iaq", "value": 3, "timestamp": "yesterday"},
        7,
    ]
    async with server(publisher, tmp_path) as post:
        status, answer, _ = await post({"readings": [*bad, *DOCUMENTED["readings"]]})  # type: ignore[misc]
    assert (status, answer["accepted"]) == (200, 3)
    found = await raw.envelopes(lambda found: len(found) >= 1)
    assert len(json.loads(found[-1].data)["readings"]) == 8


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"readings":[', 400, "the body is not JSON"),
        (b"\xff", 400, "the body is not JSON in UTF-8"),
        ([], 400, "the body must be an object"),
        ({}, 400, "readings: is required"),
        ({"readings": "x"}, 400, "readings: must be an array"),
        ({"readings": []}, 400, "readings: must hold 1 to 100 readings, not 0"),
        ({"readings": [{}] * 101}, 400, "readings: must hold 1 to 100 readings, not 101"),
        ({"readings": [{}], "latitude": 90.1}, 400, "latitude: must be between -90 and 90"),
        ({"readings": [{}], "longitude": "east"}, 400, "longitude: must be a number"),
        (b"x" * 1_048_576, 413, "the body must not be longer than 262144 bytes"),
    ],
)
async def test_a_malformed_body_is_named_and_kept(
    publisher: Publisher, dead_tail: Tail, tmp_path: Path, body: object, status: int, message: str
) -> None:
    async with server(publisher, tmp_path) as post:
        got, answer, _ = await post(body)
    assert (got, answer["error"]) == (status, "invalid_request" if status == 400 else "payload_too_large")
    assert answer["message"].startswith(message)
    letter = (await dead_tail.dead_letters(1))[-1]
    assert (letter.device_id, letter.stage) == ("climasense:hub-1", "connector")
    assert letter.payload_bytes == len(body if isinstance(body, bytes) else json.dumps(body).encode())


async def test_an_unknown_key_is_refused_as_documented(publisher: Publisher, tmp_path: Path) -> None:
    async with server(publisher, tmp_path) as post:
        for key in (None, "", "wrong", hash_key(KEY)):
            status, answer, _ = await post(DOCUMENTED, key)
            assert (status, answer) == (401, {"error": "unauthorized", "message": "Invalid or missing API key"})
        keys = tmp_path / "keys.json"
        keys.write_text(json.dumps({"hub-1": hash_key("renewed")}))

        async def is_gone() -> bool:
            return (await post(DOCUMENTED, KEY))[0] == 401

        await eventually(is_gone)
        assert (await post(DOCUMENTED, "renewed"))[0] == 200


async def test_a_key_of_any_bytes_is_refused_before_the_body_is_read(
    publisher: Publisher, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    port = unused_port()
    async with server(publisher, tmp_path, port=port):
        for key in (b"\xff", b"\xed\xa0\x80", b"wrong", b"\xc3"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /v1/telemetry HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nAuthorization: Bearer ")
            writer.write(key + b"\r\n\r\n{")  # the body never comes
            assert await asyncio.wait_for(reader.readline(), 30) == b"HTTP/1.1 401 Unauthorized\r\n"
            writer.close()


async def test_a_body_that_is_not_compressed_as_it_says_is_named_and_kept(
    publisher: Publisher, dead_tail: Tail, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    port = unused_port()
    async with server(publisher, tmp_path, port=port), aiohttp.ClientSession() as http:
        for data, status in (
            (json.dumps(DOCUMENTED).encode(), 400),
            (gzip.compress(json.dumps(DOCUMENTED).encode()), 200),
        ):
            headers = {"Authorization": f"Bearer {KEY}", "Content-Encoding": "gzip"}
            url = f"http://127.0.0.1:{port}/v1/telemetry"
            async with http.post(url, data=data, headers=headers) as answer:
                assert (answer.status, (await answer.json()).get("message", "")) == (
                    status,
                    "the body is not gzip" if status == 400 else "",
                )
    letter = (await dead_tail.dead_letters(1))[-1]
    assert (letter.device_id, letter.problems[0].reason) == ("climasense:hub-1", "invalid_encoding")


async def test_a_device_that_floods_is_told_when_to_come_again(publisher: Publisher, tmp_path: Path) -> None:
    async with server(publisher, tmp_path, requests_per_minute=2) as post:
        statuses = [(await post(DOCUMENTED))[0] for _ in range(3)]
        status, answer, headers = await post(DOCUMENTED)
        assert statuses == [200, 200, 429] and status == 429 and answer["error"] == "rate_limited"
        assert 1 <= int(headers["Retry-After"]) <= 60
        assert (await post(DOCUMENTED, "other"))[0] == 200


async def test_while_kafka_is_away_the_device_keeps_its_readings(kafka: str, tmp_path: Path) -> None:
    nowhere = Publisher(KafkaSettings(bootstrap_servers="127.0.0.1:9"))
    await nowhere.start()
    async with server(nowhere, tmp_path, ack_timeout_seconds=0.3) as post:
        for body in (DOCUMENTED, b"{"):
            status, answer, headers = await post(body)
            assert (status, answer["error"]) == (503, "unavailable") and int(headers["Retry-After"]) > 0
    await nowhere.stop(0.1)


async def test_check_says_what_is_missing(tmp_path: Path, unused_port: Callable[[], int]) -> None:
    keys, state, port = tmp_path / "keys.toml", tmp_path / "state", unused_port()

    async def results(**options: Any) -> dict[str, tuple[bool, str]]:
        found = await check(ClimasenseSettings(port=port, **options), state)
        return {result.name.removeprefix("climasense: "): (result.ok, result.detail) for result in found}

    ok, detail = (await results())["database"]
    assert not ok and "fleetlake keys create" in detail and not state.exists()
    ok, detail = (await results(database_url=SecretStr("nosuch://u:hush@h/d")))["database"]
    assert not ok and "hush" not in detail
    found = await results(keys_file=keys)
    assert [ok for ok, _ in found.values()] == [True, False, True] and "No such file" in found["keys file"][1]
    keys.write_text(f'"a.b" = "{hash_key("k")}"\n')
    assert [ok for ok, _ in (await results(keys_file=keys)).values()] == [True, True, True]
    keys.write_text('a = "short"\n')
    assert "device 'a': not a SHA-256" in (await results(keys_file=keys))["keys file"][1]
    store = open_store(None, state)
    assert (await results())["database"][0] is False
    store.keys.add(Provisioned("d", hash_key("k")), datetime.now(UTC))
    assert (await results())["database"] == (True, "1 key(s) in force")
    store.close()
