"""Which devices this process holds, where several processes connect to one vendor.

The processes are a Kafka consumer group, `<application_id>-connect-<vendor>`, on the compacted device topic. Only the
assignment of its partitions is used; no record is read. A device belongs to the partition that its id has as a key
(murmur2, as the producer does), so the process that owns the partition holds the device's socket and polls.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import random
import socket
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from connectors.common.backoff import Backoff
from connectors.common.publisher import partition_of
from runtime.kafka import KafkaSettings, client_options
from schemas.timestamps import format_iso, parse_iso
from schemas.topics import DEVICES

_log = logging.getLogger(__name__)

HANDOVER_SECONDS = 1.0
"""A partition that another living process held is opened so much later than that process closes it."""
_MARK_SECONDS = 5.0
_METADATA_SECONDS = 2.0
"""The topic may be declared only after we have started."""


def divide(held: Mapping[str, Set[int]], partitions: Collection[int]) -> dict[str, set[int]]:
    """Each member's partitions: as even as can be, and as much as possible where it was. Pure, and the same for the
    same arguments. `held` names all members with what they hold.
    """
    free = set(partitions)
    order = sorted(held, key=lambda member: (-len(held[member] & free), member))
    fair, more = divmod(len(free), len(order)) if order else (0, 0)
    quota = {member: fair + (rank < more) for rank, member in enumerate(order)}
    shares: dict[str, set[int]] = {}
    for member in order:
        shares[member] = set(sorted(held[member] & free)[: quota[member]])
        free -= shares[member]
    for member in order:
        taken = sorted(free)[: quota[member] - len(shares[member])]
        shares[member].update(taken)
        free.difference_update(taken)
    return shares


class Share:
    """The devices that are this process's. This one: all there are; `KafkaShare` divides them.

    Whoever holds devices notes the `version`, calls `owns` for each, holds those only, and looks again when `changed`
    returns.
    """

    joined = True
    """Whether it is known what is ours."""
    version = 0
    """Another number whenever what is ours has changed."""

    @property
    def leads(self) -> bool:
        """Whether this process does what is to be done once for the whole account."""
        return True

    def owns(self, device_id: str) -> bool:
        """Whether the device is ours now."""
        return True

    def part(self, device_id: str) -> int:
        """The number of the part (partition) the device is in: for state that moves with it."""
        return 0

    async def settled(self) -> None:
        """Waits until it is known what is ours."""
        while not self.joined:
            await self.changed(self.version)

    async def changed(self, version: int) -> None:
        """Waits until what is ours is no longer what it was at `version`."""
        await asyncio.Event().wait()

    def take_interrupted(self) -> dict[int, datetime]:
        """Parts that became ours since the last call, with the time until which they had been held before: whatever
        was told without a replay since then is lost. Parts that were never held are not in it.
        """
        return {}


class KafkaShare(Share, ConsumerRebalanceListener):  # type: ignore[misc]
    """The share that the consumer group gives us.

    In a rebalance everybody keeps what it holds until the new division is known; then what was lost is closed at once,
    and what was gained from a living process is opened `HANDOVER_SECONDS` later, so that no device is held twice.
    What a dead process held is opened at once; it is dead after `session_timeout_seconds` of silence. While Kafka is
    away, everybody keeps what it has.

    A process that is killed and started again within that time gets back what it held without waiting: it takes the
    first free of the host's names in the group (`state_dir`, locked), which is the dead one's (static membership).

    What is held is marked in the group's offsets every few seconds, so that a successor can tell the gap.
    """

    def __init__(self, vendor: str, kafka: KafkaSettings, state_dir: Path) -> None:
        self.joined = False
        self._group = f"{kafka.application_id}-connect-{vendor}"
        self._vendor = vendor
        self._kafka = kafka
        self._state_dir = state_dir
        self._partitions = 0
        self._held: frozenset[int] = frozenset()
        self._handed: frozenset[int] = frozenset()
        self._interrupted: dict[int, datetime] = {}
        self._next = asyncio.Event()
        self._openings: set[asyncio.Task[None]] = set()
        self._consumer: Any = None

    @property
    def leads(self) -> bool:
        """The process that holds the first part."""
        return 0 in self._held

    def owns(self, device_id: str) -> bool:
        """Whether the device's partition is ours."""
        return self._partitions > 0 and self.part(device_id) in self._held

    def part(self, device_id: str) -> int:
        """The device's partition."""
        return partition_of(device_id.encode(), self._partitions) if self._partitions else 0

    async def changed(self, version: int) -> None:
        """See `Share.changed`."""
        while self.version == version:
            await self._next.wait()

    def take_interrupted(self) -> dict[int, datetime]:
        """See `Share.take_interrupted`."""
        taken = {part: until for part, until in self._interrupted.items() if part in self._held}
        for part in taken:
            del self._interrupted[part]
        return taken

    async def run(self) -> None:
        """Be a member of the group until cancelled, then leave it, so that others take over at once."""
        with _own_name(self._state_dir, f"connect-{self._vendor}") as name:
            backoff = Backoff(cap=10.0)
            said = False
            while True:
                try:
                    await self._be_member(name)
                except (KafkaError, OSError) as error:
                    if not said:
                        _log.warning("%s: no word from the group that divides the devices (%s)", self._vendor, error)
                    said = True
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
                await consumer.getone()  # nothing comes of partitions that are paused; errors do
        except asyncio.CancelledError:
            with suppress(KafkaError):
                await self._commit_marks()
            consumer._coordinator._group_instance_id = None  # aiokafka lets a static member leave by time-out only
            raise
        finally:
            marking.cancel()
            for task in self._openings:
                task.cancel()
            await asyncio.gather(marking, *self._openings, return_exceptions=True)
            await consumer.stop()

    async def on_partitions_revoked(self, revoked: Set[TopicPartition]) -> None:
        """A rebalance begins. Who will have what is not known yet, so nothing is closed."""
        with suppress(KafkaError):
            await self._commit_marks()

    async def on_partitions_assigned(self, assigned: Set[TopicPartition]) -> None:
        """The rebalance has ended: close what was lost, open what was gained."""
        consumer = self._consumer
        consumer.pause(*assigned)
        self._partitions = len(consumer.partitions_for_topic(DEVICES) or ())
        ours = frozenset(tp.partition for tp in assigned)
        gained = ours - self._held
        self._set_held(self._held & ours)
        for part, until in (await self._marks(gained)).items():
            self._interrupted[part] = until
        waiting = gained & self._handed
        self._set_held(self._held | (gained - waiting))
        self.joined = True
        if waiting:
            self._spawn(self._open_later(waiting))
        _log.info("%s: this process has %d of %d parts of the devices", self._vendor, len(ours), self._partitions)

    async def _open_later(self, parts: frozenset[int]) -> None:
        await asyncio.sleep(HANDOVER_SECONDS)
        assigned = {tp.partition for tp in self._consumer.assignment()}
        self._set_held(self._held | (parts & assigned))

    def _set_held(self, held: frozenset[int]) -> None:
        if held == self._held and self.joined:
            return
        self._held = held
        self.version += 1
        changed, self._next = self._next, asyncio.Event()
        changed.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._openings.add(task)
        task.add_done_callback(self._openings.discard)

    # What the assignor needs of a member, and tells it.

    def held(self) -> list[int]:
        """What we tell the leader of the group that we hold."""
        return sorted(self._held)

    def set_handed(self, parts: Iterable[int]) -> None:
        """What the leader says others had until now."""
        self._handed = frozenset(parts)

    # Until when a part was held, in the metadata of the group's offsets.

    async def _mark(self) -> None:
        while True:
            await asyncio.sleep(_MARK_SECONDS)
            with suppress(KafkaError):  # a rebalance, or Kafka is away: the next one will do
                await self._commit_marks()

    async def _commit_marks(self) -> None:
        ours = self._held & {tp.partition for tp in self._consumer.assignment()}
        if ours:
            mark = OffsetAndMetadata(0, format_iso(datetime.now(UTC)))
            await self._consumer.commit({TopicPartition(DEVICES, part): mark for part in ours})

    async def _marks(self, parts: Iterable[int]) -> dict[int, datetime]:
        wanted = [TopicPartition(DEVICES, part) for part in parts]
        marks: dict[int, datetime] = {}
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(_MARK_SECONDS):
                # `committed` of the public interface drops the metadata
                for partition, found in (await self._consumer._coordinator.fetch_committed_offsets(wanted)).items():
                    marks[partition.partition] = parse_iso(found.metadata)
        return marks


@contextmanager
def _own_name(state_dir: Path, purpose: str) -> Iterator[str]:
    """A name of this host's that no other process has; the first free one, so that a successor gets the dead one's."""
    state_dir.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        with (state_dir / f"{purpose}-{number}.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                number += 1
                continue
            yield f"{socket.gethostname()}-{number}"
            return


def _assignor(share: KafkaShare) -> type[AbstractPartitionAssignor]:
    """An assignor class of this member alone: aiokafka's interface has class methods only, and its own sticky assignor
    keeps its state in the class, for all consumers of the process together.
    """

    class Divide(AbstractPartitionAssignor):  # type: ignore[misc]
        name = "fleetlake-divide"

        @classmethod
        def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
            return ConsumerProtocolMemberMetadata(0, list(topics), json.dumps(share.held()).encode())

        @classmethod
        def assign(
            cls, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
        ) -> dict[str, ConsumerProtocolMemberAssignment]:
            held = {member: _parts(metadata.user_data) for member, metadata in members.items()}
            shares = divide(held, cluster.partitions_for_topic(DEVICES) or ())
            everybodys = [(member, part) for member, parts in held.items() for part in parts]
            return {
                member: ConsumerProtocolMemberAssignment(
                    0,
                    [(DEVICES, sorted(parts))],
                    json.dumps(sorted(parts & {p for other, p in everybodys if other != member})).encode(),
                )
                for member, parts in shares.items()
            }

        @classmethod
        def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
            share.set_handed(_parts(assignment.user_data))

    return Divide


def _parts(user_data: bytes | None) -> set[int]:
    return set(json.loads(user_data or b"[]"))


class HeldTasks:
    """One task for each device that is held: those of `wanted` run, others are cancelled."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def keep(self, wanted: Mapping[str, Callable[[], Coroutine[Any, Any, None]]]) -> None:
        """Start what is wanted and does not run; cancel what runs and is not wanted."""
        for device in [d for d, task in self._tasks.items() if d not in wanted or task.done()]:
            self._tasks.pop(device).cancel()
        for device, work in wanted.items():
            if device not in self._tasks:
                self._tasks[device] = self._group.create_task(work())

    def __len__(self) -> int:
        return len(self._tasks)
