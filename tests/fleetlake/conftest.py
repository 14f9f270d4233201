"""The command as its user runs it, in this process; a vendor with raw records of its own."""

from __future__ import annotations

import os
import sys
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from fleetlake.cli.main import main
from runtime.kafka import KafkaSettings, declare_topics
from schemas.envelope import Envelope
from schemas.topics import raw_topic, topic_specs
from tests.fleetlake.command import Run
from tests.fleetlake.raw_records import DEVICE, START, located, produced


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in a folder of its own; all that it says."""
    for name in [name for name in os.environ if name.startswith("FLEETLAKE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: str, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["fleetlake", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert (ended.value.code or 0) == status, captured.err
        return captured.out + captured.err

    return run_command


@pytest.fixture
async def vendor(kafka: str) -> str:
    """A vendor with a raw topic of its own: five messages before the hour, five after, and a repeat from before."""
    name = f"test{uuid.uuid4().hex[:8]}"
    await declare_topics(KafkaSettings(bootstrap_servers=kafka), topic_specs())
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(raw_topic(name), 2, 1)])
    await admin.close()
    messages = [(55.0 + n, located(55 + n, 1000 * n)) for n in range(10)]
    broken = Envelope("broken", "karcher.datapoints", "t", DEVICE, START + timedelta(minutes=64.5), b"?")
    await produced(kafka, name, [*messages, (64, messages[4][1]), (64, messages[4][1]), (65, broken)])
    return name
