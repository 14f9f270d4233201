"""What every part needs of Kafka: one embedded broker, topics, filling them, reading them back, seeing progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import GroupCoordinatorNotAvailableError, for_code

from connectors.common.publishing.partitioner import partition_of
from fleetlake.local.broker import EmbeddedKafka
from runtime.kafka import KafkaSettings, declare_topics
from runtime.topic_reader import read_topic
from schemas.consumed import Record
from schemas.envelope import Envelope
from schemas.topics import MAX_MESSAGE_BYTES, raw_topic, topic_specs

APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}
_BATCH_BYTES = 1 << 20
_TRIES = 100
_RETRY_SECONDS = 0.1


class Kafka:
    """A client of the broker at `bootstrap` for administration and watching. Use as an asynchronous context."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        self._committed = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")

    async def __aenter__(self) -> Self:
        await self._admin.start()
        await self._committed.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._admin.close()
        await self._committed.stop()

    async def create(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        """Create a topic, waiting for one of that name to be gone."""
        config = {"max.message.bytes": str(MAX_MESSAGE_BYTES), **(config or {})}
        for _ in range(_TRIES):
            answer = await self._admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
            code = answer.topic_errors[0][1]
            if code == 0:
                return
            await asyncio.sleep(_RETRY_SECONDS)
        raise RuntimeError(f"cannot create topic {name}: {for_code(code).__name__}")

    async def delete(self, names: Iterable[str]) -> None:
        """Delete those of the topics that exist, and wait until they are gone."""
        going = set(names) & set(await self._admin.list_topics())
        if going:
            await self._admin.delete_topics(sorted(going))
        for _ in range(_TRIES):
            if not going & set(await self._admin.list_topics()):
                return
            await asyncio.sleep(_RETRY_SECONDS)
        raise RuntimeError(f"topics are still there: {', '.join(sorted(going))}")

    async def declare_pipeline(self, partitions: int, keep: Iterable[str] = (), *, stamp_raw: bool = False) -> None:
        """Make fleetlake's topics anew, all but those to keep; what is normalised bears the broker's time.

        With `stamp_raw` raw records bear it, too.
        """
        kept = set(keep)
        await self.delete(spec.name for spec in topic_specs() if spec.name not in kept)
        there = set(await self._admin.list_topics())
        for spec in topic_specs():
            if spec.name not in there:
                await self.create(spec.name, partitions, {**spec.config, **_append_time(spec.name, stamp_raw)})
        await declare_topics(KafkaSettings(bootstrap_servers=self.bootstrap, partitions=partitions), topic_specs())

    async def ends(self, topic: str, partitions: int) -> int:
        """Sum of the last stable offsets: what readers with `read_committed` can have, markers counted."""
        tps = [TopicPartition(topic, number) for number in range(partitions)]
        return sum((await self._committed.end_offsets(tps)).values())

    async def group_position(self, group: str, topic: str) -> int:
        """Sum of a group's committed offsets on one topic."""
        try:
            offsets = await self._admin.list_consumer_group_offsets(group)
        except GroupCoordinatorNotAvailableError:  # a new broker has no offsets topic before the first group
            return 0
        return sum(max(0, at.offset) for tp, at in offsets.items() if tp.topic == topic)


def _append_time(topic: str, raw: bool) -> dict[str, str]:
    stamped = not topic.startswith("fleetlake.state.") and (raw or not topic.startswith("telemetry.raw."))
    return APPEND_TIME if stamped else {}


@asynccontextmanager
async def broker(folder: Path) -> AsyncIterator[Kafka]:
    """An embedded broker of its own, as `fleetlake demo` starts it, and a client of it."""
    async with EmbeddedKafka(folder / "broker") as embedded, Kafka(embedded.bootstrap) as kafka:
        yield kafka


NewRecord = tuple[str, bytes, bytes, list[tuple[str, bytes]]]
"""Topic, key, value, headers."""


def raw_record(envelope: Envelope) -> NewRecord:
    """An envelope as its connector writes it."""
    return raw_topic(envelope.device_id.partition(":")[0]), envelope.key, envelope.data, envelope.headers()


@asynccontextmanager
async def producer(kafka: Kafka, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that acknowledges with `acks=all` and compresses as connectors do."""
    settings = {"acks": "all", "max_request_size": 16 << 20, "max_batch_size": _BATCH_BYTES, "compression_type": "lz4"}
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, **{**settings, **options}) as started:
        yield started


async def fill(kafka: Kafka, records: Iterable[NewRecord], partitions: int) -> None:
    """Write records in large batches, as connectors do under load, and wait until the broker has them."""
    async with producer(kafka) as client:
        for batch in batches(client, records, partitions):
            await (await send(client, batch))


Batch = tuple[str, int, Any]
"""Topic, partition, aiokafka's batch."""


def batches(client: AIOKafkaProducer, records: Iterable[NewRecord], partitions: int) -> Iterator[Batch]:
    """Records as closed batches, partitioned by key as connectors do it."""
    filling: dict[tuple[str, int], Any] = {}
    for topic, key, value, headers in records:
        lane = topic, partition_of(key, partitions)
        batch = filling.get(lane)
        if batch is None or batch.append(key=key, value=value, headers=headers, timestamp=None) is None:
            if batch is not None:
                batch.close()
                yield *lane, batch
            batch = filling[lane] = client.create_batch()
            batch.append(key=key, value=value, headers=headers, timestamp=None)
    for lane, batch in filling.items():
        batch.close()
        yield *lane, batch


async def send(client: AIOKafkaProducer, batch: Batch) -> Any:
    """Hand over a batch; the result can be awaited for the broker's acknowledgement."""
    topic, partition, built = batch
    return await client.send_batch(built, topic, partition=partition)


async def read_all(bootstrap: str, topic: str) -> AsyncIterator[Record]:
    """Every committed record of a topic, in order by partition, up to the log's end as it is now."""
    async for batch in read_topic({"bootstrap_servers": bootstrap}, topic):
        for record in batch.records:
            yield record
