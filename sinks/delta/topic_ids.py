"""The ids of topics (KIP-516), which distinguish a topic that was deleted and created again from the earlier one.

aiokafka 0.14 supports metadata requests up to version 5, and ids came with version 10. The request is therefore
defined here (Kafka protocol guide, «Metadata Request (Version: 10)»).
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any
from uuid import UUID

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from runtime.kafka import KafkaSettings, client_options
from runtime.retry import retrying

ATTEMPTS = 6


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


_PARTITION = CompactArray(
    ("error_code", Int16),
    ("partition_index", Int32),
    ("leader_id", Int32),
    ("leader_epoch", Int32),
    ("replica_nodes", CompactArray(Int32)),
    ("isr_nodes", CompactArray(Int32)),
    ("offline_replicas", CompactArray(Int32)),
    ("tags", TaggedFields),
)


class _MetadataResponseV10(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                ("partitions", _PARTITION),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequestV10(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponseV10
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicIdsRequest(Request[_MetadataRequestV10]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataRequestV10]) -> _MetadataRequestV10:
        return request_struct_class([(UUID(int=0), name, {}) for name in self._topics], False, False, False, {})


class UnknownTopicsError(RuntimeError):
    """The broker does not know these topics."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is: its id, and its number of partitions."""

    id: str
    partitions: int


async def topic_states(settings: KafkaSettings, topics: list[str]) -> dict[str, TopicState]:
    """Return the state of each topic.

    A broker without topic ids (Kafka before 2.8) gives the nil UUID for all. Raise UnknownTopicsError for topics that
    do not exist, aiokafka's errors if no broker answers.
    """
    client = AIOKafkaClient(**client_options(settings))
    await client.bootstrap()
    try:
        return await describe_topics(client, topics)
    finally:
        await client.close()


async def topic_ids(settings: KafkaSettings, topics: list[str]) -> dict[str, str]:
    """Return the id of each topic, as `topic_states` does."""
    return {name: state.id for name, state in (await topic_states(settings, topics)).items()}


async def describe_topics(client: AIOKafkaClient, topics: list[str]) -> dict[str, TopicState]:
    """`topic_states` over a client that is connected already."""
    # Retried, because not every broker knows a topic that was just declared.
    attempts = retrying(UnknownTopicsError, base=0.2, cap=2, attempts=ATTEMPTS)
    try:
        return await attempts(_ask, client, topics)
    except (IncompatibleBrokerVersion, NotImplementedError):
        return dict.fromkeys(topics, TopicState(str(UUID(int=0)), 0))


async def _ask(client: AIOKafkaClient, topics: list[str]) -> dict[str, TopicState]:
    response: Any = await client.send(client.get_random_node(), _TopicIdsRequest(topics))
    described = response.to_object()["topics"]
    errors = {topic["name"]: for_code(topic["error_code"]).__name__ for topic in described if topic["error_code"]}
    if errors:
        listed = ", ".join(f"{name} ({error})" for name, error in errors.items())
        raise UnknownTopicsError(f"no such topics: {listed}; `fleetlake topics` declares them")
    return {topic["name"]: TopicState(str(topic["topic_id"]), len(topic["partitions"])) for topic in described}
