"""What is read from Ogmen by REST: every endpoint, logs without holes, the robots of an account."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.common.publisher import Publisher
from connectors.ogmen.checks import check
from connectors.ogmen.settings import OgmenSettings
from schemas.envelope import Envelope
from schemas.topics import DEVICES
from simulators.ogmen.payloads import (
    LOG_SECONDS,
)
from tests.connectors.ogmen import (
    EVERYTHING,
    KINDS,
    Clock,
    cloud,
    polled,
    running,
    settings_for,
)
from tests.support.tails import OpenTail, RawTail
from tests.support.waiting import eventually


async def test_check(unused_port: Callable[[], int], tmp_path: Path) -> None:
    results = await check(OgmenSettings(webhook_port=unused_port()), tmp_path)
    assert {r.name: r.ok for r in results} == {
        "ogmen: devices": False,
        "ogmen: WebSocket": False,
        "ogmen: webhook secret": False,
        "ogmen: webhook": True,
    }


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
LOG_PATHS = ("device_activity", "connectivity_logs", "location_logs", "system_usage_logs")


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
                await polled(ogmen, 2, *LOG_PATHS)
                # on a busy machine, what was asked for to leave no hole may still be on its way
                await raw.envelopes(lambda found: all(whole(found, kind) for kind in LOGS))
        found = await raw.all_envelopes()
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
            await polled(ogmen, 2, "dog_insights")
            found = await raw.all_envelopes()
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
            await eventually(lambda: len(ogmen.sockets.listening) <= 1, 10)
            assert gone not in ogmen.sockets.listening and set(connector.registry.robots) == theirs - {gone}
