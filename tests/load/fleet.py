"""Three thousand devices of three vendors in one process: what it takes to hold them.

`python -m tests.load.fleet [DEVICES] [SECONDS] [OGMEN_HZ]`: so many devices of Kärcher (0.5 messages a second), Ogmen
(OGMEN_HZ, default 5) and ClimaSense (a POST every 10 s each). Real Kafka, real sockets; the vendors are simulated in
another process. Not a test: it takes minutes and tells figures, as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from fleetlake.local.broker import EmbeddedKafka
from runtime.aiokafka_internals.consumers import load_metadata
from runtime.kafka import KafkaSettings, declare_topics
from runtime.ports import free_port
from schemas.topics import DEAD_LETTER, raw_topic, topic_specs
from simulators.climasense import write_keys
from simulators.ogmen.payloads import build_fleet
from tests.load.process import Connector
from tests.support.waiting import passing

VENDORS = ("karcher", "ogmen", "climasense")
SAMPLES_SECONDS = 1.0


def configuration(folder: Path, bootstrap: str, devices: int, ogmen_hz: float) -> tuple[Path, int]:
    """One file for the connectors and the simulators, and the port of the connectors' metrics."""
    ports = {name: free_port() for name in ("karcher", "ogmen", "climasense", "webhook", "health")}
    robots = [robot.device_id for robot in build_fleet(1, devices, 120.0)]
    write_keys(folder / "keys.json", devices, 1)
    karcher, ogmen = f"127.0.0.1:{ports['karcher']}", f"127.0.0.1:{ports['ogmen']}"
    path = folder / "fleetlake.toml"
    path.write_text(f"""
[pipeline]
data = "{folder}"
[kafka]
bootstrap_servers = "{bootstrap}"
[karcher]
token_url = "http://{karcher}/oauth2/token"
api_url = "http://{karcher}/external/v1"
socket_url = "ws://{karcher}"
client_id = "fleetlake-demo"
client_secret = "karcher-demo-secret"
[ogmen]
socket_url = "ws://{ogmen}/ws/{{device_id}}"
api_url = "http://{ogmen}"
devices = {json.dumps(robots)}
webhook_port = {ports["webhook"]}
webhook_secret = "ogmen-demo-secret"
state_seconds = 300
log_seconds = 900
[climasense]
port = {ports["climasense"]}
keys_file = "{folder}/keys.json"
[simulate.faults]
{chr(10).join(f"{kind} = 0" for kind in ("crossings", "malformed", "duplicates", "late", "disconnects"))}
[simulate.karcher]
devices = {devices + 1}
rate = 0.5
port = {ports["karcher"]}
[simulate.ogmen]
devices = {devices}
rate = {ogmen_hz}
port = {ports["ogmen"]}
map_seconds = 600
alert_seconds = 600
webhook_url = "http://127.0.0.1:{ports["webhook"]}/alerts/{{device_id}}"
[simulate.climasense]
devices = {devices}
rate = 0.1
poll_seconds = 120
url = "http://127.0.0.1:{ports["climasense"]}"
""")
    return path, ports["health"]


def simulator(vendor: str, config: Path) -> subprocess.Popen[bytes]:
    """A simulator as a process of its own."""
    log = (config.parent / f"simulate-{vendor}.log").open("w")
    command = [sys.executable, "-m", "fleetlake", "simulate", vendor, "--config", str(config)]
    return subprocess.Popen(command, stdout=log, stderr=log)


def metrics(port: int) -> dict[str, float]:
    """The connectors' own metrics, by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {m[1]: float(m[2]) for line in lines if (m := re.match(r"^([^#\s]\S*) (\S+)$", line))}


async def records(bootstrap: str) -> dict[str, int]:
    """How many records each raw topic, and that of the dead letters, has."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    ends_by_topic = {}
    try:
        for topic in (*map(raw_topic, VENDORS), DEAD_LETTER):
            await load_metadata(consumer, topic)
            ends = await consumer.end_offsets([TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)])
            ends_by_topic[topic] = sum(ends.values())
    finally:
        await consumer.stop()
    return ends_by_topic


async def sample(connector: Connector, port: int, seconds: int) -> dict[str, Any]:
    """Memory, CPU, and how long the process takes to answer, every second."""
    memory, waits = [], []
    before, started = connector.cpu_seconds(), time.monotonic()
    while time.monotonic() - started < seconds:
        await asyncio.sleep(SAMPLES_SECONDS)
        asked = time.monotonic()
        await asyncio.to_thread(metrics, port)
        waits.append(time.monotonic() - asked)
        memory.append(connector.memory_mib())
    share = (connector.cpu_seconds() - before) / (time.monotonic() - started)
    waits.sort()
    return {
        "memory_mib_first_last_most": [round(m) for m in (memory[0], memory[-1], max(memory))],
        "cpu_of_one_core": round(share, 3),
        "answer_of_metrics_seconds_median_most": [round(waits[len(waits) // 2], 3), round(waits[-1], 3)],
    }


async def hold(devices: int, seconds: int, ogmen_hz: float) -> dict[str, Any]:
    """Start everything, wait until all are connected, then look on."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-load-"))
    broker = EmbeddedKafka(folder / "kafka")
    await asyncio.to_thread(broker.start)
    with ExitStack() as stack:
        stack.callback(broker.stop)
        await declare_topics(KafkaSettings(bootstrap_servers=broker.bootstrap), topic_specs())
        config, port = configuration(folder, broker.bootstrap, devices, ogmen_hz)
        for vendor in VENDORS:
            process = simulator(vendor, config)
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        connector = Connector(VENDORS, config, folder / "connect.log", {"FLEETLAKE_PIPELINE__HEALTH_PORT": str(port)})
        stack.callback(connector.stop)
        started = time.monotonic()
        connected = await all_connected(port, devices)
        took = time.monotonic() - started
        before = await records(broker.bootstrap)
        figures = await sample(connector, port, seconds)
        after = await records(broker.bootstrap)
        links = {name: value for name, value in metrics(port).items() if name.startswith("fleetlake_conn")}
    log_lines = (config.parent / "connect.log").read_text().splitlines()
    return {
        "devices_a_vendor": devices,
        "seconds": seconds,
        "all_connected": connected,
        "all_connected_after_seconds": round(took, 1),
        **figures,
        "records_a_second": {topic: round((after[topic] - before[topic]) / seconds, 1) for topic in after},
        "links": links,
        "log": log_lines[-20:],
    }


async def all_connected(port: int, devices: int, seconds: float = 180) -> bool:
    """Whether both kinds of sockets are all up in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await passing(0.5, "between two requests for metrics")
        try:
            samples = await asyncio.to_thread(metrics, port)
        except OSError:
            continue
        if all(samples.get(f'fleetlake_connections{{vendor="{v}"}}', 0) >= devices for v in ("karcher", "ogmen")):
            return True
    return False


if __name__ == "__main__":
    numbers = [float(text) for text in sys.argv[1:]] + [1000, 300, 5][len(sys.argv) - 1 :]
    print(json.dumps(asyncio.run(hold(int(numbers[0]), int(numbers[1]), numbers[2])), indent=1))
