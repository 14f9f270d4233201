"""Declaring topics: what is missing is made, with as many partitions as the others have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from fleetlake.local.broker import EmbeddedKafka
from runtime.aiokafka_internals.topic_configs import raise_configs, too_low
from runtime.kafka import KafkaSettings, declare_topics
from schemas.topics import DAY_MS, NORMALISE_STATE, READINGS, TIMESTAMP_AHEAD, TopicSpec, topic_specs
from tests.support.waiting import eventually


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    with EmbeddedKafka(tmp_path) as kafka:
        yield kafka.bootstrap


async def test_missing_topics_are_made_alike_and_others_left_alone(broker: str) -> None:
    specs = topic_specs()
    first = await declare_topics(KafkaSettings(bootstrap_servers=broker, partitions=3), specs[:4])
    assert [(s.created, s.partitions) for s in first] == [(True, 3)] * 4
    everything = await declare_topics(KafkaSettings(bootstrap_servers=broker, partitions=5), specs)
    assert {s.partitions for s in everything} == {3}
    assert [s.created for s in everything] == [False] * 4 + [True] * (len(specs) - 4)
    repeated = await declare_topics(KafkaSettings(bootstrap_servers=broker, partitions=5), specs)
    assert not any(s.created for s in repeated)


async def test_existing_topics_are_raised_to_what_is_needed_and_keep_what_else_was_set(broker: str) -> None:
    settings, client = KafkaSettings(bootstrap_servers=broker), {"bootstrap_servers": broker}
    own = {"retention.ms": "172800000", "segment.ms": "600000"}
    names = ["retention.ms", "segment.ms", TIMESTAMP_AHEAD]
    async with admin_of(broker) as admin:

        async def reads(topic: str, *values: str) -> None:
            """What is altered shows a moment later."""
            await eventually(lambda: shows(admin, topic, dict(zip(names, values, strict=True))))

        await admin.create_topics([NewTopic(NORMALISE_STATE, 4, 1, topic_configs=own)])
        await admin.create_topics([NewTopic(READINGS, 4, 1, topic_configs={"retention.ms": "1000"})])
        await eventually(lambda: lists(admin, NORMALISE_STATE, READINGS))
        await declare_topics(settings, topic_specs())
        await reads(NORMALISE_STATE, f"{10 * DAY_MS}", "600000", f"{7 * DAY_MS}")
        await reads(
            READINGS, "1000", "604800000", f"{7 * DAY_MS}"
        )  # how long tables' topics are kept is the operator's
        await raise_configs(
            admin, client, [TopicSpec(READINGS, "", at_least={"retention.ms": 500, names[2]: 8 * DAY_MS})]
        )
        await reads(READINGS, "1000", "604800000", f"{8 * DAY_MS}")


def test_what_is_unlimited_or_unknown_is_left_alone() -> None:
    spec = TopicSpec("t", "", at_least={"retention.ms": 100, "new.in.kafka.9": 5})
    assert too_low(spec, {"retention.ms": "99"}) == {"retention.ms": 100}
    assert too_low(spec, {"retention.ms": "-1"}) == too_low(spec, {"retention.ms": "100"}) == {}
    assert too_low(spec, {}) == too_low(spec, {"retention.ms": None}) == {}


async def test_a_kafka_that_knows_no_such_setting_gets_topics_without_it(broker: str) -> None:
    """As Kafka before 3.6 answers: the topic is made, and whatever else is wrong with settings is said."""
    settings = KafkaSettings(bootstrap_servers=broker)
    with pytest.raises(RuntimeError, match="cannot create topics wrong: Kafka refuses"):
        await declare_topics(settings, [TopicSpec("wrong", "", {"retention.ms": "much"})])
    made = await declare_topics(settings, [TopicSpec("old", "", {TIMESTAMP_AHEAD: "unknown", "segment.ms": "600000"})])
    assert [(state.created, state.partitions) for state in made] == [(True, 4)]


@asynccontextmanager
async def admin_of(broker: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def lists(admin: AIOKafkaAdminClient, *topics: str) -> bool:
    return set(topics) <= set(await admin.list_topics())


async def shows(admin: AIOKafkaAdminClient, topic: str, settings: dict[str, str]) -> bool:
    asked = ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(settings, ""))
    ((_, _, _, _, entries),) = (await admin.describe_configs([asked]))[0].resources
    return {name: value for name, value, *_ in entries} == settings
