"""Declaring topics: what is missing is made, with as many partitions as the others have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetlake.local.broker import EmbeddedKafka
from runtime.kafka import KafkaSettings, declare_topics
from schemas.topics import topic_specs


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
