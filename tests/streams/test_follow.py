"""What a pipeline does with records of the topics its step follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from faust.types import TP

from schemas.consumed import Record
from streams.engine.partition_pipeline import Pipeline, PipelineOptions
from streams.engine.step import Output, SideInput, Step
from tests.support.records import ConsumedRecord


class Listening(Step):
    """Notes what it is given, in order."""

    state_topic = "state"
    side_inputs = (SideInput("side"),)

    def __init__(self) -> None:
        self.given: list[str] = []

    def restore(self, key: bytes | None, value: bytes | None) -> None:
        self.given.append("state")

    def assign_side_inputs(self, partitions: Mapping[str, set[int]]) -> None:
        self.given.append(f"expect {partitions}")

    def process_side_input(self, record: Record) -> None:
        self.given.append(f"followed {record.offset}")

    def process(self, records: Sequence[Record], now_us: int) -> Sequence[Output]:
        return []


async def test_followed_records_wait_for_the_state_which_they_may_change() -> None:
    step = Listening()
    no_kafka = cast(Any, None)
    pipeline = Pipeline(TP("in", 0), step, no_kafka, "group", PipelineOptions(), lambda batch: None, None)
    pipeline.follow(ConsumedRecord("side", 0, None, b""))
    step.restore(b"k", b"v")
    pipeline.read_back("followed")
    assert not pipeline.restored.is_set()
    pipeline.read_back("state")
    pipeline.follow(ConsumedRecord("side", 1, None, b""))
    assert step.given == ["state", "followed 0", "followed 1"]
    assert pipeline.restored.is_set()
