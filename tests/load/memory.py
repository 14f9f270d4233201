"""`make memory`: what each process holds while the next one is away, under the largest messages there are.

`python -m tests.load.memory [MESSAGES]` sends that many messages of 7 MB by MQTT while Kafka is frozen, lets it go on,
starts a stream worker only when all is in the raw topic, and a Delta sink only when all is normalised. It prints the
peak of each process's resident memory, and ends with status 1 where a message is missing or twice.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from deltalake import DeltaTable

from fleetlake.local.broker import EmbeddedKafka
from runtime.kafka import KafkaSettings, declare_topics
from runtime.ports import free_port
from schemas.topics import READINGS, raw_topic, topic_specs
from tests.connectors.wayscloud import mosquitto_broker, sensors
from tests.load.process import Stage, memory_mib
from tests.support.kafka import read_all
from tests.support.waiting import eventually, passing

PAYLOAD_BYTES = 7_000_000
PARTITIONS = 4
FROZEN_SECONDS = 20.0
PROBE = b'{"value":-1,"timestamp":"2026-03-15T00:00:00Z"}'


class Peak:
    """The highest resident memory of a process, looked at ten times per second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.before = self.mib = memory_mib(pid)
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            self.mib = max(self.mib, memory_mib(self._pid))
            await passing(0.1, "between two samples")

    def stop(self) -> float:
        """Look no more; the peak."""
        self._task.cancel()
        return self.mib


@asynccontextmanager
async def running(command: list[str], config: Path, ready: Callable[[str], bool]) -> AsyncIterator[Stage]:
    """A stage, from when its log shows that it is ready."""
    log = config.parent / f"{command[0]}.log"
    stage = Stage(command, config, log)
    try:
        await eventually(lambda: ready(log.read_text()), 60, log.read_text)
        yield stage
    finally:
        await asyncio.to_thread(stage.stop)


def payload(number: int) -> bytes:
    """A message of its own; its padding is a field that nobody knows, and is kept."""
    return b'{"value":%d,"timestamp":"2026-03-16T00:00:00.%06dZ","padding":"%s"}' % (
        number,
        number,
        b"x" * PAYLOAD_BYTES,
    )


async def numbers_in(kafka: str, topic: str) -> int:
    """How many records a topic holds."""
    return sum(len(records) for records in (await read_all(kafka, topic, PARTITIONS)).values())


async def connector(broker: EmbeddedKafka, config: Path, port: int, messages: int) -> str:
    """Send while Kafka is frozen; the result's line."""
    async with running(["connect", "wayscloud"], config, lambda _: True) as stage:
        pid = broker.pid
        assert pid is not None
        async with sensors(port) as send:
            raw = raw_topic("wayscloud")
            before = 0
            while not before:  # the same message, until the connector has subscribed and it arrives
                await send("devices/d/sensors/mode", PROBE)
                await passing(1, "between two samples")
                before = await numbers_in(broker.bootstrap, raw)
            peak = Peak(stage.process.pid)
            os.kill(pid, signal.SIGSTOP)
            started = time.monotonic()
            try:
                for number in range(messages):
                    await send(f"devices/d{number % 50}/sensors/mode", payload(number))
                await asyncio.sleep(max(0.0, FROZEN_SECONDS - (time.monotonic() - started)))
                frozen = peak.mib
            finally:
                os.kill(pid, signal.SIGCONT)
            await eventually(lambda: _holds(broker.bootstrap, raw_topic("wayscloud"), messages + 1), 600)
        return (
            f"connector, Kafka frozen for {FROZEN_SECONDS:.0f} s | {peak.before:.0f} | {frozen:.0f} | {peak.stop():.0f}"
        )


async def _holds(kafka: str, topic: str, number: int) -> bool:
    return await numbers_in(kafka, topic) >= number


async def stream_worker(broker: EmbeddedKafka, config: Path, messages: int) -> str:
    """Normalise all that waits; the result's line."""
    async with running(["stream"], config, lambda _: True) as stage:
        peak = Peak(stage.process.pid)
        await eventually(lambda: _holds(broker.bootstrap, READINGS, messages + 1), 600)
        return f"stream worker that was away | {peak.before:.0f} | | {peak.stop():.0f}"


async def sink(lake: Path, config: Path, messages: int) -> str:
    """Write all that waits; the result's line."""
    async with running(["sink", "delta"], config, lambda _: True) as stage:
        peak = Peak(stage.process.pid)
        await eventually(lambda: len(set(values(lake))) > messages, 600)
        return f"Delta sink that was away | {peak.before:.0f} | | {peak.stop():.0f}"


def values(lake: Path) -> list[str]:
    """The messages in the lake, by the values that distinguish them; one for each row."""
    table = lake / "readings"
    if not (table / "_delta_log").is_dir():
        return []
    rows = DeltaTable(table).to_pyarrow_dataset().to_table(columns=["metric", "value_text"]).to_pylist()
    return [row["value_text"] for row in rows if row["metric"] == "device.mode"]


async def main(messages: int) -> int:
    """Run all three; the exit status."""
    folder = Path(tempfile.mkdtemp(prefix="memory-"))
    port = free_port()
    broker = EmbeddedKafka(folder / "kafka")
    await asyncio.to_thread(broker.start)
    try:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap, partitions=PARTITIONS)
        await declare_topics(kafka, topic_specs())
        config = folder / "fleetlake.toml"
        config.write_text(
            f'[pipeline]\ndata = "{folder}"\nvendors = ["wayscloud"]\n'
            f'[kafka]\nbootstrap_servers = "{broker.bootstrap}"\n'
            f'[wayscloud]\nmqtt_host = "127.0.0.1"\nmqtt_port = {port}\nmqtt_tls = false\n'
        )
        async with mosquitto_broker(folder, port, persistence=False, more="max_inflight_messages 1000"):
            lines = [await connector(broker, config, port, messages)]
        lines.append(await stream_worker(broker, config, messages))
        lines.append(await sink(folder / "lake", config, messages))
        stored = values(folder / "lake")
    finally:
        await asyncio.to_thread(broker.stop)
    print(f"{messages} messages of {PAYLOAD_BYTES / 1e6:g} MB: MiB before | frozen | peak")
    print("\n".join(lines))
    print(f"{len(set(stored))} of {messages + 1} in the lake, {len(stored) - len(set(stored))} twice")
    return 0 if len(stored) == len(set(stored)) == messages + 1 else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 150)))
