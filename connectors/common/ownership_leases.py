"""Leases of devices, where several processes connect to one vendor.

The processes form a Kafka consumer group, `<application_id>-connect-<vendor>`, on the compacted device topic. Only the
group's assignment of partitions is used; no record is read. A device belongs to the partition of its id as a key
(murmur2, as for the producer). The process that has the partition connects to the device.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
from collections.abc import Coroutine, Iterable, Mapping, Set
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from connectors.common.device_ownership import DeviceOwnership
from connectors.common.partition_assignment import assign_partitions
from connectors.common.publishing.partitioner import partition_of
from runtime.aiokafka_internals.consumers import committed_with_metadata, leave_group_at_stop
from runtime.backoff import Backoff
from runtime.kafka import KafkaSettings, client_options
from runtime.locks import lowest_free_number
from schemas.timestamps import format_iso, parse_iso
from schemas.topics import DEVICES

_log = logging.getLogger(__name__)

HANDOVER_SECONDS = 1.0
"""How long after the assignment a partition is opened that another living process has to close first."""
_MARK_SECONDS = 5.0
_METADATA_SECONDS = 2.0
"""How often metadata are fetched: the topic may be declared after this process has started."""


class OwnershipLeases(DeviceOwnership, ConsumerRebalanceListener):  # type: ignore[misc]
    """The devices whose partitions the consumer group assigns to this process.

    During a rebalance every process keeps its partitions until the new assignment is known. Then it closes the lost
    ones at once, and opens those gained from a living process `HANDOVER_SECONDS` later, so that no two processes
    connect to a device. Partitions of a dead process are opened at once; a process counts as dead after
    `session_timeout_seconds` of silence. While Kafka is away, every process keeps its partitions.

    A process that is killed and started again within that time gets its partitions back without waiting. It takes the
    first free one of the host's member names (locked files in `state_dir`), which is the name of the dead process
    (static membership).

    The time until which a partition is held is written into the group's offsets every few seconds, so that the next
    owner knows the gap.
    """

    def __init__(self, vendor: str, kafka: KafkaSettings, state_dir: Path) -> None:
        self.is_known = False
        self._group = f"{kafka.application_id}-connect-{vendor}"
        self._vendor = vendor
        self._kafka = kafka
        self._state_dir = state_dir
        self._partitions = 0
        self._held: frozenset[int] = frozenset()
        self._held_by_others: frozenset[int] = frozenset()
        self._lapsed: dict[int, datetime] = {}
        self._next = asyncio.Event()
        self._openings: set[asyncio.Task[None]] = set()
        self._consumer: Any = None

    @property
    def is_leader(self) -> bool:
        """Whether this process has the first partition."""
        return 0 in self._held

    def owns(self, device_id: str) -> bool:
        """Whether this process has the device's partition."""
        return self._partitions > 0 and self.partition(device_id) in self._held

    def partition(self, device_id: str) -> int:
        """The device's partition."""
        return partition_of(device_id.encode(), self._partitions) if self._partitions else 0

    async def changed(self, version: int) -> None:
        """See `DeviceOwnership.changed`."""
        while self.version == version:
            await self._next.wait()

    def take_lapsed(self) -> dict[int, datetime]:
        """See `DeviceOwnership.take_lapsed`."""
        taken = {partition: until for partition, until in self._lapsed.items() if partition in self._held}
        for partition in taken:
            del self._lapsed[partition]
        return taken

    async def run(self) -> None:
        """Be a member of the group until cancelled; then leave it, so that others take over at once."""
        with lowest_free_number(self._state_dir, f"connect-{self._vendor}") as number:
            name = f"{socket.gethostname()}-{number}"  # after a crash, the crashed process's name
            backoff = Backoff(cap=10.0)
            complained = False
            while True:
                try:
                    await self._be_member(name)
                except (KafkaError, OSError) as error:
                    if not complained:
                        _log.warning("%s: Kafka does not assign devices to this process (%s)", self._vendor, error)
                    complained = True
                    await asyncio.sleep(backoff.next(random.random()))

    async def _be_member(self, name: str) -> None:
        session_ms = int(self._kafka.session_timeout_seconds * 1000)
        self._consumer = consumer = AIOKafkaConsumer(
            **client_options(self._kafka),
            group_id=self._group,
            group_instance_id=name,
            partition_assignment_strategy=(_assignor(self),),
            enable_auto_commit=False,
            auto_offset_reset="latest",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=min(1000, session_ms // 5),
            rebalance_timeout_ms=session_ms,
            metadata_max_age_ms=int(_METADATA_SECONDS * 1000),
        )
        consumer.subscribe([DEVICES], listener=self)
        marking = asyncio.create_task(self._mark())
        try:
            await consumer.start()
            while True:
                await consumer.getone()  # paused partitions give no records, but errors are raised
        except asyncio.CancelledError:
            with suppress(KafkaError):
                await self._commit_marks()
            leave_group_at_stop(consumer)
            raise
        finally:
            marking.cancel()
            for task in self._openings:
                task.cancel()
            await asyncio.gather(marking, *self._openings, return_exceptions=True)
            await consumer.stop()

    async def on_partitions_revoked(self, revoked: Set[TopicPartition]) -> None:
        """A rebalance begins. The new assignment is not known yet, so nothing is closed."""
        with suppress(KafkaError):
            await self._commit_marks()

    async def on_partitions_assigned(self, assigned: Set[TopicPartition]) -> None:
        """The rebalance has ended: close the lost partitions, open the gained ones."""
        consumer = self._consumer
        consumer.pause(*assigned)
        self._partitions = len(consumer.partitions_for_topic(DEVICES) or ())
        ours = frozenset(tp.partition for tp in assigned)
        gained = ours - self._held
        self._set_held(self._held & ours)
        self._lapsed.update(await self._marks(gained))
        waiting = gained & self._held_by_others
        self._set_held(self._held | (gained - waiting))
        self.is_known = True
        if waiting:
            self._spawn(self._open_later(waiting))
        _log.info("%s: this process owns %d of %d partitions of the devices", self._vendor, len(ours), self._partitions)

    async def _open_later(self, partitions: frozenset[int]) -> None:
        await asyncio.sleep(HANDOVER_SECONDS)
        assigned = {tp.partition for tp in self._consumer.assignment()}
        self._set_held(self._held | (partitions & assigned))

    def _set_held(self, held: frozenset[int]) -> None:
        if held == self._held and self.is_known:
            return
        self._held = held
        self.version += 1
        changed, self._next = self._next, asyncio.Event()
        changed.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._openings.add(task)
        task.add_done_callback(self._openings.discard)

    # The assignor's view of this member.

    def held(self) -> list[int]:
        """The partitions that this process reports to the leader of the group."""
        return sorted(self._held)

    def set_held_by_others(self, partitions: Iterable[int]) -> None:
        """Take from the leader which of the assigned partitions another process held until now."""
        self._held_by_others = frozenset(partitions)

    # Until when a partition was held: in the metadata of the group's offsets.

    async def _mark(self) -> None:
        while True:
            await asyncio.sleep(_MARK_SECONDS)
            with suppress(KafkaError):  # a rebalance, or Kafka is away: the next attempt will do
                await self._commit_marks()

    async def _commit_marks(self) -> None:
        ours = self._held & {tp.partition for tp in self._consumer.assignment()}
        if ours:
            mark = OffsetAndMetadata(0, format_iso(datetime.now(UTC)))
            await self._consumer.commit({TopicPartition(DEVICES, partition): mark for partition in ours})

    async def _marks(self, partitions: Iterable[int]) -> dict[int, datetime]:
        wanted = [TopicPartition(DEVICES, partition) for partition in partitions]
        marks: dict[int, datetime] = {}
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(_MARK_SECONDS):
                for partition, offset in (await committed_with_metadata(self._consumer, wanted)).items():
                    marks[partition.partition] = parse_iso(offset.metadata)
        return marks


def _assignor(leases: OwnershipLeases) -> type[AbstractPartitionAssignor]:
    """An assignor class for this member only: aiokafka's interface has class methods only, and its own sticky assignor
    keeps the state of all consumers of the process in the class.
    """

    class StickyAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
        name = "fleetlake-divide"
        """Part of the group protocol: members with another name could not join."""

        @classmethod
        def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
            return ConsumerProtocolMemberMetadata(0, list(topics), json.dumps(leases.held()).encode())

        @classmethod
        def assign(
            cls, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
        ) -> dict[str, ConsumerProtocolMemberAssignment]:
            held = {member: _decode(metadata.user_data) for member, metadata in members.items()}
            assigned = assign_partitions(held, cluster.partitions_for_topic(DEVICES) or ())
            holders = [(member, partition) for member, partitions in held.items() for partition in partitions]
            return {
                member: ConsumerProtocolMemberAssignment(
                    0,
                    [(DEVICES, sorted(partitions))],
                    json.dumps(sorted(partitions & {p for other, p in holders if other != member})).encode(),
                )
                for member, partitions in assigned.items()
            }

        @classmethod
        def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
            leases.set_held_by_others(_decode(assignment.user_data))

    return StickyAssignor


def _decode(user_data: bytes | None) -> set[int]:
    return set(json.loads(user_data or b"[]"))
