"""docker-compose.yml, Dockerfile and .env.example name only what exists."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from fleetlake.cli.main import app
from fleetlake.config import load_settings
from schemas.vendors import BUILT_IN
from streams.detect.rule_compiler import DEFAULT_RULES

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
OURS = {name: s for name, s in COMPOSE["services"].items() if s["image"].startswith("fleetlake:")}
EXAMPLE = dict(
    line.split("=", 1)
    for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)


def _interpolated(value: str, environment: dict[str, str]) -> str:
    """Compose's `${NAME}` and `${NAME:-default}`."""

    def replace(match: re.Match[str]) -> str:
        return environment.get(match[1]) or match[2] or ""

    text = re.sub(r"\$\{(\w+)(?::-((?:[^{}]|\{[^}]*\})*))?\}", replace, str(value))
    return text.replace("$$", "$")


def _environment(service: dict[str, Any]) -> dict[str, str]:
    return {name: _interpolated(value, EXAMPLE) for name, value in service["environment"].items()}


@pytest.mark.parametrize("name", OURS)
def test_command_and_its_arguments_exist(name: str) -> None:
    known: Any = get_command(app)
    arguments = list(OURS[name]["command"])
    command = ""
    while hasattr(known, "commands"):
        command = arguments.pop(0)
        assert command in known.commands
        known = known.commands[command]
    assert known.make_context(command, list(arguments), resilient_parsing=True) is not None
    if command == "simulate":
        assert arguments == ["all"]


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_key_of_the_configuration(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in list(os.environ):
        if variable.startswith("FLEETLAKE_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    for variable, value in _environment(OURS[name]).items():
        assert variable.startswith("FLEETLAKE_")
        monkeypatch.setenv(variable, value)
    settings = load_settings(None)  # raises for a key that does not exist
    assert settings.kafka.bootstrap_servers == "kafka:9092"
    if name == "connect":
        assert set(settings.pipeline.vendors) == set(BUILT_IN)
        assert settings.ogmen.socket_url.endswith("/ws/{device_id}")


def test_secrets_come_from_the_environment_and_only_from_there() -> None:
    empty = dict.fromkeys(EXAMPLE, "")
    secrets = [
        (name, value)
        for service in COMPOSE["services"].values()
        for name, value in service.get("environment", {}).items()
        if re.search("SECRET|PASSWORD", name)
    ]
    assert len(secrets) >= 6
    for name, value in secrets:
        assert _interpolated(value, empty) == "", name
        assert _interpolated(value, EXAMPLE).startswith("change-me"), name


def test_every_variable_of_the_example_is_used() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    used = set(re.findall(r"\$\{(\w+)", text))
    assert set(EXAMPLE) <= used


def test_ports_of_the_health_checks_and_of_the_servers_agree() -> None:
    for name, service in OURS.items():
        if service["healthcheck"].get("disable"):
            continue
        port = _environment(service)["FLEETLAKE_PIPELINE__HEALTH_PORT"]
        assert f"127.0.0.1:{port}/readyz" in service["healthcheck"]["test"][-1], name
    alarms = _environment(OURS["alarms"])
    assert [p.split(":")[-1] for p in OURS["alarms"]["ports"]] == [alarms["FLEETLAKE_ALARMS__PORT"]]
    assert alarms["FLEETLAKE_ALARMS__HOST"] == "0.0.0.0", "what is published is listened on"
    connect, simulate = _environment(OURS["connect"]), _environment(OURS["simulate"])
    published = {p.split(":")[-1] for p in OURS["connect"]["ports"]}
    assert published == {connect["FLEETLAKE_CLIMASENSE__PORT"], connect["FLEETLAKE_OGMEN__WEBHOOK_PORT"]}
    assert connect["FLEETLAKE_KARCHER__SOCKET_URL"].endswith(
        f"simulate:{simulate['FLEETLAKE_SIMULATE__KARCHER__PORT']}"
    )
    assert f"simulate:{simulate['FLEETLAKE_SIMULATE__OGMEN__PORT']}/" in connect["FLEETLAKE_OGMEN__SOCKET_URL"]
    assert simulate["FLEETLAKE_SIMULATE__CLIMASENSE__URL"].endswith(connect["FLEETLAKE_CLIMASENSE__PORT"])
    assert connect["FLEETLAKE_OGMEN__WEBHOOK_PORT"] in simulate["FLEETLAKE_SIMULATE__OGMEN__WEBHOOK_URL"]


def test_the_shipped_rules_are_the_documented_ones() -> None:
    assert (ROOT / "rules.yaml").read_text(encoding="utf-8") == DEFAULT_RULES


def test_mounted_and_copied_paths_exist() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] if not source.startswith(".") else (ROOT / source).exists()
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        if line.startswith("COPY") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), line


def test_nothing_runs_as_root() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)[-1] == "fleetlake"
    for name, service in COMPOSE["services"].items():
        assert service.get("user", "fleetlake") not in ("root", "0"), name
        assert name in OURS or "user" in service
        assert service["cap_drop"] == ["ALL"]


def test_every_service_restarts_and_is_checked() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["restart"] == ("on-failure" if name == "topics" else "unless-stopped")
        assert "healthcheck" in service
    assert COMPOSE["services"]["simulate"]["profiles"] == ["demo"]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_has_limits(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["mem_limit"]
    assert service["pids_limit"] > 0
    assert service["ulimits"]["nofile"] >= 4096
    assert service["logging"]["options"]["max-size"]
    assert service["cap_drop"] == ["ALL"]
