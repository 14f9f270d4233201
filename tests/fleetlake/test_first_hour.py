"""What a newcomer types: the version, wrong folders, wrong files, wrong names. Never a traceback, nothing is made."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from fleetlake import __version__
from fleetlake.cli.main import main
from fleetlake.hints import command
from runtime.health import Health, HealthServer
from runtime.locks import FileLock
from runtime.metrics import CONNECTED
from runtime.ports import free_port
from runtime.running import read_stages, sampled, write_stages
from schemas.vendors import BUILT_IN
from sinks.duckdb.published import PublishedDatabase
from sinks.settings import DuckdbSettings
from tests.fleetlake.command import Run
from tests.support.lake import filled

READING = (
    ["sql", ".tables"],
    ["sql", "FROM latest"],
    ["export", "--table", "latest", "--to", "x.csv"],
    ["plot", "FROM readings_1h"],
    ["lake", "stats"],
    ["lake", "verify"],
    ["dead-letters", "list"],
    ["alarms", "list"],
    ["alarms", "show", "abcdef"],
    ["rules", "list"],
    ["maintenance", "list"],
    ["notify", "history"],
    ["keys", "list"],
    ["climasense", "commands"],
    ["climasense", "firmware", "list"],
    ["erase", "karcher:1", "--yes"],
    ["check"],
    ["config"],
)


def test_the_version_is_told(run: Run) -> None:
    assert run("--version") == f"fleetlake {__version__}\n"


def test_help_stands_in_groups_with_the_first_steps_first(run: Run) -> None:
    lines = run("--help").splitlines()
    begin = lines.index("Begin:")
    assert [line.split()[0] for line in lines[begin + 1 : begin + 3]] == ["demo", "up"]
    assert not [line for line in lines if line.endswith("...") and "Usage" not in line], "no sentence is cut"
    assert "More:" not in lines, "each command has its group"


@pytest.fixture
def say(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command says, whether it succeeds or not; any other end than an exit fails the test."""

    def say(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["fleetlake", *arguments])
        with pytest.raises(SystemExit):
            main()
        captured = capsys.readouterr()
        return captured.out + captured.err

    return say


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_a_reading_command_makes_nothing(arguments: list[str], tmp_path: Path, say: Callable[..., str]) -> None:
    say(*arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [*READING, ["keys", "create", "s1"]], ids=" ".join)
def test_a_file_in_place_of_the_data_folder_is_named(
    arguments: list[str], tmp_path: Path, say: Callable[..., str]
) -> None:
    (tmp_path / "data").write_text("I am a file")
    said = say(*arguments)
    assert "data" in said
    assert "Errno" not in said


@pytest.mark.parametrize(
    "arguments", [["demo", "--seconds", "1"], ["broker"], ["up"], ["sink", "duckdb"]], ids=" ".join
)
def test_a_process_that_finds_a_file_in_place_of_its_folder_says_so(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "data").write_text("I am a file")
    done = subprocess.run(
        [sys.executable, "-m", "fleetlake", *arguments],
        cwd=tmp_path,
        env={**os.environ, "FLEETLAKE_PIPELINE__VENDORS": "ogmen"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "Errno" not in done.stderr
    assert "data" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("content", [b"", b"no database at all", None], ids=["empty", "foreign", "another database"])
def test_a_foreign_database_is_called_so(content: bytes | None, tmp_path: Path, run: Run) -> None:
    import duckdb

    (tmp_path / "data").mkdir()
    if content is None:
        duckdb.connect(str(tmp_path / "data" / "fleet.duckdb")).close()
    else:
        (tmp_path / "data" / "fleet.duckdb").write_bytes(content)
    for arguments in (["sql", "FROM latest"], ["sql", ".tables"], ["alarms", "list"]):
        assert "is not the file that a pipeline publishes" in run(*arguments, status=1)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A data folder with a lake of seven devices, published."""
    folder = tmp_path / "data"
    filled(folder, commits=2)
    (folder / "work").mkdir()
    with closing(PublishedDatabase(folder, DuckdbSettings())) as sink:
        sink.publish()
    return folder


def test_the_format_that_is_asked_for_is_written_whatever_the_name(published: Path, tmp_path: Path, run: Run) -> None:
    run("sql", "SELECT 1 AS x", "--format", "json", "-o", "out.csv")
    assert json.loads((tmp_path / "out.csv").read_text()) == {"x": 1}
    run("sql", "SELECT 1 AS x", "--format", "csv", "-o", "out.txt")
    assert (tmp_path / "out.txt").read_text() == "x\n1\n"
    run("sql", "SELECT 1 AS x", "--format", "line", "-o", "lines.txt")
    assert "x  1" in (tmp_path / "lines.txt").read_text()
    for form in ("table", "markdown", "csv", "parquet"):
        said = run("sql", "SELECT 1 AS x", "--format", form, "-o", "nowhere/x", status=1)
        assert "there is no folder nowhere" in said


def test_an_unknown_device_is_refused_at_once(published: Path, run: Run) -> None:
    begun = time.monotonic()
    said = run("erase", "nosuch", "--yes", status=1)
    assert "no table has a row of 'nosuch'" in said and "vendor:native-id" in said
    assert time.monotonic() - begun < 20
    assert "no Kafka" in run("erase", "karcher:3", "--yes", status=1), "one that is there needs Kafka"


def test_ctrl_c_ends_make_demo_without_a_word_of_make(tmp_path: Path) -> None:
    """In a process group of its own, all of which gets the signal, as from a terminal."""
    binaries = Path(sys.executable).parent
    demo = subprocess.Popen(
        ["make", "-o", ".venv/.ready", "demo", f"BIN={binaries}", f"DATA={tmp_path / 'data'}"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},  # as from a shell
    )
    assert demo.stdout is not None
    assert demo.stdout.readline() == "preparing the demo …\n"
    os.killpg(demo.pid, signal.SIGINT)
    output, errors = demo.communicate(timeout=60)
    assert "stopped before anything was" in output
    assert (errors, demo.returncode) == ("", -signal.SIGINT)


def test_hints_can_be_pasted() -> None:
    words = ["sql", "--data", "a folder", "SELECT 'x'"]
    assert shlex.split(command(*words))[-4:] == words


CLOUDS = """
[pipeline]
vendors = ["ogmen", "wayscloud", "karcher"]
[ogmen]
devices = ["r1"]
socket_url = "wss://no-such-host.invalid/ws/{device_id}"
api_url = "http://127.0.0.1:1"
[wayscloud]
api_url = "http://127.0.0.1:1"
api_key = "k"
mqtt_host = "127.0.0.1"
mqtt_port = 1
[karcher]
client_id = "c"
client_secret = "s"
token_url = "http://127.0.0.1:1/token"
"""


def test_a_check_before_up_says_once_what_each_host_does(tmp_path: Path, run: Run) -> None:
    (tmp_path / "fleetlake.toml").write_text(CLOUDS)
    lines = run("check", status=1).splitlines()
    assert "ok     Kafka: embedded; not running: `fleetlake up` starts it" in "\n".join(lines)
    failed = [line for line in lines if line.startswith("FAILED")]
    assert [line for line in failed if "ogmen" in line] == [
        "FAILED ogmen: WebSocket wss://no-such-host.invalid/ws/{device_id}: there is no host no-such-host.invalid",
        "FAILED ogmen: webhook secret: set webhook_secret",
        "FAILED ogmen REST http://127.0.0.1:1: connection refused (12 endpoints)",
    ]
    assert "FAILED wayscloud REST http://127.0.0.1:1: connection refused (7 endpoints)" in failed
    assert "FAILED karcher token http://127.0.0.1:1/token: connection refused (nothing else was asked)" in failed
    assert lines[-1] == f"{len(failed)} of {len(lines) - 1} checks failed"
    told = json.loads(run("check", "--json", status=1))
    assert sum(not result["ok"] for result in told) == len(failed)
    assert list(tmp_path.iterdir()) == [tmp_path / "fleetlake.toml"]


def test_init_writes_a_short_file_that_is_read(tmp_path: Path, run: Run) -> None:
    for vendor in BUILT_IN:
        said = run("init", vendor, "--to", f"{vendor}.toml")
        assert "fleetlake check" in said
        text = (tmp_path / f"{vendor}.toml").read_text()
        assert len(text.splitlines()) <= 15
        for name in re.findall(r'_file = "(.*?)"', text):
            (tmp_path / name).write_text("secret")
        assert f'vendors = ["{vendor}"]' in run("config", "--config", f"{vendor}.toml")
    assert "exists already" in run("init", "ogmen", "--to", "ogmen.toml", status=1)
    assert "unknown vendor 'nobody'" in run("init", "nobody", status=1)


def test_the_schema_of_the_configuration_names_every_section(run: Run) -> None:
    schema = json.loads(run("config", "--schema"))
    assert {"pipeline", "kafka", "stream", "sink", *BUILT_IN} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_the_end_of_a_log_is_shown(tmp_path: Path, run: Run) -> None:
    assert "no logs" in run("logs")
    (tmp_path / "data" / "logs").mkdir(parents=True)
    (tmp_path / "data" / "logs" / "stream.log").write_text("".join(f"line {n}\n" for n in range(50)))
    assert run("logs") == "stream\n"
    assert run("logs", "stream", "-n", "2") == "line 48\nline 49\n"
    assert "there are: stream" in run("logs", "nosuch", status=1)


def test_a_log_is_followed_until_ctrl_c(tmp_path: Path) -> None:
    log = tmp_path / "data" / "logs" / "stream.log"
    log.parent.mkdir(parents=True)
    log.write_text("first\n")
    following = subprocess.Popen(
        [sys.executable, "-m", "fleetlake", "logs", "-f", "stream"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"},
    )
    assert following.stdout is not None
    assert following.stdout.readline() == "first\n"
    with log.open("a") as file:
        file.write("second\n")
    assert following.stdout.readline() == "second\n"
    log.rename(log.with_suffix(".log.1"))
    log.write_text("third, in a new file\n")
    assert following.stdout.readline() == "third, in a new file\n"
    following.send_signal(signal.SIGINT)
    assert following.wait(30) == 0
    following.stdout.close()


async def test_the_status_of_a_pipeline_is_asked_from_outside(tmp_path: Path) -> None:
    assert read_stages(tmp_path) is None
    CONNECTED.labels("asked").set(7)
    health = Health("delta", ready=[lambda: None])
    server = HealthServer(health, "127.0.0.1", 0)
    await server.start()
    try:
        port = int(server.url.rpartition(":")[2])
        with FileLock(tmp_path / ".lock"):
            write_stages(tmp_path, ["ogmen"], {"delta": port, "connect": free_port()})
            stages = read_stages(tmp_path)
            assert stages is not None and stages.vendors == ["ogmen"]
            down, samples = await sampled(stages)
            assert down == ["connect"]
            assert ("fleetlake_connections", {"vendor": "asked"}, 7.0) in samples
        assert read_stages(tmp_path) is None, "a killed pipeline's file says nothing"
    finally:
        await server.stop()


def test_status_without_a_pipeline_says_so(run: Run) -> None:
    assert "no pipeline runs on data" in run("status", status=1)
