"""When a watermark may be written: of restored sources, once all that was there at its time is committed."""

from __future__ import annotations

from typing import Any, cast

from aiokafka import TopicPartition
from faust.types import TP

from schemas import wire
from schemas.timestamps import to_micros
from schemas.topics import EVENTS, READINGS, raw_topic
from streams.detect.options import DetectOptions
from streams.detect.rule_operator import RuleOperator
from streams.engine.buffer_budget import BufferBudget
from streams.engine.options import PipelineOptions
from streams.engine.partition_pipeline import Pipeline, PipelineContext
from streams.engine.step import Step
from streams.normalise import Options
from streams.normalise.operator import NormaliseOperator
from streams.normalise.watermark_source import Claim, due_watermarks, sources_of

RAW = raw_topic("karcher")
PARTITION = TopicPartition(RAW, 0)


def pipeline_of(step: Step, topic: str = RAW) -> Pipeline:
    context = PipelineContext("app", PipelineOptions(), BufferBudget(1000))
    return Pipeline(TP(topic, 0), step, cast(Any, None), context)


def normalising() -> Pipeline:
    return pipeline_of(NormaliseOperator(RAW, Options()))


def test_only_a_restored_pipeline_that_reads_a_source_claims_something() -> None:
    restored, restoring = normalising(), normalising()
    detecting = pipeline_of(RuleOperator(0, DetectOptions()), READINGS)
    restored.inputs.state_restored()
    detecting.inputs.state_restored()
    detecting.inputs.side_inputs_read()
    assert sources_of([restoring, detecting]) == {}
    assert sources_of([restored, detecting]) == {PARTITION: restored}


def test_a_watermark_waits_until_its_end_is_committed() -> None:
    pipeline = normalising()
    claims = {PARTITION: Claim(at=1_773_645_667_000_000, end=7, clock=1_773_645_667_000_000)}
    assert due_watermarks({PARTITION: pipeline}, claims) == {}, "its position is not known"
    pipeline.positioned(6, 1)
    assert due_watermarks({PARTITION: pipeline}, claims) == {}
    pipeline.positioned(7, 1)
    (written,) = due_watermarks({PARTITION: pipeline}, claims).values()
    watermark = wire.decode_watermark(written)
    assert (watermark.vendor, to_micros(watermark.at)) == ("karcher", 1_773_645_667_000_000)
    assert (watermark.readings_to, watermark.events_to) == (-1, -1)


def test_a_watermark_says_up_to_which_raw_record_something_was_emitted() -> None:
    pipeline = normalising()
    pipeline.step.restore(f"{RAW}#told".encode(), (41).to_bytes(8, "little") + (43).to_bytes(8, "little"))
    pipeline.positioned(50, 1)
    (written,) = due_watermarks({PARTITION: pipeline}, {PARTITION: Claim(0, 50, 0)}).values()
    watermark = wire.decode_watermark(written)
    assert (watermark.readings_to, watermark.events_to) == (41, 43)
    progress = pipeline.step.source_progress
    assert progress is not None and progress.emitted == {READINGS: 41, EVENTS: 43}
