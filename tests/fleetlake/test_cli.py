"""The command as its user runs it: as a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import passing_blocking

COMMANDS = (
    "demo",
    "up",
    "connect",
    "stream",
    "sink",
    "broker",
    "simulate",
    "sql",
    "plot",
    "export",
    "topics",
    "check",
    "capture",
    "config",
    "keys",
    "climasense",
)


def _run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLEETLAKE_")}
    return subprocess.run(
        [sys.executable, "-m", "fleetlake", *arguments],
        cwd=cwd,
        env={**env, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_names_every_command_and_says_where_to_begin(tmp_path: Path) -> None:
    result = _run("--help", cwd=tmp_path)
    assert result.returncode == 0
    for command in COMMANDS:
        assert command in result.stdout
    assert "fleetlake demo" in result.stdout


def test_help_loads_nothing_that_takes_long() -> None:
    heavy = {"duckdb", "polars", "pyarrow", "deltalake", "pydantic", "aiokafka", "faust", "prompt_toolkit", "plotext"}
    code = f"import sys, fleetlake.cli.main; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, tmp_path: Path) -> None:
    result = _run(command, "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "Usage:" in result.stdout


def test_a_bad_configuration_names_key_and_line_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "fleetlake.toml").write_text("[kafka]\npartitions = 'many'\n")
    result = _run("config", cwd=tmp_path)
    assert result.returncode == 1
    assert "fleetlake.toml, line 2: [kafka] partitions" in result.stderr
    assert "Traceback" not in result.stderr


def test_config_masks_secrets(tmp_path: Path) -> None:
    result = _run("config", cwd=tmp_path, FLEETLAKE_KARCHER__CLIENT_SECRET="hush-hush")
    assert result.returncode == 0
    assert "hush-hush" not in result.stdout
    assert 'client_secret = "********"' in result.stdout


def test_a_stage_without_kafka_says_what_to_do(tmp_path: Path) -> None:
    result = _run("stream", cwd=tmp_path)
    assert result.returncode == 1
    assert "fleetlake broker" in result.stderr
    assert "Traceback" not in result.stderr


def test_sql_without_tables_says_what_to_do(tmp_path: Path) -> None:
    result = _run("sql", "SELECT 1", cwd=tmp_path)
    assert result.returncode == 1
    assert "fleet.duckdb" in result.stderr
    assert "Traceback" not in result.stderr


def test_check_fails_where_kafka_is_not_there(tmp_path: Path) -> None:
    result = _run("check", "--data", str(tmp_path), cwd=tmp_path, FLEETLAKE_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert result.returncode == 1
    assert "FAILED" in result.stdout
    assert "127.0.0.1:1: connection refused" in result.stdout


def test_check_knows_the_rules_and_the_channels(kafka: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(
        "rules: [{id: hot, name: Hot, rule_type: threshold, config: {metric: m, operator: gt, value: 1}}]"
    )
    (tmp_path / "fleetlake.toml").write_text(
        '[stream]\nrules_file = "rules.yaml"\n[alarms]\nport = 0\n'
        '[notify.channels.ops]\nchannel_type = "webhook"\nconfig = { url = "http://127.0.0.1:1/hush" }\n'
        '[notify.policies.p]\nchannel_ids = ["ops"]\nrule_ids = ["hot", "cold"]\n'
    )
    environment = {"FLEETLAKE_KAFKA__BOOTSTRAP_SERVERS": kafka, "FLEETLAKE_KAFKA__PARTITIONS": "2"}
    assert _run("topics", cwd=tmp_path, **environment).returncode == 0
    result = _run("check", "climasense", cwd=tmp_path, **environment)
    assert result.returncode == 1
    output = " ".join(result.stdout.replace("│", " ").split())
    assert "there is no rule 'cold'" in output and "rule 'hot'" not in output
    assert "[notify.channels.ops.config] url: 127.0.0.1:1: 127.0.0.1 is a private address" in output
    assert "hush" not in output
    assert re.search(r"ok rules in force: \d+ in Kafka; a stream worker adds hot", output)


def test_topics_declares_and_shows(kafka: str, tmp_path: Path) -> None:
    result = _run("topics", cwd=tmp_path, FLEETLAKE_KAFKA__BOOTSTRAP_SERVERS=kafka, FLEETLAKE_KAFKA__PARTITIONS="2")
    assert result.returncode == 0, result.stderr
    assert "telemetry.readings.v1" in result.stdout
    assert "telemetry.raw.climasense.v1" in result.stdout


def test_a_stage_stops_cleanly_on_ctrl_c(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fleetlake", "simulate", "karcher"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "simulating" not in (line := process.stderr.readline()):
        assert line, "the simulator ended"
    passing_blocking(0.2, "until it serves, which it says before it does")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert "Traceback" not in process.stderr.read()
