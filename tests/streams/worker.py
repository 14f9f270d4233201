"""A stream worker process for the transport tests: `python -m tests.streams.worker BOOTSTRAP APP STEP IN OUT STATE`.

Prints one JSON line a committed batch when STATS is set, and exits as the product's `stream` command does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime.kafka import KafkaSettings
from schemas.consumed import Record
from streams.engine.app import Streams, build_app, run_streams
from streams.engine.options import BatchStats, StreamsFailed, WorkerOptions
from streams.engine.step import MAX_RECORD_BYTES, Output, SideInput, SkipMark, Step, StepFactory
from tests.support.waiting import passing_blocking

STARTED = time.time()


class Numbered(Step):
    """Writes each record's coordinates."""

    def __init__(self, out: str, state: str) -> None:
        self.out, self.state = out, state

    def restore(self, key: bytes | None, value: bytes | None) -> None:
        raise AssertionError("has no state")

    def process(self, records: Sequence[Record], now_us: int) -> Sequence[Output]:
        return [Output(self.out, r.key, b"%d:%d" % (r.partition, r.offset)) for r in records]


class Counter(Numbered):
    """Counts the records of each key; every output carries the count after it."""

    def __init__(self, out: str, state: str) -> None:
        super().__init__(out, state)
        self.state_topic = state
        self.counts: dict[bytes, int] = {}

    def restore(self, key: bytes | None, value: bytes | None) -> None:
        assert key is not None and value is not None
        self.counts[key] = int(value)

    def process(self, records: Sequence[Record], now_us: int) -> Sequence[Output]:
        outputs, changed = [], set()
        for r in records:
            assert r.key is not None
            count = self.counts[r.key] = self.counts.get(r.key, 0) + 1
            changed.add(r.key)
            outputs.append(Output(self.out, r.key, b"%d:%d:%d" % (r.partition, r.offset, count)))
        outputs += [Output(self.state, key, b"%d" % self.counts[key]) for key in sorted(changed)]
        time.sleep(float(os.environ.get("STEP_SLEEP", "0")))
        return outputs


class Windowed(Counter):
    """Like `Counter`, but forgets what is older than the window, except in its second state topic."""

    def __init__(self, out: str, state: str) -> None:
        super().__init__(out, state)
        self.state_window_seconds = 60
        self.lasting_state_topic = os.environ.get("LASTING_STATE")


class Raising(Numbered):
    """Raises at a record whose value says so."""

    def process(self, records: Sequence[Record], now_us: int) -> Sequence[Output]:
        if any(r.value == b"poison" for r in records):
            raise ZeroDivisionError("the step met poison")
        return super().process(records, now_us)


class Lingering(Numbered):
    """Says that it has a batch, and takes its time; the test freezes it meanwhile. Only if told where to say so."""

    def process(self, records: Sequence[Record], now_us: int) -> Sequence[Output]:
        if told := os.environ.get("LINGER_FILE"):
            Path(told).touch()
            passing_blocking(2, "the test freezes it meanwhile")
        return super().process(records, now_us)


class Oversized(Numbered):
    """Emits a record larger than any topic takes."""

    def process(self, records: Sequence[Record], now_us: int) -> Sequence[Output]:
        return [Output(self.out, b"big", bytes(MAX_RECORD_BYTES))]


class Refused(Numbered):
    """Emits a record that our limit allows and the broker refuses (the topic takes less)."""

    def process(self, records: Sequence[Record], now_us: int) -> Sequence[Output]:
        return [*super().process(records, now_us), Output(self.out, b"big", bytes(3_000_000))]


class Idle(Numbered):
    """Wants no records until there is one on the side input; like the detection of alarms without rules."""

    def __init__(self, out: str, state: str) -> None:
        super().__init__(out, state)
        self.side_inputs = (SideInput(os.environ["SIDE_INPUT"]),)
        self.idle = True

    def assign_side_inputs(self, partitions: Mapping[str, set[int]]) -> None:
        assert set(partitions) == {os.environ["SIDE_INPUT"]}

    def skip_mark(self) -> SkipMark | None:
        return {} if self.idle else None

    def process_side_input(self, record: Record) -> None:
        self.idle = record.value == b"sleep"

    def process(self, records: Sequence[Record], now_us: int) -> Sequence[Output]:
        return [] if self.idle else super().process(records, now_us)


STEPS = {
    step.__name__.lower(): step for step in (Numbered, Counter, Windowed, Raising, Lingering, Oversized, Refused, Idle)
}


class Report:
    def __init__(self) -> None:
        self.first = True

    def batch_committed(self, stats: BatchStats) -> None:
        if self.first:
            self.first = False
            print(json.dumps({"first_batch_after": time.time() - STARTED}), flush=True)
        if os.environ.get("STATS"):
            line = {
                "at": time.time(),
                "in": stats.records_in,
                "seconds": stats.total_seconds,
                "step": stats.step_seconds,
            }
            print(json.dumps(line), flush=True)


def worker(argv: Sequence[str]) -> Streams:
    bootstrap, application_id, step, inputs, out, state = argv
    factory: StepFactory = lambda topic, partition: STEPS[step](out, state)  # noqa: E731
    settings = KafkaSettings(bootstrap_servers=bootstrap, session_timeout_seconds=float(os.environ.get("SESSION", "6")))
    return build_app(
        settings,
        dict.fromkeys(inputs.split(","), factory),
        Path(os.environ["DATADIR"]),
        WorkerOptions(
            application_id=application_id,
            group_instance_id=os.environ.get("INSTANCE"),
            buffer_bytes=int(os.environ.get("BUFFER_BYTES", str(64 << 20))),
            observer=Report(),
        ),
    )


async def main() -> None:
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    await run_streams(worker(sys.argv[1:]), stop)


if __name__ == "__main__":
    logging.basicConfig(level=os.environ.get("LOG", "WARNING"), format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        asyncio.run(main())
    except StreamsFailed:
        sys.stderr.flush()
        os._exit(1)
