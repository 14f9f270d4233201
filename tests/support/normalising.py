"""What tests of the normalise operator share: raw records, an operator, what it wrote to a topic, a restart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.envelope import Envelope
from schemas.topics import (
    NORMALISE_STATE,
    POLLED_STATE,
    raw_topic,
)
from streams.engine.step import Output
from streams.normalise import Options
from streams.normalise.operator import NormaliseOperator
from tests.support.records import WRITTEN_MS, ConsumedRecord

RAW = raw_topic("karcher")


def raw(envelope: Envelope, offset: int, topic: str = RAW) -> ConsumedRecord:
    return ConsumedRecord(topic, offset, envelope.key, envelope.data, WRITTEN_MS, headers=envelope.headers())


def normalise_step(topic: str = RAW, **bounds: Any) -> NormaliseOperator:
    return NormaliseOperator(topic, Options(), **bounds)


def of(outputs: Sequence[Output], topic: str) -> list[Output]:
    return [output for output in outputs if output.topic == topic]


def restarted(step: NormaliseOperator, outputs: Sequence[Output]) -> NormaliseOperator:
    """A new instance that knows what `outputs` wrote to the state topics."""
    fresh = normalise_step(step._ids_key.decode())
    for output in [*of(outputs, NORMALISE_STATE), *of(outputs, POLLED_STATE)]:
        fresh.restore(output.key, output.value)
    return fresh
