"""The parts of Kärcher's connector, each by itself: registry, statuses, sockets, lists, polling. No Kafka."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from connectors.common.clock import utc_now
from connectors.common.device_ownership import DeviceOwnership
from connectors.common.http_client import VendorError
from connectors.karcher.cloud import Cloud
from connectors.karcher.connector import KarcherConnector
from connectors.karcher.lists import ListReader
from connectors.karcher.polling import Poll
from connectors.karcher.protocol import AnswerError, Page
from connectors.karcher.registry import MachineRegistry
from connectors.karcher.settings import KarcherSettings
from connectors.karcher.statuses import StatusReader
from schemas.envelope import GAP
from schemas.timestamps import format_iso
from tests.connectors.karcher import cloud, running
from tests.connectors.recording import PartialOwnership, RecordingPublisher, recording_context
from tests.support.waiting import eventually

KIRA, OTHER = "karcher:1.533-002.0/000001", "karcher:1.259-010.2/000002"


def specification(machine_id: str, material: str, serial: str, name: str = "a name") -> bytes:
    generic = {"materialNumber": material, "serialNumber": serial, "resourceOwnerAssetId": name}
    return json.dumps({"machineId": machine_id, "generic": generic}).encode()


MACHINES = [specification("kira", "1.533-002.0", "000001"), specification("other", "1.259-010.2", "000002")]


class FakeCloud:
    """Answers with what `lists` has by path; statuses of machines in `wrong` are refused as the document says."""

    def __init__(self) -> None:
        self.settings = KarcherSettings()
        self.lists: dict[str, list[bytes]] = {self.settings.specifications_path: MACHINES}
        self.wrong: set[str] = set()
        self.requested: list[list[str]] = []
        self.windows: list[dict[str, str]] = []

    async def pages(self, path: str, params: dict[str, str], endpoint: str) -> AsyncIterator[Page]:
        self.windows.append(params)
        for item in self.lists.get(path, []):
            yield Page([item])

    async def statuses(self, machine_ids: list[str]) -> Page:
        self.requested.append(machine_ids)
        if self.wrong & set(machine_ids):
            raise VendorError("statuses: HTTP 400", 400)
        return Page([json.dumps({"machineId": machine_id, "n": 1}).encode() for machine_id in machine_ids])


class Parts:
    """A registry with what it needs."""

    def __init__(self, folder: Path, ownership: DeviceOwnership | None = None) -> None:
        self.fake, self.publisher = FakeCloud(), RecordingPublisher()
        self.cloud = cast(Cloud, self.fake)
        self.context = recording_context(self.publisher, folder, ownership)
        self.registry = MachineRegistry(self.cloud, self.context)


# -- registry


async def test_the_registry_publishes_what_is_new_changed_or_gone_once(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    assert parts.registry.problem and not parts.registry.is_read
    for _ in range(2):
        await parts.registry.read()
        await parts.registry.publish()
    assert parts.registry.problem is None
    assert [d.device_id for d in parts.publisher.devices] == [KIRA, OTHER]
    assert [m.device_id for m in parts.registry.owned_robots()] == [KIRA]
    parts.fake.lists[parts.fake.settings.specifications_path] = [specification("kira", "1.533-002.0", "000001", "new")]
    await parts.registry.read()
    await parts.registry.publish()
    assert [(d.device_id, d.name, d.registered) for d in parts.publisher.devices[2:]] == [
        (KIRA, "new", True),
        (OTHER, "a name", False),
    ]


async def test_a_process_publishes_its_own_machines_only_and_knows_all(tmp_path: Path) -> None:
    ownership = PartialOwnership([KIRA], is_leader=False)
    parts = Parts(tmp_path, ownership)
    parts.fake.lists[parts.fake.settings.specifications_path] = [*MACHINES, b'{"machineId": "without numbers"}']
    await parts.registry.read()
    await parts.registry.publish()
    assert [d.device_id for d in parts.publisher.devices] == [KIRA]
    assert parts.registry.devices == {"kira": KIRA, "other": OTHER}
    assert not parts.publisher.dead_letters, "the leader publishes it"
    ownership.set([OTHER])
    await parts.registry.publish()
    assert [d.device_id for d in parts.publisher.devices] == [KIRA, OTHER]


# -- statuses


async def test_one_machine_that_spoils_a_request_is_left_out_until_the_registry_is_read(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    await parts.registry.read()
    reader = StatusReader(parts.cloud, parts.context, parts.registry)
    parts.fake.wrong = {"other"}
    for _ in range(2):
        await reader.read_all()
    assert parts.fake.requested == [["kira", "other"], ["kira"], ["other"], ["kira"]]
    assert {e.device_id for e in parts.publisher.envelopes} == {KIRA}
    parts.fake.wrong, parts.fake.requested = set(), []
    reader.forget_unknown()
    await reader.read_all()
    assert parts.fake.requested == [["kira", "other"]]


async def test_machines_with_a_gap_share_a_request_and_unknown_ones_are_skipped(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    await parts.registry.read()
    reader = StatusReader(parts.cloud, parts.context, parts.registry)
    for machine_id in ("other", "kira", "gone"):
        reader.resynchronise(machine_id)
    task = asyncio.create_task(reader.run_resynchronisation())
    await eventually(lambda: parts.fake.requested)
    task.cancel()
    assert [sorted(ids) for ids in parts.fake.requested] == [["kira", "other"]]


# -- sockets


async def test_sockets_follow_the_ownership_and_begin_with_the_gap_of_a_lapsed_lease(tmp_path: Path) -> None:
    lapsed_at = utc_now() - timedelta(minutes=1)
    async with cloud(devices=6) as (karcher, settings):
        robots = [m for m in karcher.fleet.machines if m.family != "other" and not m.retired]
        first, second = robots[:2], robots[2:]
        names = [f"karcher:{m.native_id}" for m in robots]
        ownership, publisher = PartialOwnership(names[:2], lapsed_at=lapsed_at), RecordingPublisher()
        connector = KarcherConnector(settings, recording_context(publisher, tmp_path, ownership))
        assert connector.sockets == 0

        def heard() -> list[int]:
            return [karcher.sockets.listeners(m) for m in [*first, *second]]

        async with running(connector):
            await eventually(lambda: heard() == [1, 1] + [0] * len(second))
            await eventually(lambda: sum(e.type == GAP for e in publisher.envelopes) == 2)
            ownership.set(names[2:])
            await eventually(lambda: heard() == [0, 0] + [1] * len(second))
            assert connector.sockets == len(second)
    gaps = [e for e in publisher.envelopes if e.type == GAP]
    assert sorted(e.device_id for e in gaps) == sorted(names[:2])
    assert {json.loads(e.data)["from"] for e in gaps} == {format_iso(lapsed_at)}


# -- lists


def notification(number: int, received: str) -> bytes:
    return json.dumps({"machineId": "kira", "code": number, "receivedAt": received, "recordedAt": received}).encode()


async def test_a_list_is_published_once_over_restarts_and_read_down_to_the_overlap(tmp_path: Path) -> None:
    now = utc_now()
    recent, old = format_iso(now - timedelta(hours=1)), format_iso(now - timedelta(days=30))
    items = [notification(1, recent), notification(2, old), notification(3, old)]
    codes: list[int] = []
    for _ in range(2):
        parts = Parts(tmp_path)
        parts.fake.lists[parts.fake.settings.notifications_path] = items
        await parts.registry.read()
        await ListReader(parts.cloud, parts.context, parts.registry).read_notifications()
        codes += [json.loads(e.data)["code"] for e in parts.publisher.envelopes]
    assert codes == [1, 2], "older pages are not requested, and nothing is published twice"


async def test_only_the_leader_reads_the_lists(tmp_path: Path) -> None:
    parts = Parts(tmp_path, PartialOwnership([KIRA], is_leader=False))
    await parts.registry.read()
    parts.fake.windows.clear()
    await ListReader(parts.cloud, parts.context, parts.registry).read_reports()
    assert parts.fake.windows == [] and not (tmp_path / "karcher-reports.json").exists()


# -- polling


async def test_a_change_of_ownership_makes_a_reading_at_once(tmp_path: Path) -> None:
    ownership, readings = PartialOwnership([]), 0

    async def work() -> None:
        nonlocal readings
        readings += 1
        if readings == 2:
            ownership.set([KIRA])  # during a reading: there must be another one

    task = asyncio.create_task(Poll("test", 3600, work).run(ownership))
    await eventually(lambda: readings == 1)
    ownership.set([OTHER])
    await eventually(lambda: readings == 3)
    task.cancel()


async def test_a_reading_that_ignores_ownership_waits_its_time() -> None:
    ownership, readings = PartialOwnership([]), 0

    async def work() -> None:
        nonlocal readings
        readings += 1

    task = asyncio.create_task(Poll("test", 3600, work, follows_ownership=False).run(ownership))
    await eventually(lambda: readings == 1)
    ownership.set([OTHER])
    for _ in range(10):
        await asyncio.sleep(0)
    assert readings == 1
    task.cancel()


@pytest.mark.parametrize(
    ("error", "least"), [(VendorError("x", 403), 300.0), (VendorError("x", 500), 0.0), (AnswerError("x"), 0.0)]
)
def test_only_what_is_forbidden_waits_longer(error: Exception, least: float) -> None:
    async def work() -> None:
        """Not called."""

    assert Poll("test", 60, work)._least_pause(error) == least
