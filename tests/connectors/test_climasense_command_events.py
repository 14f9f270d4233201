"""What becomes of ClimaSense commands before a result is reported."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from connectors.climasense.connector import ClimasenseConnector
from connectors.climasense.settings import ClimasenseSettings
from connectors.climasense.store.commands import COMMAND_LIFE
from connectors.climasense.store.store import Store, open_store
from connectors.common.clock import utc_now
from connectors.common.context import Context
from runtime.api_keys import hash_key
from schemas import wire
from schemas.topics import EVENTS, raw_topic
from tests.connectors.recording import RecordingPublisher, recording_context
from tests.support.normalising import normalise_step, of, raw
from tests.support.waiting import eventually

KEY = "sk_device_0123456789"


@asynccontextmanager
async def running(context: Context, folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    keys = folder / "keys.json"
    keys.write_text(json.dumps({"hub-1": hash_key(KEY)}))
    connector = ClimasenseConnector(ClimasenseSettings(port=0, keys_file=keys, keys_seconds=0.05), context)
    task = asyncio.create_task(connector.run())
    try:
        await eventually(lambda: connector.port)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession(f"http://127.0.0.1:{connector.port}", headers=headers) as http:
            yield http
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(None, tmp_path)


async def test_a_command_that_is_queued_handed_out_and_expires(store: Store, tmp_path: Path) -> None:
    publisher = RecordingPublisher()
    context = recording_context(publisher, tmp_path)

    def states() -> list[tuple[str, str]]:
        bodies = [json.loads(e.data) for e in publisher.envelopes if e.type == "climasense.command.event"]
        return [(body["command_id"], body["state"]) for body in bodies]

    async with running(context, tmp_path):
        await eventually((tmp_path / "climasense-commands.json").exists)
    lasting = store.commands.queue("hub-1", "reboot", {"secret": "hidden"}, utc_now()).command_id
    short = store.commands.queue("hub-1", "diagnostics", {}, utc_now() - COMMAND_LIFE + timedelta(seconds=3))
    done = store.commands.queue("hub-1", "reboot", {}, utc_now() - COMMAND_LIFE + timedelta(seconds=3)).command_id
    store.commands.finish(done, "completed", None, utc_now())
    for _ in range(2):  # a restart changes nothing
        async with running(context, tmp_path) as http:
            for _ in range(2):
                async with http.get("/v1/commands/pending") as answer:
                    assert lasting in await answer.text()
            await eventually(lambda: (lasting, "handed_out") in states())
            await eventually(lambda: (short.command_id, "expired") in states(), 20)
    assert sorted(states()) == sorted(
        [
            *[(name, "queued") for name in (lasting, short.command_id, done)],
            *[(name, "handed_out") for name in (lasting, short.command_id)],
            (short.command_id, "expired"),
        ]
    )
    assert b"hidden" not in b"".join(e.data for e in publisher.envelopes)
    topic = raw_topic("climasense")
    records = [raw(envelope, number, topic) for number, envelope in enumerate(publisher.envelopes)]
    events = [
        event
        for output in of(normalise_step(topic).process(records, 0), EVENTS)
        for event in wire.decode_event_set(output.value or b"").events
    ]
    assert {event.type for event in events} == {"command_queued", "command_handed_out", "command_expired"}
    (expired,) = [event for event in events if event.type == "command_expired"]
    assert (expired.occurred_at, expired.severity) == (short.expires_at, "warning")
    assert expired.title == "diagnostics: expired"
