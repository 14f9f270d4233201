"""A thousand devices of a vendor: what one process needs to hold them, and what happens when one of two is killed.

`python -m tests.load.ownership karcher|ogmen hold|kill [DEVICES] [SECONDS]`; real Kafka, real sockets, real processes.
Not a test: it takes minutes and tells figures, as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from fleetlake.local.broker import EmbeddedKafka
from runtime.aiokafka_internals.consumers import load_metadata
from runtime.kafka import KafkaSettings, declare_topics
from schemas.envelope import GAP, Envelope, read_envelope
from schemas.topics import raw_topic, topic_specs
from simulators.faults import FaultSettings
from simulators.karcher import KarcherCloud
from simulators.net import Channel, serve
from simulators.ogmen import OgmenCloud
from simulators.settings import KarcherSimulator, OgmenSimulator, SimulatorSettings
from tests.load.process import Connector
from tests.support.waiting import POLL_SECONDS, eventually, passing

RATE = 0.5
"""Messages a second and device."""


SOCKET = ("karcher.datapoints", "ogmen.channel")
"""Types of what comes by socket."""


class Fleet:
    """The simulated cloud of a vendor, with a book of every message that it has sent."""

    def __init__(self, vendor: str, devices: int) -> None:
        settings = SimulatorSettings(
            faults=FaultSettings.none(),
            cycle_seconds=600,
            karcher=KarcherSimulator(devices=devices + 1, rate=RATE),  # one more: it is not robotic
            ogmen=OgmenSimulator(devices=devices, rate=RATE, map_seconds=3600, chatter_every=1_000_000),
        )
        self.vendor = vendor
        clouds = {"karcher": KarcherCloud, "ogmen": OgmenCloud}
        self.cloud: Any = clouds[vendor](settings, time.time, lambda line: None)
        self.sent: dict[str, dict[bytes, float]] = defaultdict(dict)
        self.opened = 0
        for native_id, channel in self.cloud.sockets.channels.items():
            self._book(f"{vendor}:{native_id}", channel)

    def _book(self, device: str, channel: Channel) -> None:
        send, joined = channel.send, channel.joined

        async def booked(payload: bytes, besides: Any = None) -> None:
            if len(channel):
                self.sent[device][payload] = time.time()
            await send(payload, besides)

        def counted(*args: Any) -> Any:
            self.opened += 1
            return joined(*args)

        channel.send = booked  # type: ignore[method-assign]
        channel.joined = counted  # type: ignore[method-assign]

    def held(self) -> Counter[int]:
        """How many devices have how many sockets."""
        return Counter(self.cloud.sockets.channels.listeners().values())

    def config(self, port: int) -> str:
        """The vendor's section of the configuration."""
        urls = self.cloud.endpoints("127.0.0.1", port)
        if self.vendor == "karcher":
            return (
                f'[karcher]\ntoken_url = "{urls["karcher.token_url"]}"\napi_url = "{urls["karcher.rest_url"]}"\n'
                f'socket_url = "{urls["karcher.ws_url"]}"\nclient_id = "fleetlake-demo"\n'
                'client_secret = "karcher-demo-secret"\n'
            )
        robots = json.dumps([robot.device_id for robot in self.cloud.fleet.robots])
        return (  # all odometry is kept, and no REST: what was sent is what must come
            f'[ogmen]\nsocket_url = "{urls["ogmen.ws_url"]}"\ndevices = {robots}\nwebhook_port = -1\n'
            'privacy_path = ""\nodometry_hz = 0\ndeadband_metres = 0\ndeadband_degrees = 0\n'
        )


@asynccontextmanager
async def stage(vendor: str, devices: int) -> AsyncIterator[tuple[Fleet, Path, str]]:
    """Broker, cloud, and the configuration of a connector to both."""
    folder = Path(tempfile.mkdtemp(prefix=f"{vendor}-load-"))
    broker = EmbeddedKafka(folder / "kafka")
    await asyncio.to_thread(broker.start)
    try:
        await declare_topics(KafkaSettings(bootstrap_servers=broker.bootstrap), topic_specs())
        fleet = Fleet(vendor, devices)
        async with serve(fleet.cloud.app(), "127.0.0.1", 0) as port:
            config = folder / "fleetlake.toml"
            pipeline = f'[pipeline]\ndata = "{folder}"\n[kafka]\nbootstrap_servers = "{broker.bootstrap}"\n'
            config.write_text(pipeline + fleet.config(port))
            yield fleet, config, broker.bootstrap
    finally:
        await asyncio.to_thread(broker.stop)


async def all_held(fleet: Fleet, devices: int, seconds: float = 120) -> float:
    """Seconds until every device has a socket."""
    started = time.monotonic()
    await eventually(
        lambda: sum(count for sockets, count in fleet.held().items() if sockets) >= devices, seconds, fleet.held
    )
    return time.monotonic() - started


async def raw(vendor: str, bootstrap: str) -> list[Envelope]:
    """All that is in the raw topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    topic = raw_topic(vendor)
    await load_metadata(consumer, topic)
    partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
    consumer.assign(partitions)
    await consumer.seek_to_beginning()
    ends = await consumer.end_offsets(partitions)
    envelopes = []
    while any([await consumer.position(p) < end for p, end in ends.items()]):
        for records in (await consumer.getmany(timeout_ms=500)).values():
            envelopes += [read_envelope(r.value, r.headers) for r in records]
    await consumer.stop()
    return envelopes


def compare(fleet: Fleet, envelopes: list[Envelope]) -> dict[str, int]:
    """What was sent on sockets against what is in Kafka. Reports are left out: REST tells them as well."""
    sent = {(d, p) for d, payloads in fleet.sent.items() for p in payloads if b'"cleaningReport"' not in p}
    came = Counter((e.device_id, e.data) for e in envelopes if e.type in SOCKET)
    ids = Counter(e.id for e in envelopes)
    return {
        "sent": len(sent),
        "in_kafka": len(came),
        "sent_and_lost": len(sent - came.keys()),
        "in_kafka_twice": sum(came.values()) - len(came),
        "repeats_with_another_id": len(came) - len({e.id for e in envelopes if e.type in SOCKET}),
        "envelopes_twice": sum(ids.values()) - len(ids),
        "gaps": sum(1 for e in envelopes if e.type == GAP),
    }


async def hold(vendor: str, devices: int, seconds: int) -> dict[str, Any]:
    """One process holds all of them."""
    async with stage(vendor, devices) as (fleet, config, bootstrap):
        connector = Connector([vendor], config, config.parent / "connect.log")
        connected = await all_held(fleet, devices)
        before, started = connector.cpu_seconds(), time.monotonic()
        memory = []
        for _ in range(seconds):
            await passing(1, "between two samples of memory")
            memory.append(connector.memory_mib())
        share = (connector.cpu_seconds() - before) / (time.monotonic() - started)
        held = fleet.held()
        connector.stop()
        figures = compare(fleet, await raw(fleet.vendor, bootstrap))
    return {
        "devices": devices,
        "seconds": seconds,
        "all_connected_after_seconds": round(connected, 1),
        "sockets": dict(held),
        "memory_mib_first_last_most": [round(m) for m in (memory[0], memory[-1], max(memory))],
        "cpu_of_one_core": round(share, 3),
        "requests": {str(key): n for key, n in sorted(fleet.cloud.requests.items())},
        **figures,
    }


async def kill(vendor: str, devices: int, seconds: int) -> dict[str, Any]:
    """Two processes divide them; one is killed."""
    async with stage(vendor, devices) as (fleet, config, bootstrap):
        first = Connector([vendor], config, config.parent / "first.log")
        await all_held(fleet, devices)
        second = Connector([vendor], config, config.parent / "second.log")
        most, deadline = 0, time.monotonic() + 30
        while time.monotonic() < deadline:
            most = max(most, *fleet.held())
            await passing(POLL_SECONDS, "at every moment of these seconds none may be held twice")
        assert sum(fleet.held().values()) - fleet.held()[0] == devices, fleet.held()
        killed, before = time.time(), fleet.opened
        first.stop(signal.SIGKILL)
        await passing(0.5, "until the sockets of the killed process have fallen")
        lost = fleet.held()[0]
        again = 0.5 + await all_held(fleet, devices)
        moved = fleet.opened - before
        await asyncio.sleep(seconds)
        second.stop()
        envelopes = await raw(fleet.vendor, bootstrap)
        figures = compare(fleet, envelopes)
    gaps = [json.loads(e.data) for e in envelopes if e.type == GAP and e.received_at.timestamp() > killed]
    return {
        "devices": devices,
        "sockets_of_the_killed_process": lost,
        "most_sockets_of_a_device_at_a_time": most,
        "seconds_until_all_connected_again": round(again, 1),
        "sockets_opened_for_that": moved,
        "gap_events_after_the_kill": len(gaps),
        "messages_not_sent_meanwhile_at_most": round(lost * again * RATE),
        **figures,
    }


if __name__ == "__main__":
    vendor, what = sys.argv[1], {"hold": hold, "kill": kill}[sys.argv[2]]
    numbers = [int(text) for text in sys.argv[3:]]
    print(json.dumps(asyncio.run(what(vendor, *(numbers or [1000, 120]))), indent=1))
