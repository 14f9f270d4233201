"""Ogmen's channels end to end: simulated cloud on real sockets, real Kafka."""

from __future__ import annotations

import json
import time
from pathlib import Path

from connectors.common.publisher import Publisher
from schemas.envelope import GAP
from tests.connectors.ogmen import (
    cloud,
    running,
    settings_for,
)
from tests.support.tails import RawTail, Tail
from tests.support.waiting import passing


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
            await passing(2, "the sampling rate is measured over these seconds")
            found = await raw.all_envelopes()
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
