"""How much fetched input may be in memory: the back-pressure between the consumer and the pipelines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from faust.types import TP

from streams.engine.record_batch import RecordBatch


class BufferBudget:
    """Estimated bytes of delivered and not yet released batches, and how many a partition may have.

    The consumer delivers batches and the pipelines release them; both are given the same budget. Batches of an older
    epoch count no longer.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.wake = asyncio.Event()
        """Set when a partition that was held back may be fetched; whoever waits for it clears it."""
        self._capacity = capacity_bytes
        self._epoch = 0
        self._held: dict[TP, int] = {}

    def begin_epoch(self, epoch: int) -> None:
        """Forget what was delivered: all partitions were revoked, or have a new position."""
        self._epoch = epoch
        self._held.clear()

    def deliver(self, batch: RecordBatch) -> None:
        """Count a batch."""
        self._held[batch.tp] = self._held.get(batch.tp, 0) + batch.size

    def release(self, batch: RecordBatch) -> None:
        """Count a processed batch no longer."""
        if batch.epoch == self._epoch:
            self._held[batch.tp] -= batch.size
            self.wake.set()

    def with_room(self, partitions: Iterable[TP], count: int) -> set[TP]:
        """Those of the partitions that may be fetched, where so many share the budget.

        Half of the capacity is divided evenly; of what is free of the other half a partition may have half, so that a
        few busy partitions among many can hold one fetch while another is processed.
        """
        half = self._capacity // 2
        limit = half // count + max(0, half - sum(self._held.values())) // 2
        return {tp for tp in partitions if self._held.get(tp, 0) < limit}
