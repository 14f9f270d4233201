"""Checks the alarm service and its notification channels for `fleetlake check`.

Nothing is changed, and no notification is sent unless `send` asks for it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from sqlalchemy.exc import SQLAlchemyError

from alarm_service.notify.dispatcher import send_test
from alarm_service.notify.settings import Channel, NotifySettings, Policy
from alarm_service.notify.targets import connected
from alarm_service.service import SERVED
from alarm_service.settings import AlarmsSettings
from alarm_service.store.database import DATABASE, alarm_database
from alarm_service.store.tables import SCHEMA
from runtime.checks import CheckResult
from runtime.database import reason, version_of
from runtime.errors import StageError
from runtime.http_server import check_port
from schemas.vendors import vendor_names


@dataclass(frozen=True)
class KnownNames:
    """What policies may refer to: `rules` of the rules file; `rules_in_kafka`, None if Kafka does not answer."""

    rules: Collection[str] = ()
    rules_in_kafka: Collection[str] | None = ()
    groups: Collection[str] = ()
    profiles: Collection[str] = ()


async def check(
    settings: AlarmsSettings, notify: NotifySettings, data: Path, known: KnownNames, *, send: bool = False
) -> list[CheckResult]:
    """The port, the database, each channel's receiver (with a test notification if `send`) and each policy."""
    made = settings.database_url is not None or (data / DATABASE).exists()
    if not (settings.enabled or made or notify.channels):
        return [CheckResult("alarm service", True, "off: enabled in [alarms] is false, and there are no channels")]
    results = [
        await check_port("alarms: host, port", settings.host, settings.port, SERVED),
        await asyncio.to_thread(_check_database, settings, data),
    ]
    results += await asyncio.gather(
        *(_check_channel(key, channel, send) for key, channel in sorted(notify.channels.items()))
    )
    return results + [_check_policy(key, policy, notify, known) for key, policy in sorted(notify.policies.items())]


def _check_database(settings: AlarmsSettings, data: Path) -> CheckResult:
    url = settings.database_url
    name = "alarms: database" if url is None else "alarms: database_url"
    try:
        version = version_of(SCHEMA, None if url is None else url.get_secret_value(), data / DATABASE)
        if version is None:
            return CheckResult(
                name, True, "will be created; then make the first API key with `fleetlake alarms keys create`"
            )
        if version < SCHEMA.version:
            return CheckResult(name, True, f"will be upgraded from schema {version} to {SCHEMA.version}")
        return CheckResult(name, True, _keys_of(settings, data))
    except StageError as error:
        return CheckResult(name, False, str(error))
    except SQLAlchemyError as error:
        return CheckResult(name, False, reason(error))


def _keys_of(settings: AlarmsSettings, data: Path) -> str:
    database = alarm_database(settings, data)
    try:
        count = sum(key.revoked_at is None for key in database.keys.all())
    finally:
        database.close()
    return f"{count} API key(s) in force" + ("" if count else ": every request gets 401, see `fleetlake alarms keys`")


async def _check_channel(key: str, channel: Channel, send: bool) -> CheckResult:
    name = f"notify: channel {key}"
    if not channel.is_enabled:
        return CheckResult(name, True, "off: is_enabled is false")
    receiver = channel.config.receiver
    host, port = receiver.host, receiver.port
    where = f"[notify.channels.{key}.config] {receiver.setting}: {host}:{port}"
    try:
        async with asyncio.timeout(channel.config.timeout_seconds):
            (await connected(host, port, allow_private=channel.config.allow_private)).close()
    except TimeoutError:
        return CheckResult(name, False, f"{where} does not answer within {channel.config.timeout_seconds:g} s")
    except (socket.gaierror, UnicodeError) as error:
        return CheckResult(name, False, f"{where} has no address: {getattr(error, 'strerror', None) or error}")
    except OSError as error:
        return CheckResult(name, False, f"{where}: {error.strerror or error}")
    if not send:
        return CheckResult(name, True, f"{host}:{port} answers; nothing was sent")
    outcome = await send_test(channel)
    return CheckResult(name, outcome.delivered, outcome.detail if outcome.delivered else f"{where}: {outcome.detail}")


def _check_policy(key: str, policy: Policy, notify: NotifySettings, known: KnownNames) -> CheckResult:
    name = f"notify: policy {key}"
    if not policy.is_enabled:
        return CheckResult(name, True, "off: is_enabled is false")
    problems = [*_channel_problems(policy, notify), *_rule_problems(policy, known), *_scope_problems(policy, known)]
    if problems:
        return CheckResult(name, False, "; ".join(f"[notify.policies.{key}] {problem}" for problem in problems))
    return CheckResult(name, True, f"notifies {', '.join(policy.channel_ids)}")


def _channel_problems(policy: Policy, notify: NotifySettings) -> Iterator[str]:
    if not any(notify.channels[channel].is_enabled for channel in policy.channel_ids):
        yield "channel_ids: none of the channels is enabled, so nobody is notified"


def _rule_problems(policy: Policy, known: KnownNames) -> Iterator[str]:
    """Vendors' own alarms have rule ids that begin with the vendor; these cannot be checked."""
    for rule in policy.rule_ids or ():
        if rule in known.rules or rule.partition(":")[0] in vendor_names():
            continue
        if known.rules_in_kafka is None:
            yield f"rule_ids: {rule!r} is not in the rules file, and Kafka, which may have it, does not answer"
        elif rule not in known.rules_in_kafka:
            yield f"rule_ids: there is no rule {rule!r}; `fleetlake rules list` shows them"


def _scope_problems(policy: Policy, known: KnownNames) -> Iterator[str]:
    for scope in policy.scope_ids or ():
        match policy.scope_type:
            case "group" | "profile":
                existing = known.groups if policy.scope_type == "group" else known.profiles
                if scope not in existing:
                    yield f"scope_ids: there is no {policy.scope_type} {scope!r} in [stream] {policy.scope_type}s"
            case "vendor":
                if scope not in vendor_names():
                    yield f"scope_ids: unknown vendor {scope!r}; known are {', '.join(vendor_names())}"
            case "device":
                if ":" not in scope:
                    yield f"scope_ids: {scope!r} is not a device id; write vendor:native-id"
            case "fleet":
                pass
            case _:
                assert_never(policy.scope_type)
