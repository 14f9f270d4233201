"""What the doctor asks Kafka. Nothing is written, and no group is joined."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import KafkaError

from fleetlake.ops.doctor.findings import (
    Finding,
    Group,
    Partition,
    Span,
    Verdict,
    clock_finding,
    foreign_findings,
    group_findings,
    topic_findings,
)
from runtime.kafka import KafkaSettings, client_options
from runtime.kafka_problem import connection_problem
from runtime.topic_reader import Span as OffsetSpan
from runtime.topic_reader import committed_consumer, read_spans
from schemas.topics import topic_specs

_ANSWER_SECONDS = 20.0
_LAST_RECORDS = 10
_RECORD_SECONDS = 2.0


async def examine_kafka(
    kafka: KafkaSettings, lake_id: str | None, read: Mapping[str, Collection[str]]
) -> list[Finding]:
    """Look at topics, groups and clocks. `read` are the topics that `stream` and `delta` read."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await _examine(kafka, lake_id, read)
    except (KafkaError, OSError, TimeoutError) as error:
        advice = "start it, or correct bootstrap_servers in [kafka]; `fleetlake check` shows more"
        why = await connection_problem(client_options(kafka)) or str(error) or type(error).__name__
        what = f"{kafka.bootstrap_servers} does not answer: {why}"
        return [Finding(Verdict.WRONG, "Kafka", what, advice)]


async def _examine(kafka: KafkaSettings, lake_id: str | None, read: Mapping[str, Collection[str]]) -> list[Finding]:
    client = client_options(kafka)
    admin = AIOKafkaAdminClient(**client, request_timeout_ms=int(_ANSWER_SECONDS * 1000))
    await admin.start()
    try:
        existing = await admin.list_topics()
        described = await admin.describe_topics(list(existing))
        partitions = {topic["topic"]: len(topic["partitions"]) for topic in described}
        findings = topic_findings(partitions, [spec.name for spec in topic_specs()])
        spans, newest = await _spans(
            client, {n: partitions[n] for names in read.values() for n in names if n in partitions}
        )
        delta = f"{kafka.application_id}-delta-"
        for stage, group_id in {"stream": kafka.application_id, "delta": f"{delta}{(lake_id or '')[:13]}"}.items():
            wanted = {partition: span for partition, span in spans.items() if partition[0] in read[stage]}
            findings += group_findings(stage, await _group(admin, group_id), wanted)
        names = [str(name) for name, *_ in await admin.list_consumer_groups()]
        others = [await _group(admin, name) for name in names if name.startswith(delta)]
        findings += foreign_findings(f"{delta}{(lake_id or '')[:13]}", others)
    finally:
        await admin.close()
    return [*findings, clock_finding(newest, time.time())] if newest else findings


async def _spans(client: Mapping[str, Any], topics: Mapping[str, int]) -> tuple[dict[Partition, Span], float]:
    """The offsets of all partitions, and the time of the newest record (0 if there is none)."""
    wanted = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
    async with committed_consumer(client) as consumer:
        begin, end = await consumer.beginning_offsets(wanted), await consumer.end_offsets(wanted)
        filled = [partition for partition in wanted if end[partition] > begin[partition]]
        newest = await _newest(consumer, {partition: end[partition] for partition in filled}) if filled else 0.0
    return {(p.topic, p.partition): Span(begin[p], end[p]) for p in wanted}, newest


async def _newest(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> float:
    """The largest time of the last records. Before the end of a topic there may be markers of transactions."""
    consumer.assign(list(ends))
    spans = {partition: OffsetSpan(max(0, end - _LAST_RECORDS), end) for partition, end in ends.items()}
    newest = 0.0
    with suppress(TimeoutError):
        async with asyncio.timeout(_RECORD_SECONDS):
            async for batch in read_spans(consumer, spans):
                newest = max([newest, *(record.timestamp / 1000 for record in batch.records)])
    return newest


async def _group(admin: AIOKafkaAdminClient, name: str) -> Group:
    committed = await admin.list_consumer_group_offsets(name)
    (response,) = await admin.describe_consumer_groups([name])
    members = response.groups[0][5]
    assigned: set[Partition] = set()
    for member in members:
        if member[-1]:
            for topic, numbers in ConsumerProtocol.ASSIGNMENT.decode(member[-1]).assignment:
                assigned |= {(topic, number) for number in numbers}
    hosts = tuple(sorted({str(member[2]).lstrip("/") for member in members}))
    offsets = {(p.topic, p.partition): at.offset for p, at in committed.items() if at.offset >= 0}
    return Group(name, offsets, frozenset(assigned), len(members), hosts)
