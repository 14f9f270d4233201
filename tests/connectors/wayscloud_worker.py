"""One connector process: `python -m tests.connectors.wayscloud_worker KAFKA DATA SETTINGS-AS-JSON`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from connectors.common.runner import run_connectors
from connectors.wayscloud.settings import WayscloudSettings
from runtime.health import Health
from runtime.kafka import KafkaSettings
from runtime.resources import Resources


async def main() -> None:
    kafka, data, settings = sys.argv[1:]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    chosen = WayscloudSettings.model_validate_json(settings)
    await run_connectors(
        {"wayscloud": chosen}, KafkaSettings(bootstrap_servers=kafka), Resources(Path(data)), stop, Health("connect")
    )


if __name__ == "__main__":
    asyncio.run(main())
