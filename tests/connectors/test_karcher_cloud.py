"""Kärcher end to end: simulated cloud on real sockets, real Kafka."""

from __future__ import annotations

import json
import logging
import re
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from connectors.common.context import Context
from connectors.common.publisher import Publisher
from connectors.karcher.checks import check
from connectors.karcher.connector import KarcherConnector
from schemas.envelope import GAP
from schemas.topics import DEVICES
from schemas.wire import decode_device
from tests.connectors.karcher import cloud, running
from tests.support.tails import OpenTail, RawTail
from tests.support.waiting import passing


async def test_a_fleet_arrives_in_kafka(
    publisher: Publisher,
    raw_tail: RawTail,
    tail: OpenTail,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    raw, devices = await raw_tail("karcher"), await tail(DEVICES)
    async with cloud() as (karcher, settings), running(KarcherConnector(settings, Context(publisher, tmp_path))):
        robots = {f"karcher:{m.native_id}" for m in karcher.fleet.machines if m.family != "other" and not m.retired}
        live = {f"karcher:{m.native_id}" for m in karcher.fleet.machines if not m.retired}
        envelopes = await raw.envelopes(
            lambda found: (
                {e.device_id for e in found if e.type == "karcher.datapoints"} >= robots
                and {e.device_id for e in found if e.type == "karcher.status"} >= live
                and {"karcher.cleaning.report", "karcher.notification"} <= {e.type for e in found}
            )
        )
        registry = await devices.until(lambda found: len(found) >= len(karcher.fleet.machines))
        token = karcher.tokens.issued[0]
    assert {decode_device(r.value or b"").device_id for r in registry} >= live
    assert len({e.id for e in envelopes if e.type != "karcher.status"}) == len(
        [e for e in envelopes if e.type != "karcher.status"]
    )
    everything = b"".join(e.data for e in envelopes).replace(b"\\", b"")
    assert re.findall(rb'"lockcode":{"code":([^}]*)}', everything) == [b'"[redacted]"'] * everything.count(
        b'"lockcode"'
    )
    assert b'"lockcode"' in everything and b'"macAddress"' in everything
    assert not re.search(rb"([0-9A-F]{2}:){5}|192\.168\.", everything)
    assert token not in caplog.text and "karcher-demo-secret" not in caplog.text


async def test_a_lost_connection_leaves_a_gap_and_reads_the_status_again(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("karcher")
    async with cloud() as (karcher, settings):
        slow = settings.model_copy(update={"status_seconds": 3600.0})
        async with running(KarcherConnector(slow, Context(publisher, tmp_path))):
            machine = next(m for m in karcher.fleet.machines if m.family != "other" and not m.retired)
            name = f"karcher:{machine.native_id}"
            await raw.envelopes(
                lambda found: {"karcher.datapoints", "karcher.status"} <= {e.type for e in found if e.device_id == name}
            )
            karcher.sockets.channels.of(machine.native_id).drop()
            found = await raw.envelopes(lambda found: any(e.type == GAP for e in found))
            gap = next(e for e in found if e.type == GAP)
            after = await raw.envelopes(
                lambda found: any(
                    e.type == "karcher.status" and e.device_id == name and e.received_at >= gap.received_at
                    for e in found
                )
            )
    assert gap.device_id == name and gap.source == "karcher/websocket"
    body = json.loads(gap.data)
    assert set(body) == {"from", "to", "reason", "channel"} and body["from"] <= body["to"]
    assert len(after) > 0


async def test_wrong_credentials_cost_at_most_ten_requests_in_ten_minutes(publisher: Publisher, tmp_path: Path) -> None:
    async with cloud() as (karcher, settings):
        asked: list[float] = []
        wait = karcher.tokens.limit.wait

        def count(key: str, now: float) -> float:
            asked.append(now)
            return wait(key, now)

        karcher.tokens.limit.wait = count  # type: ignore[method-assign]
        wrong = settings.model_copy(update={"client_secret": SecretStr("wrong")})
        for _ in range(30):  # neither restarts nor attempts beyond the limit make another request
            async with running(KarcherConnector(wrong, Context(publisher, tmp_path))):
                await passing(0.05, "each of the thirty processes lives for a moment")
        assert 1 < len(asked) <= 10


async def test_check_tells_a_wrong_secret_from_a_right_one(tmp_path: Path) -> None:
    async with cloud() as (_, settings):
        wrong = settings.model_copy(update={"client_secret": SecretStr("wrong")})
        results = await check(wrong, tmp_path)
        assert not results[0].ok and "401" in results[0].detail
        right = await check(settings, tmp_path)
        assert all(r.ok for r in right), right
        assert [r.name.removeprefix("karcher: ") for r in right] == [
            *("token", "registry", "cleaning reports", "notifications", "statuses", "command executions", "WebSocket")
        ]


async def test_an_expired_token_is_renewed_without_losing_the_fleet(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("karcher")
    async with cloud(token_seconds=2) as (karcher, settings):
        async with running(KarcherConnector(settings, Context(publisher, tmp_path))):
            await raw.envelopes(lambda found: any(e.type == "karcher.status" for e in found))
            await passing(2.5, "until the token of two seconds has expired")
            seen = time.time()
            await raw.envelopes(
                lambda found: any(e.type == "karcher.status" and e.received_at.timestamp() > seen for e in found)
            )
        assert 2 <= len(karcher.tokens.issued) <= 10
