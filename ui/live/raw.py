"""Raw messages by their place in Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from runtime.topic_reader import committed_consumer
from schemas.topics import vendor_of_raw_topic

_SECONDS = 8.0
_POLL_MS = 500
_MOST_CHARS = 20_000


async def read_raw(client: Mapping[str, Any] | None, places: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages at these places (topic, partition, offset), in their order; those that are left of them.

    Empty where there is no Kafka, or it does not answer in time.
    """
    messages: list[dict[str, Any]] = []
    if client is None or not places:
        return messages
    try:
        async with asyncio.timeout(_SECONDS), committed_consumer(client) as consumer:
            consumer.assign({TopicPartition(one["topic"], one["partition"]) for one in places})
            for place in places:
                tp = TopicPartition(one_topic := place["topic"], place["partition"])
                vendor_of_raw_topic(one_topic)
                consumer.seek(tp, place["offset"])
                fetched = await consumer.getmany(tp, timeout_ms=_POLL_MS, max_records=1)
                messages += [_fields(record) for record in fetched.get(tp, ()) if record.offset == place["offset"]]
    except (KafkaError, OSError, TimeoutError, ValueError):
        pass
    return messages


def _fields(record: Any) -> dict[str, Any]:
    text = (record.value or b"").decode(errors="replace")
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "at": record.timestamp,
        "headers": {name: (value or b"").decode(errors="replace") for name, value in record.headers},
        "payload": text[:_MOST_CHARS],
        "truncated": len(text) > _MOST_CHARS,
    }
