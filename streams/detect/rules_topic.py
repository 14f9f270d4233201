"""The topics of rules and maintenance windows: reading what is in force, writing changes."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer

from runtime.topic_reader import read_topic
from schemas.records import AlarmRule, MaintenanceWindow
from schemas.rules import RefusedRule, encode_rule, parse_rule
from schemas.topics import MAINTENANCE, RULES

log = logging.getLogger(__name__)


async def read_compacted(client: Mapping[str, Any], topic: str) -> dict[str, bytes]:
    """The latest value by key of a compacted topic, all partitions, as of now; without deleted keys."""
    values: dict[str, bytes] = {}
    async for batch in read_topic(client, topic):
        for record in batch.records:
            key = (record.key or b"").decode(errors="replace")
            if record.value is None:
                values.pop(key, None)
            else:
                values[key] = record.value
    return values


async def read_rules(client: Mapping[str, Any]) -> tuple[dict[str, AlarmRule], list[RefusedRule]]:
    """The rules of the topic by id, enabled or not, and records that are no rules."""
    rules: dict[str, AlarmRule] = {}
    refused: list[RefusedRule] = []
    for key, value in (await read_compacted(client, RULES)).items():
        try:
            rule = parse_rule(json.loads(value))
        except ValueError as error:
            rule = RefusedRule(key, "", f"not JSON: {error}")
        if isinstance(rule, AlarmRule):
            rules[key] = rule
        else:
            refused.append(rule)
    return rules, refused


async def write_rules(client: Mapping[str, Any], changes: Mapping[str, AlarmRule | None]) -> None:
    """Write rules by id; None deletes. Acknowledged by Kafka when this returns; workers take them in within seconds."""
    await write_compacted(
        client, RULES, {name: None if rule is None else encode_rule(rule) for name, rule in changes.items()}
    )


async def read_windows(client: Mapping[str, Any]) -> dict[str, MaintenanceWindow]:
    """The maintenance windows by id, with past and cancelled ones. A record that is no window is skipped and logged."""
    windows: dict[str, MaintenanceWindow] = {}
    for key, value in (await read_compacted(client, MAINTENANCE)).items():
        try:
            windows[key] = MaintenanceWindow.model_validate_json(value)
        except ValueError:
            log.warning("%s: %s is no maintenance window", MAINTENANCE, key)
    return windows


async def write_window(client: Mapping[str, Any], window: MaintenanceWindow) -> None:
    """Write a maintenance window. Acknowledged by Kafka when this returns; workers take them in within seconds."""
    await write_compacted(client, MAINTENANCE, {window.window_id: window.model_dump_json(exclude_none=True).encode()})


async def write_compacted(client: Mapping[str, Any], topic: str, values: Mapping[str, bytes | None]) -> None:
    """Write values by key; None deletes. Delivery: at least once, acknowledged when this returns."""
    if not values:
        return
    async with AIOKafkaProducer(**client, acks="all", enable_idempotence=True) as producer:
        deliveries = [await producer.send(topic, value, key=key.encode()) for key, value in values.items()]
        for delivery in deliveries:
            await delivery
