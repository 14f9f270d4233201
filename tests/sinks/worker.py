"""A Delta sink process for the tests: `python -m tests.sinks.worker JSON`; ends as the product's does."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

from runtime.health import Health
from runtime.kafka import KafkaSettings
from runtime.process import run_stage
from sinks.delta.sink import DeltaSink
from sinks.settings import DeltaSettings
from tests.support.sinks import tables_of


def main() -> int:
    job = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    logging.getLogger("sinks.consumer").setLevel(logging.DEBUG)

    async def stage(stop: asyncio.Event, health: Health) -> None:
        kafka = KafkaSettings(**job["kafka"])
        sink = DeltaSink(DeltaSettings(**job["delta"]), kafka, Path(job["data"]), tables_of(job["topics"]))
        await sink.run(stop, health)

    return run_stage("delta", stage)


if __name__ == "__main__":
    sys.exit(main())
