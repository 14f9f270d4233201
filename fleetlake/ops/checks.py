"""`fleetlake check`: configuration and connections, each with the reason why it does not work."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from pydantic import BaseModel

from fleetlake.config import Settings, require_vendors
from fleetlake.errors import UserError, reason
from runtime.checks import CheckResult
from runtime.errors import StageError
from runtime.kafka import KafkaSettings, client_options
from runtime.kafka_problem import connection_problem
from schemas.topics import topic_specs
from schemas.vendors import vendors

_TIMEOUT = 20.0

VendorCheck = Callable[[BaseModel, Path], Awaitable[list[CheckResult]]]


FindKafka = Callable[[], KafkaSettings]
"""Answers which Kafka to use; UserError where none is configured and none runs."""


async def run_checks(
    settings: Settings,
    chosen: list[str],
    find_kafka: FindKafka,
    *,
    idle: CheckResult | None = None,
    send: bool = False,
) -> list[CheckResult]:
    """Check everything concurrently. With `send`, each channel also gets a test notification.

    `idle` is the result for an embedded Kafka that does not run yet, which nothing can be asked.
    """
    names = chosen or list(settings.pipeline.vendors)
    require_vendors(names)
    groups = await asyncio.gather(
        _check_data(settings.pipeline.data),
        _check_rules(settings),
        _check_kafka(find_kafka, idle),
        _check_rules_in_force(settings, find_kafka),
        _check_alarms(settings, find_kafka, send),
        *(_check_vendor(name, settings) for name in names),
    )
    results = [result for group in groups for result in group]
    if not names:
        results.append(CheckResult("vendors", False, "none is chosen: set vendors in [pipeline]"))
    return results


async def _check_data(data: Path) -> list[CheckResult]:
    folder = data if data.exists() else next(p for p in [*data.absolute().parents] if p.exists())
    if os.access(folder, os.W_OK):
        return [CheckResult("data folder", True, f"{data} is writable" if data.exists() else f"{data} can be created")]
    return [CheckResult("data folder", False, f"{folder} is not writable")]


async def _check_rules(settings: Settings) -> list[CheckResult]:
    from streams.detect.rule_compiler import load_rules_file

    path = settings.stream.rules_file
    if path is None:
        return [CheckResult("alarm rules", True, "no rules_file in [stream], so no alarms are detected")]
    try:
        rules, refused = load_rules_file(path)
    except (OSError, ValueError) as error:
        return [CheckResult("alarm rules", False, f"{path}: {reason(error)}")]
    if refused:
        return [CheckResult("alarm rules", False, "; ".join(str(r) for r in refused))]
    return [CheckResult("alarm rules", True, f"{path}: {len(rules)} rules")]


async def _check_rules_in_force(settings: Settings, find_kafka: FindKafka) -> list[CheckResult]:
    """Rules on the topic: those that the stream workers apply. Nothing where Kafka does not answer."""
    in_force = await _rules_of_kafka(find_kafka)
    if in_force is None:
        return []
    waiting = [rule for rule in _rules_of_file(settings) if rule not in in_force]
    text = f"{len(in_force)} in Kafka"
    if waiting:
        text += f"; a stream worker adds {', '.join(waiting)}"
    return [CheckResult("rules in force", True, text)]


async def _check_kafka(find_kafka: FindKafka, idle: CheckResult | None) -> list[CheckResult]:
    if idle is not None:
        return [idle]
    kafka = find_kafka()
    try:
        client = client_options(kafka)
    except StageError as error:
        return [CheckResult("Kafka", False, str(error))]
    admin = AIOKafkaAdminClient(**client, request_timeout_ms=5000)
    try:
        await asyncio.wait_for(admin.start(), _TIMEOUT)
        existing = set(await admin.list_topics())
    except (KafkaError, OSError, TimeoutError) as error:
        why = await connection_problem(client) or str(error) or type(error).__name__
        return [CheckResult("Kafka", False, f"{kafka.bootstrap_servers}: {why}")]
    finally:
        await admin.close()
    missing = [spec.name for spec in topic_specs() if spec.name not in existing]
    if missing:
        what = f"{len(missing)} topics are missing, among them {missing[0]}: run `fleetlake topics`"
        return [CheckResult("Kafka", True, f"{kafka.bootstrap_servers} answers"), CheckResult("topics", False, what)]
    return [CheckResult("Kafka", True, f"{kafka.bootstrap_servers} answers, and all topics exist")]


async def _check_alarms(settings: Settings, find_kafka: FindKafka, send: bool) -> list[CheckResult]:
    from alarm_service.check import KnownNames, check

    named = any(policy.rule_ids for policy in settings.notify.policies.values())
    known = KnownNames(
        rules=_rules_of_file(settings) if named else (),
        rules_in_kafka=await _rules_of_kafka(find_kafka) if named else (),
        groups=settings.stream.groups,
        profiles=settings.stream.profiles,
    )
    return await check(settings.alarms, settings.notify, settings.pipeline.data, known, send=send)


def _rules_of_file(settings: Settings) -> list[str]:
    from schemas.rules import parse_rules

    path = settings.stream.rules_file
    try:
        return [] if path is None else [rule.id for rule in parse_rules(path.read_text(encoding="utf-8-sig"))[0]]
    except (OSError, ValueError):
        return []  # which the check of the rules reports


async def _rules_of_kafka(find_kafka: FindKafka) -> list[str] | None:
    from streams.detect.rules_topic import read_rules

    try:
        rules, _ = await asyncio.wait_for(read_rules(client_options(find_kafka())), _TIMEOUT)
    except (KafkaError, OSError, TimeoutError, UserError):
        return None
    return list(rules)


async def _check_vendor(name: str, settings: Settings) -> list[CheckResult]:
    """The vendor's own check. Limits and keys are in the state folder that the connector uses."""
    check: VendorCheck = vendors()[name].load("check")
    try:
        return await asyncio.wait_for(check(settings.vendor(name), settings.pipeline.data / "state"), _TIMEOUT)
    except TimeoutError:
        return [CheckResult(name, False, f"no answer within {_TIMEOUT:.0f} s")]
