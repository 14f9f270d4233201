"""How several processes share the devices: the pure assignment, and real consumer groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

from aiokafka.cluster import ClusterMetadata
from hypothesis import given
from hypothesis import strategies as st

from connectors.common.device_ownership import DeviceTasks
from connectors.common.ownership_leases import OwnershipLeases, _assignor
from connectors.common.partition_assignment import assign_partitions
from runtime.kafka import KafkaSettings
from schemas.topics import DEVICES as DEVICES_TOPIC
from tests.connectors.ownership import of_its_own
from tests.support.aiokafka_faults import die_without_leaving_the_group
from tests.support.waiting import eventually

DEVICES = [f"karcher:1.533-002.0/{number:06d}" for number in range(60)]


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.sets(st.integers(0, 15)), min_size=1, max_size=6),
    st.integers(0, 12),
)
def test_every_partition_has_one_member_evenly_and_stays_where_it_can(held: dict[str, set[int]], count: int) -> None:
    assigned = assign_partitions(held, range(count))
    assert set(assigned) == set(held)
    assert sorted(part for parts in assigned.values() for part in parts) == list(range(count))
    sizes = [len(parts) for parts in assigned.values()]
    assert max(sizes) - min(sizes) <= 1
    assert assign_partitions(assigned, range(count)) == assigned


def test_whoever_holds_most_keeps_most_and_names_decide_among_equals() -> None:
    """A remainder stays where it is, and every process computes the same."""
    assert assign_partitions({"a": {0}, "b": {1, 2}}, range(3)) == {"a": {0}, "b": {1, 2}}
    assert assign_partitions({"b": set(), "a": set()}, range(3)) == {"a": {0, 1}, "b": {2}}
    assert assign_partitions({"a": {7, 8, 9}, "b": {0, 1}}, range(3)) == {"a": {2}, "b": {0, 1}}
    assert assign_partitions({}, range(3)) == {}


def test_a_new_member_takes_no_more_than_its_quota() -> None:
    assigned = assign_partitions({"old": {0, 1, 2, 3}, "new": set()}, range(4))
    assert assigned["old"] == {0, 1} and assigned["new"] == {2, 3}


def test_members_learn_which_of_their_partitions_another_one_holds(tmp_path: Path) -> None:
    old, new = (OwnershipLeases("karcher", KafkaSettings(), tmp_path) for _ in range(2))
    old._held = frozenset(range(4))
    assignors = {"old": _assignor(old), "new": _assignor(new)}
    assert {assignor.name for assignor in assignors.values()} == {"fleetlake-divide"}, "part of the group protocol"
    metadata = {name: assignor.metadata({DEVICES_TOPIC}) for name, assignor in assignors.items()}
    assert [m.user_data for m in metadata.values()] == [b"[0, 1, 2, 3]", b"[]"]
    cluster = ClusterMetadata()
    with mock.patch.object(cluster, "partitions_for_topic", return_value=set(range(4))):
        assignment = assignors["old"].assign(cluster, metadata)
    assert {name: [tuple(topic) for topic in a.assignment] for name, a in assignment.items()} == {
        "old": [(DEVICES_TOPIC, [0, 1])],
        "new": [(DEVICES_TOPIC, [2, 3])],
    }
    for name, assignor in assignors.items():
        assignor.on_assignment(assignment[name])
    assert old._held_by_others == frozenset() and new._held_by_others == {2, 3}


@asynccontextmanager
async def member(kafka: KafkaSettings, state_dir: Path) -> AsyncIterator[OwnershipLeases]:
    ownership = OwnershipLeases("karcher", kafka, state_dir)
    task = asyncio.create_task(ownership.run())
    try:
        yield ownership
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def owned(ownership: OwnershipLeases) -> set[str]:
    return {device for device in DEVICES if ownership.owns(device)}


async def test_a_single_process_owns_all_devices_soon(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    kafka = of_its_own(kafka_settings)
    async with member(kafka, tmp_path) as ownership:
        assert not ownership.is_known and owned(ownership) == set()
        await eventually(lambda: owned(ownership) == set(DEVICES), 5)
        assert ownership.is_known and ownership.is_leader
        assert ownership.take_lapsed() == {}  # nobody ever held them


async def test_two_processes_hold_each_device_once_and_a_leaver_hands_over(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    kafka = of_its_own(kafka_settings)
    async with member(kafka, tmp_path) as first:
        await eventually(lambda: owned(first) == set(DEVICES))
        async with member(kafka, tmp_path) as second:
            twice: list[set[str]] = []

            def shared() -> bool:
                twice.append(owned(first) & owned(second))
                return bool(owned(second)) and owned(first) | owned(second) == set(DEVICES)

            await eventually(shared)
            assert not any(twice), "a device was held twice"
            assert 10 < len(owned(first)) < 50  # 60 devices fall on 4 partitions as murmur2 has it
            assert [first.is_leader, second.is_leader].count(True) == 1
            kept = owned(first)
        left = datetime.now(UTC)
        await eventually(lambda: owned(first) == set(DEVICES), 5)
        assert kept < owned(first)
        # what the leaver held was not heard since it left: that is known to the second
        assert all(abs(at - left) < timedelta(seconds=2) for at in first.take_lapsed().values())


async def test_a_process_that_dies_and_comes_back_gets_its_devices_without_waiting(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    kafka = of_its_own(kafka_settings)
    ownership = OwnershipLeases("karcher", kafka, tmp_path)
    task = asyncio.create_task(ownership.run())
    await eventually(lambda: owned(ownership) == set(DEVICES))
    await ownership._commit_marks()
    # dies: no word of farewell to the group
    die_without_leaving_the_group(ownership._consumer)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with member(kafka, tmp_path) as successor:
        await eventually(lambda: owned(successor) == set(DEVICES), 2)  # the session lasts 3 s
        marks = successor.take_lapsed()
        assert len(marks) == 4 and successor.take_lapsed() == {}
        assert all(datetime.now(UTC) - at < timedelta(seconds=5) for at in marks.values())


async def test_processes_on_other_hosts_take_over_from_a_dead_one(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    kafka = of_its_own(kafka_settings)
    dead = OwnershipLeases("karcher", kafka, tmp_path / "a")
    task = asyncio.create_task(dead.run())
    await eventually(lambda: owned(dead) == set(DEVICES))
    async with member(kafka, tmp_path / "a") as alive:
        await eventually(lambda: bool(owned(alive)))
        die_without_leaving_the_group(dead._consumer)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await eventually(lambda: owned(alive) == set(DEVICES), 8)


async def test_a_task_runs_for_each_device_held() -> None:
    running: list[str] = []

    async def hold(device: str) -> None:
        running.append(device)
        try:
            await asyncio.Event().wait()
        finally:
            running.remove(device)

    async with asyncio.TaskGroup() as group:
        held = DeviceTasks(group)
        held.keep({device: lambda device=device: hold(device) for device in "ab"})
        await eventually(lambda: sorted(running) == ["a", "b"])
        held.keep({device: lambda device=device: hold(device) for device in "bc"})
        await eventually(lambda: sorted(running) == ["b", "c"])
        assert len(held) == 2
        held.keep({})
