"""The order in which a step is given its state and its side inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from aiokafka import TopicPartition
from faust.types import TP

from schemas.consumed import Record
from streams.engine.side_inputs import subscriptions_of
from streams.engine.step import Output, SideInput, Step
from streams.engine.step_inputs import StepInputs
from tests.support.records import ConsumedRecord


class Listening(Step):
    """Notes what it is given, in order."""

    state_topic = "state"

    def __init__(self, *side_inputs: SideInput) -> None:
        self.side_inputs = side_inputs
        self.given: list[str] = []

    def restore(self, key: bytes | None, value: bytes | None) -> None:
        self.given.append("state")

    def assign_side_inputs(self, partitions: Mapping[str, set[int]]) -> None:
        self.given.append(f"assigned {dict(partitions)}")

    def process_side_input(self, record: Record) -> None:
        self.given.append(f"side input {record.offset}")

    def process(self, records: Sequence[Record], now_us: int) -> Sequence[Output]:
        return []


class Plain(Step):
    """A step with nothing but its input."""

    def restore(self, key: bytes | None, value: bytes | None) -> None:
        raise AssertionError("has no state")

    def process(self, records: Sequence[Record], now_us: int) -> Sequence[Output]:
        return []


def record(offset: int) -> ConsumedRecord:
    return ConsumedRecord("side", offset, None, b"")


def test_records_of_side_inputs_wait_for_the_state_which_they_may_change() -> None:
    step = Listening(SideInput("side"))
    inputs = StepInputs(TP("in", 0), step)
    inputs.assign({"side": {0}})
    inputs.process_side_input(record(0))
    step.restore(b"k", b"v")
    inputs.side_inputs_read()
    assert not inputs.restored.is_set()
    inputs.state_restored()
    inputs.process_side_input(record(1))
    assert step.given == ["assigned {'side': {0}}", "state", "side input 0", "side input 1"]
    assert inputs.restored.is_set()


def test_a_step_with_side_inputs_waits_for_them_and_one_without_does_not() -> None:
    with_side_input = StepInputs(TP("in", 0), Listening(SideInput("side")))
    with_side_input.state_restored()
    assert not with_side_input.restored.is_set()
    with_side_input.side_inputs_read()
    assert with_side_input.restored.is_set()
    without = StepInputs(TP("in", 0), Plain())
    without.state_restored()
    assert without.restored.is_set()


def test_a_record_of_a_side_input_wakes_the_pipeline_once_the_state_is_there() -> None:
    inputs = StepInputs(TP("in", 0), Listening(SideInput("side")))
    inputs.process_side_input(record(0))
    assert not inputs.changed.is_set()
    inputs.state_restored()
    assert inputs.changed.is_set()


def test_a_partition_that_several_steps_read_is_read_once() -> None:
    side_inputs = (SideInput("all", all_partitions=True), SideInput("own"), SideInput("new", from_end=True))
    readers = [StepInputs(TP("in", number), Listening(*side_inputs)) for number in range(2)]
    for reader in readers:
        reader.assign({"all": {0, 1}, "own": {0, 1}, "new": {0, 1}})
    subscriptions = subscriptions_of(readers)
    assert {tuple(tp): each.readers for tp, each in subscriptions.items()} == {
        ("all", 0): readers,
        ("all", 1): readers,
        ("own", 0): readers[:1],
        ("own", 1): readers[1:],
        ("new", 0): readers[:1],
        ("new", 1): readers[1:],
    }
    assert subscriptions[TopicPartition("new", 0)].from_end
    assert not subscriptions[TopicPartition("own", 0)].from_end


def test_a_step_that_declares_nothing_has_nothing() -> None:
    step = Plain()
    assert step.state_topic is None and step.side_inputs == ()
    assert not step.pending
    assert step.skip_mark() is None
    assert step.source_progress is None
    with pytest.raises(NotImplementedError, match="Plain declares no side inputs"):
        step.process_side_input(record(0))
