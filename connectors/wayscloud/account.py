"""What WAYSCloud answers by REST, read periodically: registry, health, alarms, rules."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from connectors.common.http_client import VendorError
from connectors.wayscloud.alarms import AlarmReader, RuleReader
from connectors.wayscloud.device_registry import DeviceRegistry
from connectors.wayscloud.settings import WayscloudSettings
from runtime.backoff import Backoff
from runtime.periodic import PeriodicJob

_DUE_CHECK_SECONDS = 1.0


async def poll_account(
    settings: WayscloudSettings, registry: DeviceRegistry, alarms: AlarmReader, rules: RuleReader
) -> None:
    """Read the account until cancelled. A job that fails stops no other.

    The alarms are read after the first reading of the rules, since an alarm of an imported rule is an event only.
    """
    rules_were_read = asyncio.Event()

    async def read_rules() -> None:
        try:
            await (rules.read() if settings.import_rules else rules.withdraw())
        finally:
            rules_were_read.set()

    async def read_alarms() -> None:
        await rules_were_read.wait()
        await alarms.read()

    jobs = [
        ("groups and profiles", settings.registry_seconds, registry.read_memberships),
        ("devices", settings.registry_seconds, registry.read_list),
        ("devices in full", _DUE_CHECK_SECONDS, registry.read_due_devices),
        ("alarm rules", settings.rule_seconds, read_rules),
    ]
    if settings.import_alarms:
        jobs.append(("alarms", settings.alarm_seconds, read_alarms))
    async with asyncio.TaskGroup() as tasks:
        for what, seconds, work in jobs:
            tasks.create_task(read_periodically(what, seconds, work))


async def read_periodically(what: str, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` every so many seconds until cancelled. A failure is logged once and retried with back-off."""

    def backoff() -> Backoff:
        return Backoff(base=2.0, cap=max(30.0, min(seconds, 300.0)))

    await PeriodicJob(f"wayscloud: reading the {what}", seconds, (VendorError, ValueError), backoff).run(work)
