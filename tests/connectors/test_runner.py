"""Several vendors in one process: one that fails stops no other; what stops is delivered."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from connectors.climasense.settings import ClimasenseSettings
from connectors.common.runner import make_connector, run_connectors
from connectors.ogmen.settings import OgmenSettings
from connectors.wayscloud.settings import WayscloudSettings
from runtime.api_keys import hash_key
from runtime.health import Health
from runtime.kafka import KafkaSettings
from runtime.resources import Resources
from tests.support.tails import RawTail
from tests.support.waiting import ASKED_SECONDS, passing


def test_a_vendor_that_is_not_registered_has_no_connector() -> None:
    with pytest.raises(KeyError):
        make_connector("nobody", ClimasenseSettings(), None)  # type: ignore[arg-type]


async def test_a_vendor_that_cannot_work_stops_no_other(
    kafka_settings: KafkaSettings,
    raw_tail: RawTail,
    tmp_path: Path,
    unused_port: Callable[[], int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    raw = await raw_tail("climasense")
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"d": hash_key("k")}))
    port = unused_port()
    taken = socket.create_server(("127.0.0.1", 0))
    settings = {
        "climasense": ClimasenseSettings(port=port, keys_file=keys),
        "ogmen": OgmenSettings(webhook_port=taken.getsockname()[1], webhook_secret=SecretStr("s")),
        "wayscloud": WayscloudSettings(),  # names no broker
    }
    stop, health = asyncio.Event(), Health("connect")
    task = asyncio.create_task(run_connectors(settings, kafka_settings, Resources(tmp_path), stop, health))
    body = {"readings": [{"sensor_type": "iaq", "value": 1}]}
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer k"}) as http:
        for _ in range(100):
            try:
                async with http.post(f"http://127.0.0.1:{port}/v1/telemetry", json=body) as response:
                    if response.status == 200:
                        break
            except aiohttp.ClientConnectionError:
                pass
            await passing(ASKED_SECONDS, "between two attempts to be answered")
        else:
            raise AssertionError("ClimaSense never answered")
    assert await raw.envelopes(lambda found: len(found) >= 1)
    assert any("wayscloud" in problem for problem in health.ready_problems())
    assert not health.live_problems()
    stop.set()
    await asyncio.wait_for(task, 15)
    taken.close()
    texts = [r.getMessage() for r in caplog.records if r.name == "connectors.common.runner"]
    assert sum("set mqtt_host" in text for text in texts) == 1, "said once"
    assert any("cannot listen on 127.0.0.1:" in text for text in texts)
