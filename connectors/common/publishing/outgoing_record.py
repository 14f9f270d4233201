"""A record on its way to Kafka, and how each message of the contract becomes one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from schemas import wire
from schemas.device import split_device_id
from schemas.envelope import Envelope
from schemas.timestamps import to_micros
from schemas.topics import COVERAGE, DEAD_LETTER, DEVICES, RULES, raw_topic

_FRAMING_BYTES = 500
"""Generous room for headers and framing of a record."""


def _new_future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class OutgoingRecord:
    """One record and the future that is done when the broker has acknowledged it. Needs a running event loop."""

    topic: str
    vendor: str
    key: bytes
    value: bytes | None
    timestamp_ms: int
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    envelope: Envelope | None = None
    """The envelope that the record is made of; None for devices, rules and dead letters."""
    partition_key: bytes | None = None
    """Chooses the partition in place of the key."""
    generation: int = 0
    """Which flush of the queues concerns the record."""
    delivered: asyncio.Future[None] = field(default_factory=_new_future)

    @property
    def size(self) -> int:
        """The bytes that the record takes in a batch, rather over- than underestimated."""
        return len(self.key) + len(self.value or b"") + _FRAMING_BYTES

    def settle(self) -> None:
        """Say that the record is delivered. Its caller may have given up waiting; then nothing happens."""
        if not self.delivered.done():
            self.delivered.set_result(None)


@dataclass(frozen=True, slots=True)
class VendorRule:
    """A vendor's alarm rule as the vendor gives it; `rule` is None for a deleted one."""

    vendor: str
    rule_id: str
    rule: bytes | None
    headers: list[tuple[str, bytes]]
    at: datetime


def envelope_record(envelope: Envelope) -> OutgoingRecord:
    """The raw record of an envelope."""
    vendor, _ = split_device_id(envelope.device_id)
    at = _millis(envelope.received_at)
    return OutgoingRecord(raw_topic(vendor), vendor, envelope.key, envelope.data, at, envelope.headers(), envelope)


def device_record(device: wire.Device) -> OutgoingRecord:
    """The registry's record of a device."""
    key, value = device.device_id.encode(), wire.encode(device)
    return OutgoingRecord(DEVICES, device.vendor, key, value, _millis(device.updated_at))


def rule_record(rule: VendorRule) -> OutgoingRecord:
    """The record of a vendor's rule; a tombstone for a deleted one."""
    return OutgoingRecord(RULES, rule.vendor, rule.rule_id.encode(), rule.rule, _millis(rule.at), rule.headers)


def coverage_record(report: wire.Coverage, key: str, subject: str) -> OutgoingRecord:
    """The record of a report of coverage, on the partition of its subject."""
    at = report.reported_until // 1000
    value = wire.encode(report)
    return OutgoingRecord(COVERAGE, report.vendor, key.encode(), value, at, partition_key=subject.encode())


def dead_letter_record(letter: wire.DeadLetter) -> OutgoingRecord:
    """The record of a dead letter."""
    vendor = letter.vendor or "unknown"
    key = (letter.device_id or vendor).encode()
    return OutgoingRecord(DEAD_LETTER, vendor, key, wire.encode(letter), _millis(letter.received_at))


def _millis(at: datetime) -> int:
    return to_micros(at) // 1000
