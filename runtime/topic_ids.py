"""The ids of topics (KIP-516), which distinguish a topic that was deleted and created again from the earlier one."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from aiokafka.client import AIOKafkaClient

from runtime.aiokafka_internals.topic_metadata import topic_metadata
from runtime.kafka import KafkaSettings, client_options
from runtime.retry import retrying

ATTEMPTS = 6


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
    return await attempts(_ask, client, topics)


async def _ask(client: AIOKafkaClient, topics: list[str]) -> dict[str, TopicState]:
    described = await topic_metadata(client, topics)
    if described is None:
        return dict.fromkeys(topics, TopicState(str(UUID(int=0)), 0))
    if unknown := [f"{topic.name} ({topic.error})" for topic in described if topic.error]:
        raise UnknownTopicsError(f"no such topics: {', '.join(unknown)}; `fleetlake topics` declares them")
    return {topic.name: TopicState(str(topic.id), topic.partitions) for topic in described}
