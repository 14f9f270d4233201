"""Where a record's time goes in a stream worker: each step of the way by itself, CPU microseconds a record."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from bench.job import Job, envelopes
from bench.part import Bench, progress
from bench.results import Samples
from runtime.aiokafka_internals.fetch_buffers import RawRecords, uncompressed
from runtime.kafka_records.fetched import FetchedBatch, FetchedRecord, FetchedRecords, runs_of
from runtime.kafka_records.packed import OutputColumns, PackedBatch
from schemas import wire
from schemas.envelope import read_envelope
from schemas.topics import raw_topic
from streams.engine.step import Output, single_outputs
from streams.normalise import normalise
from streams.normalise.duplicates import DuplicateFilter
from streams.normalise.message import Options
from streams.normalise.operator import NormaliseOperator

NAME = "steps"
MESSAGES = 40_000
MACHINES = 1_000
_BATCH_RECORDS = 5_000
_RUN_RECORDS = 1000  # as the engine hands them to the step
_LZ4 = 3  # Kafka's number of the codec that connectors use
_INPUT = raw_topic("karcher")

Outputs = list[Output | OutputColumns]


async def run(bench: Bench, samples: Samples) -> None:
    """All steps in turn, repeatedly; nothing but this process is needed."""
    job = Job(bench.scaled(MESSAGES), MACHINES, int(time.time() * 1000))
    fetched = _fetched(job)
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # as the worker does
    try:
        _repeat(fetched, job, bench.runs, samples)
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _repeat(fetched: list[bytes], job: Job, runs: int, samples: Samples) -> None:
    for _ in range(runs):
        for system, microseconds in _measure(fetched, job.messages).items():
            samples.add(NAME, system, cpu_us_per_record=microseconds)
            progress(f"{NAME}: {system}: {microseconds:.2f} µs")


def _measure(fetched: list[bytes], messages: int) -> dict[str, float]:
    costs: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begun = time.process_time()
        result = work()
        costs[name] = 1e6 * (time.process_time() - begun) / messages
        return result

    options, origin = Options(), wire.Origin(_INPUT, 0, 0)
    parsed = timed("aiokafka: parse the batch", lambda: _parse(fetched))
    records = timed("transport: make records", lambda: list(map(_record, parsed)))
    received = timed("step: read envelopes", lambda: [read_envelope(r.value, r.headers) for r in records])
    duplicates = DuplicateFilter(64 << 20)
    timed("step: look for repeats", lambda: [duplicates.is_duplicate(envelope) for envelope in received])
    made = timed("step: normalise", lambda: [normalise(envelope, origin, options).observation for envelope in received])
    timed("step: encode", lambda: list(map(wire.encode, made)))
    outputs = timed("step, record by record", lambda: _step(records, options))
    timed("transaction: build batches, record by record", lambda: _build(single_outputs(outputs)))
    batches = timed("transport: uncompressed batches", lambda: _batches(fetched))
    timed("columns: read the batches", lambda: [batch.columns for batch in batches])
    packed = timed("step, by columns", lambda: _step_by_columns(batches, options))
    timed("transaction: build batches, by columns", lambda: _pack(packed))
    return costs


def _fetched(job: Job) -> list[bytes]:
    """The job's raw topic as the broker hands it over."""
    done, builder, offset = [], _builder(), 0
    for envelope in envelopes(job):
        if builder.append(offset, 0, envelope.key, envelope.data, envelope.headers()) is None:
            done.append(bytes(builder.build()))
            builder, offset = _builder(), 0
            builder.append(offset, 0, envelope.key, envelope.data, envelope.headers())
        offset += 1
    return [*done, bytes(builder.build())]


def _builder() -> Any:
    return DefaultRecordBatchBuilder(
        magic=2,
        compression_type=_LZ4,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )


def _parse(fetched: list[bytes]) -> list[Any]:
    parsed: list[Any] = []
    for data in fetched:
        batches = MemoryRecords(data)
        while batches.has_next():
            parsed.extend(batches.next_batch())
    return parsed


def _record(r: Any) -> FetchedRecord:
    return FetchedRecord(_INPUT, 0, r.offset, r.timestamp, r.key, r.value, r.headers)


def _step(records: Sequence[Any], options: Options) -> Outputs:
    step, outputs = NormaliseOperator(_INPUT, options), []
    for start in range(0, len(records), _BATCH_RECORDS):
        outputs += step.process(records[start : start + _BATCH_RECORDS], 0)
    return outputs


def _build(outputs: Sequence[Output]) -> None:
    builder = BatchBuilder(512 << 10, 0, is_transactional=True)
    for _, key, value, headers in outputs:
        if builder.append(key=key, value=value, timestamp=0, headers=list(headers)) is None:
            builder = BatchBuilder(512 << 10, 0, is_transactional=True)
            builder.append(key=key, value=value, timestamp=0, headers=list(headers))


def _batches(fetched: list[bytes]) -> list[FetchedBatch]:
    made = []
    for data in fetched:
        records = RawRecords(data)
        while records.has_next():
            batch = records.next_batch()
            if not batch.validate_crc():
                raise ValueError("a checksum is wrong")
            made.append(FetchedBatch(_INPUT, 0, uncompressed(records.last, batch.compression_type)))
    return made


def _step_by_columns(batches: list[FetchedBatch], options: Options) -> Outputs:
    step, outputs = NormaliseOperator(_INPUT, options), []
    for run in runs_of([FetchedRecords(batches)], _RUN_RECORDS):
        outputs += step.process(run, 0)
    return outputs


def _pack(outputs: Outputs) -> None:
    for output in outputs:
        added = 0
        while isinstance(output, OutputColumns) and added < len(output):
            batch = PackedBatch(960 << 10, None)
            added += batch.extend(output, added, 0)
            batch.build()
