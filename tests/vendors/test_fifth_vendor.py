"""The walk of docs/adding-a-vendor.md: a vendor that lives outside the tree goes from its API to the tables."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

import fleetlake
from fleetlake.local.broker import find_bootstrap
from schemas import wire
from schemas.envelope import Envelope, read_envelope
from schemas.topics import ALARMS, EVENTS, READINGS, raw_topic
from streams.detect.vendor_alarm_operator import VendorAlarmOperator
from streams.settings import StreamSettings
from tests.support.normalising import normalise_step, of, raw
from tests.support.records import record_of
from tests.support.registration import forget
from tests.support.waiting import eventually_blocking

PACKAGE = Path(__file__).parent.parent / "fixtures" / "mowwell"
RECEIVED = datetime(2026, 3, 16, 0, 5, tzinfo=UTC)
PAGE = Path(__file__).parent.parent.parent / "docs" / "adding-a-vendor.md"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH that holds the package as an installer leaves it."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    folder = tmp_path / "site"
    shutil.copytree(PACKAGE / "fleetlake_mowwell", folder / "fleetlake_mowwell")
    info = folder / f"fleetlake_mowwell-{project['version']}.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [f"{name} = {value}" for name, value in project["entry-points"]["fleetlake.vendors"].items()]
    info.joinpath("entry_points.txt").write_text("\n".join(["[fleetlake.vendors]", *lines, ""]))
    return folder


class Installation:
    """`fleetlake` with the package installed."""

    def __init__(self, site: Path, folder: Path) -> None:
        self._environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        self._folder = folder
        self.config = folder / "fleetlake.toml"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fleetlake", *command, "--config", str(self.config)],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @contextmanager
    def running(self, *command: str) -> Iterator[Path]:
        """A process; yields its log."""
        log = self._folder / f"{command[0]}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "fleetlake", *command, "--config", str(self.config)],
                env=self._environment,
                stdout=file,
                stderr=file,
            )
            try:
                yield log
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)


async def _raw_records(bootstrap: str) -> list[Envelope]:
    consumer = AIOKafkaConsumer(
        "telemetry.raw.mowwell.v1", bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None
    )
    async with consumer:
        batches = await consumer.getmany(timeout_ms=10_000)
        return [read_envelope(record.value, record.headers) for batch in batches.values() for record in batch]


@pytest.mark.slow
def test_a_vendor_outside_the_tree_goes_from_its_api_to_the_tables(
    site: Path, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    installed = Installation(site, tmp_path)
    port, data = unused_port(), tmp_path / "data"
    installed.config.write_text(
        f"""
        [pipeline]
        data = "{data}"
        vendors = ["mowwell"]
        [kafka]
        partitions = 2
        [mowwell]
        api_url = "http://127.0.0.1:{port}"
        api_key = "mowwell-demo-key"
        poll_seconds = 0.5
        [sink.delta]
        flush_seconds = 1.0
        [sink.duckdb]
        publish_seconds = 1.0
        [simulate.mowwell]
        port = {port}
        """
    )
    shown = installed.run("config").stdout
    assert f'[mowwell]\napi_url = "http://127.0.0.1:{port}"\napi_key = "********"\npoll_seconds = 0.5\n' in shown
    assert f"[simulate.mowwell]\ndevices = 2\nport = {port}\n" in shown

    with installed.running("simulate", "mowwell") as simulated, installed.running("up") as log:
        said = simulated.read_text
        eventually_blocking(lambda: f"mowwell.rest_url at http://127.0.0.1:{port}" in said(), 30, said)
        eventually_blocking(lambda: (data / "fleet.duckdb").exists() and _rows(data), 120, log.read_text)
        eventually_blocking(lambda: _has_alarms(data), 60, log.read_text)
        assert "2 mower(s)" in installed.run("check", "mowwell").stdout

        bootstrap = find_bootstrap(data)
        assert bootstrap is not None
        raw = asyncio.run(_raw_records(bootstrap))
        assert {envelope.device_id for envelope in raw} == {"mowwell:mower-1", "mowwell:mower-2"}
        assert all(envelope.type == "mowwell.status" for envelope in raw)
        assert b"Ada" not in b"".join(envelope.data for envelope in raw)

    assert _rows(data) == [
        ("mowwell:mower-1", "battery.level", 55.0, None, None, "%"),
        ("mowwell:mower-1", "blade.height", 40.0, None, None, "mm"),
        ("mowwell:mower-1", "device.name", None, "Front lawn", None, None),
        ("mowwell:mower-1", "mowwell.mowing", None, None, True, None),
    ]
    with fleetlake.connect(data) as sql:
        assert sql.execute("SELECT device_id, vendor FROM devices ORDER BY device_id").fetchall() == [
            ("mowwell:mower-1", "mowwell"),
            ("mowwell:mower-2", "mowwell"),
        ]
        assert sql.execute("SELECT count(*) FROM readings WHERE vendor = 'mowwell'").fetchone()[0] >= 8
        assert sql.execute("SELECT count(*) FROM readings WHERE vendor <> 'mowwell'").fetchone()[0] == 0
        assert sql.execute("SELECT device_id, title, status FROM alarms WHERE vendor = 'mowwell'").fetchall() == [
            ("mowwell:mower-2", "blade-blocked", "active")
        ]


def _has_alarms(data: Path) -> bool:
    with fleetlake.connect(data) as sql:
        return bool(sql.execute("SELECT count(*) FROM alarms").fetchone()[0])


def _rows(data: Path) -> list[tuple[object, ...]]:
    query = """SELECT device_id, metric, value_number, value_text, value_boolean, unit FROM latest
        WHERE device_id = 'mowwell:mower-1' ORDER BY metric"""
    with fleetlake.connect(data) as sql:
        return sql.execute(query).fetchall()


def test_without_the_package_its_section_is_not_known(site: Path, tmp_path: Path) -> None:
    installed = Installation(tmp_path / "elsewhere", tmp_path)
    installed.config.write_text('[pipeline]\nvendors = ["mowwell"]\n[mowwell]\napi_url = "http://127.0.0.1:1"\n')
    answer = installed.run("config")
    assert answer.returncode == 1
    assert "[pipeline.vendors] 0: has to be 'karcher', 'ogmen', 'wayscloud' or 'climasense'" in answer.stderr
    assert "mowwell: no such key" in answer.stderr


def test_a_broken_package_is_named_in_one_line(site: Path, tmp_path: Path) -> None:
    (site / "fleetlake_mowwell" / "vendor.py").write_text("from fleetlake_mowwell import nothing\n")
    installed = Installation(site, tmp_path)
    installed.config.write_text("")
    answer = installed.run("config")
    assert answer.returncode == 1
    assert answer.stderr.startswith(
        "fleetlake: package fleetlake-mowwell 1.0, entry point 'mowwell' of fleetlake.vendors "
        "(fleetlake_mowwell.vendor:SPEC): ImportError: cannot import name 'nothing'"
    )
    assert len(answer.stderr.splitlines()) == 1


def test_a_part_that_is_not_there_is_named_in_one_line(site: Path, tmp_path: Path) -> None:
    (site / "fleetlake_mowwell" / "settings.py").unlink()
    installed = Installation(site, tmp_path)
    installed.config.write_text("")
    answer = installed.run("config")
    assert answer.returncode == 1
    assert answer.stderr == (
        "fleetlake: vendor mowwell (package fleetlake-mowwell 1.0): settings "
        "'fleetlake_mowwell.settings:MowwellSettings': "
        "ModuleNotFoundError: No module named 'fleetlake_mowwell.settings'\n"
    )


def test_a_message_that_cannot_be_read_is_a_dead_letter_and_can_be_read_again(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(site))
    from fleetlake_mowwell import protocol  # type: ignore[import-not-found]

    from connectors.common.reprocessing import RefusedMessage

    now = datetime(2026, 3, 16, tzinfo=UTC)
    refused = protocol.status(b'{"battery": ', "mowwell:mower-1", now)
    assert [letter.problems[0].reason for letter in refused.dead_letters] == ["not_json"]
    reprocess = protocol.MowwellReprocessor({})
    again = reprocess(RefusedMessage(protocol.STATUS, b'{"battery": 0.5}', "mowwell:mower-1", now))
    assert again.envelopes == protocol.status(b'{"battery": 0.5}', "mowwell:mower-1", now).envelopes
    assert reprocess(RefusedMessage("mowwell.other", b"{}", "mowwell:mower-1", now)) is None


@pytest.fixture
def registered(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The vendor is registered in this process."""
    monkeypatch.syspath_prepend(str(site))
    forget()
    yield
    for name in [name for name in sys.modules if name.startswith("fleetlake_mowwell")]:
        del sys.modules[name]
    monkeypatch.undo()
    forget()


@pytest.mark.usefixtures("registered")
def test_its_faults_are_alarms() -> None:
    topic, device = raw_topic("mowwell"), "mowwell:mower-1"
    fault = {"code": "blade-blocked", "text": "The blade is blocked", "since": "2026-03-15T23:00:00Z"}
    envelopes = [
        Envelope(f"{minute}", "mowwell.status", "mowwell/rest", device, RECEIVED, json.dumps(status).encode())
        for minute, status in enumerate(
            {"at": f"2026-03-16T00:0{minute}:00Z", "battery": 0.5, "fault": fault} for minute in range(2)
        )
    ]
    made = normalise_step(topic).process([raw(each, n, topic) for n, each in enumerate(envelopes)], 0)
    assert len(of(made, READINGS)) == 2
    settings = StreamSettings()
    assert settings.vendor_quiet_seconds["mowwell"] == 86_400
    detecting = VendorAlarmOperator(0, settings.detect_options())
    outputs = detecting.process([record_of(each.value, n, EVENTS) for n, each in enumerate(of(made, EVENTS))], 0)
    [raised] = [wire.decode_alarm_event(each.value or b"") for each in of(outputs, ALARMS)]
    alarm = raised.alarm
    assert (raised.event_type, alarm.vendor, alarm.device_id) == ("triggered", "mowwell", device)
    assert (alarm.title, alarm.message, alarm.severity) == ("blade-blocked", "The blade is blocked", "major")
    assert alarm.triggered_at == datetime(2026, 3, 15, 23, tzinfo=UTC)


def test_the_page_shows_the_package_as_it_is() -> None:
    """Each code block that begins with a file name in a comment is that file, or a part of it."""
    blocks = re.findall(r"```(?:python|toml)\n# ([\w./]+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert {name for name, _ in blocks} >= {"pyproject.toml", "fleetlake_mowwell/vendor.py"}
    for name, code in blocks:
        assert code.strip() in (PACKAGE / name).read_text(), name
    for path in (PACKAGE / "fleetlake_mowwell").glob("*.py"):
        assert path.name == "__init__.py" or path.name in PAGE.read_text(), path.name
