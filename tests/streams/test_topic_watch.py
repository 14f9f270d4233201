"""A stream worker whose topics are other ones now, or have more partitions, ends and says why."""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

from runtime import topic_watch
from runtime.kafka import KafkaSettings
from runtime.topic_ids import topic_states
from runtime.topic_watch import TopicWatch
from streams.engine.buffer_budget import BufferBudget
from streams.engine.options import PipelineOptions, StreamsFailed
from streams.engine.partition_pipeline import PipelineContext
from streams.engine.pipeline_supervisor import PipelineSupervisor
from streams.worker import WATCHER, watch_topics
from tests.support.kafka import MakeTopics
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("is_replaced", "said"),
    [
        (True, "was deleted (and created again )?while the stream worker read it"),
        (False, "has 2 partitions instead of 1: devices would move to other partitions than their state"),
    ],
    ids=["created again", "partitions added"],
)
async def test_the_worker_fails(
    kafka: str, make_topics: MakeTopics, monkeypatch: pytest.MonkeyPatch, is_replaced: bool, said: str
) -> None:
    monkeypatch.setattr(topic_watch, "CHECK_SECONDS", 0.05)
    (topic,) = await make_topics(["in"])
    pipelines = PipelineSupervisor({}, {}, PipelineContext("a", PipelineOptions(), BufferBudget(1)))
    states = await topic_states(KafkaSettings(bootstrap_servers=kafka), [topic])
    watch = TopicWatch({"bootstrap_servers": kafka}, states, WATCHER)
    watching = asyncio.create_task(watch_topics(cast(Any, SimpleNamespace(pipelines=pipelines)), watch))
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        if is_replaced:
            await admin.delete_topics([topic])
            await eventually(lambda: _created(admin, topic))
        else:
            await admin.create_partitions({topic: NewPartitions(2)})
    finally:
        await admin.close()
    await asyncio.wait_for(watching, 30)
    assert isinstance(pipelines.error, StreamsFailed)
    assert re.search(said, str(pipelines.error)), pipelines.error


async def _created(admin: AIOKafkaAdminClient, topic: str) -> bool:
    response = await admin.create_topics([NewTopic(topic, 1, 1)])
    return bool(response.topic_errors[0][1] == 0)
