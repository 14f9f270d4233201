"""Whether Kafka takes records: known from errors, and from the time that batches wait for their acknowledgement."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from connectors.common.publishing.send_queues import TopicPartition

_log = logging.getLogger(__name__)

_RECOVERED = 0.3
"""Part of `stalled_after` that no batch may exceed when Kafka is to count as back."""


class KafkaAvailability:
    """Logs one line when Kafka goes away, and one when it is back.

    Kafka is away after an error, or when a batch waits longer than `stalled_after` seconds. It is back only when all
    batches are clearly faster than that, so that a slow broker is not away and back by turns. After a broker's restart
    it takes a while until every partition has a leader again.
    """

    def __init__(self, stalled_after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.stalled_after = stalled_after
        self._clock = clock
        self._in_flight: dict[TopicPartition, float] = {}
        self._reason: str | None = "not connected yet"
        self.is_away = False
        """Whether Kafka is known to be away; not during the first attempt to connect."""

    @property
    def problem(self) -> str | None:
        """Why Kafka takes no records at the moment; None where it does."""
        return f"Kafka is away: {self._reason}" if self._reason else None

    def sent(self, partition: TopicPartition) -> None:
        """A batch of the partition begins to wait for its acknowledgement."""
        self._in_flight[partition] = self._clock()

    def ended(self, partition: TopicPartition) -> None:
        """The partition's batch waits no longer."""
        self._in_flight.pop(partition, None)

    def failed(self, reason: str) -> None:
        """Kafka did not take something."""
        if not self.is_away:
            _log.warning("Kafka is away (%s); nothing is acknowledged upstream until it is back", reason)
        self.is_away = True
        self._reason = reason

    def check_stalled(self) -> None:
        """Treat a broker that accepts batches and never acknowledges them as away."""
        if self._longest_wait() > self.stalled_after:
            self.failed(f"no acknowledgement for {self.stalled_after:g} s")

    def succeeded(self) -> bool:
        """Kafka took something; whether it takes records of all partitions again."""
        if self.is_away and self._longest_wait() > self.stalled_after * _RECOVERED:
            return False
        if self.is_away:
            _log.info("Kafka is back")
        self.is_away = False
        self._reason = None
        return True

    def _longest_wait(self) -> float:
        """How many seconds the oldest batch has waited for its acknowledgement."""
        now = self._clock()
        return now - min(self._in_flight.values(), default=now)
