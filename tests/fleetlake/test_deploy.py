"""What is in `deploy/` names only what exists, runs every stage, and confines it: systemd units and the Helm chart.

The chart's rendering is committed; `.ci/helm` renders it anew with Helm and compares.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

import fleetlake
from fleetlake.cli.main import app
from fleetlake.config import load_settings
from schemas.vendors import BUILT_IN

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
CHART = ROOT / "deploy" / "helm" / "fleetlake"
RENDERED = [
    each
    for each in yaml.safe_load_all((ROOT / "tests/fixtures/helm/rendered.yaml").read_text(encoding="utf-8"))
    if each is not None
]
STAGES = {("sink", "delta"), ("sink", "duckdb"), ("alarms", "serve"), ("ui",), ("serve", "sql"), ("stream",)}


def require_command(arguments: list[str]) -> None:
    """Fail unless the `fleetlake` command takes these arguments."""
    known: Any = get_command(app)
    rest, name = list(arguments), ""
    while hasattr(known, "commands"):
        name = rest.pop(0)
        assert name in known.commands, arguments
        known = known.commands[name]
    assert known.make_context(name, rest, resilient_parsing=True) is not None


def require_settings(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], config: Path | None = None) -> None:
    """Fail unless every variable is a key of the configuration."""
    for variable in list(os.environ):
        if variable.startswith("FLEETLAKE_"):
            monkeypatch.delenv(variable)
    for variable, value in environment.items():
        if variable.startswith("FLEETLAKE_") and variable != "FLEETLAKE_CONFIG":
            monkeypatch.setenv(variable, value)
    load_settings(config)


# -- systemd


def units() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in UNITS.rglob("*.service")}


def started(unit: str) -> list[str]:
    """The arguments of a unit's command; `%i` is a vendor."""
    [line] = re.findall(r"^ExecStart=/opt/fleetlake/bin/fleetlake (.+)$", unit, re.MULTILINE)
    return shlex.split(line.replace("%i", "karcher"))


def test_units_run_every_stage() -> None:
    commands = {name: started(text) for name, text in units().items()}
    for arguments in commands.values():
        require_command(arguments)
    assert {tuple(each) for each in commands.values()} == {
        *STAGES,
        ("connect", "karcher"),
        ("up", "--config", "/etc/fleetlake/fleetlake.toml", "--data", "/var/lib/fleetlake"),
    }


def test_what_units_set_are_keys_of_the_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    text = "\n".join(path.read_text(encoding="utf-8") for path in UNITS.rglob("*") if path.is_file())
    pairs = [
        pair.split("=", 1) for line in re.findall(r"^Environment=(.+)$", text, re.MULTILINE) for pair in line.split()
    ]
    assert {name for name, _ in pairs} > {"FLEETLAKE_CONFIG", "FLEETLAKE_STREAM__INSTANCE_ID"}
    require_settings(monkeypatch, {name: value for name, value in pairs if name != "FLEETLAKE_CACHE"})


def test_every_unit_is_watched_and_confined() -> None:
    shared = (UNITS / "stages" / "fleetlake-.service.d" / "stage.conf").read_text(encoding="utf-8")
    for text in (shared, (UNITS / "fleetlake.service").read_text(encoding="utf-8")):
        for line in ("Type=notify", "WatchdogSec=60", "Restart=always", "NoNewPrivileges=yes", "ProtectSystem=strict"):
            assert f"\n{line}\n" in text
        for line in ("CapabilityBoundingSet=", "SystemCallFilter=@system-service", "UMask=0077", "User=fleetlake"):
            assert f"\n{line}\n" in text
    for name, text in units().items():
        wanted = "multi-user.target" if name == "fleetlake.service" else "fleetlake.target"
        assert text.endswith(f"[Install]\nWantedBy={wanted}\n"), name


def test_systemd_takes_the_units_and_finds_them_confined(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        assert not os.environ.get("CI"), "CI must have systemd"
        pytest.skip("systemd is not installed: the units were only read")
    shutil.copytree(UNITS / "stages", tmp_path, dirs_exist_ok=True)
    shutil.copy(UNITS / "fleetlake.service", tmp_path)
    command = Path(sys.executable).with_name("fleetlake")
    for path in tmp_path.glob("*.service"):
        path.write_text(path.read_text().replace("/opt/fleetlake/bin/fleetlake", str(command)))
        if "@." in path.name:
            path.rename(path.with_name(path.name.replace("@.", "@karcher.")))
    files = sorted(str(path) for path in (*tmp_path.glob("*.service"), *tmp_path.glob("*.target")))
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([analyze, *arguments], env=environment, capture_output=True, text=True, check=False)

    verified = run("verify", "--man=no", *files)
    ours = [line for line in verified.stderr.splitlines() if "fleetlake" in line]
    assert (verified.returncode, ours) == (0, [])
    services = [file for file in files if file.endswith(".service")]
    exposed = run("security", "--offline=true", "--no-pager", "--threshold=25", *services)
    assert exposed.returncode == 0, exposed.stdout[-500:]


# -- Helm


def objects(kind: str) -> list[dict[str, Any]]:
    return [each for each in RENDERED if each["kind"] == kind]


def containers() -> list[tuple[str, dict[str, Any]]]:
    return [
        (stateful["metadata"]["name"], container)
        for stateful in objects("StatefulSet")
        for container in stateful["spec"]["template"]["spec"]["containers"]
    ]


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["version"] == chart["appVersion"] == fleetlake.__version__


def test_the_chart_runs_every_stage() -> None:
    commands = [tuple(container["args"]) for _, container in containers()]
    for arguments in commands:
        require_command(list(arguments))
    assert sorted(commands) == sorted([*STAGES, *(("connect", vendor) for vendor in BUILT_IN)])


@pytest.mark.parametrize(("pod", "container"), containers(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_container_is_probed_limited_and_confined(
    pod: str, container: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    variables = {each["name"]: each.get("value", "pod-0") for each in container["env"]}
    port = int(variables["FLEETLAKE_PIPELINE__HEALTH_PORT"])
    assert (
        container["startupProbe"]["httpGet"]
        == container["livenessProbe"]["httpGet"]
        == {"path": "/livez", "port": port}
    )
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port}
    assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
    confined = container["securityContext"]
    assert confined["readOnlyRootFilesystem"] and not confined["allowPrivilegeEscalation"]
    assert confined["capabilities"] == {"drop": ["ALL"]}
    assert container["image"].startswith("fleetlake@sha256:")
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"/etc/fleetlake", "/tmp", "/data", "/run/secrets/fleetlake"}
    assert not [each for each in container["env"] if re.search("PASSWORD|SECRET", each["name"])], "secrets come by file"
    [config] = objects("ConfigMap")
    toml = tmp_path / "fleetlake.toml"
    for name in ("kafka", "karcher"):
        (tmp_path / name).write_text("s3cret")
    toml.write_text(config["data"]["fleetlake.toml"].replace("/run/secrets/fleetlake", str(tmp_path)))
    require_settings(monkeypatch, variables, toml)


def test_pods_of_one_machine_do_not_share_ports() -> None:
    for stateful in objects("StatefulSet"):
        pod = stateful["spec"]["template"]["spec"]
        ports = [port for each in pod["containers"] for port in each["ports"]]
        assert len({port["containerPort"] for port in ports}) == len({port["name"] for port in ports}) == len(ports)
        assert all(len(port["name"]) <= 15 for port in ports)
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001
        assert pod["automountServiceAccountToken"] is False


def test_services_and_budgets_find_their_pods() -> None:
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in objects("StatefulSet")]
    selectors = [each["spec"]["selector"] for each in objects("Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in objects("PodDisruptionBudget")]
    assert len(selectors) >= 8
    for selector in selectors:
        assert sum(selector.items() <= each.items() for each in labels) == 1, selector
    names = {each["metadata"]["name"] for each in objects("Service")}
    assert {each["spec"]["serviceName"] for each in objects("StatefulSet")} == names


def test_workers_keep_their_names_and_are_scaled_by_lag() -> None:
    [stream] = [each for each in objects("StatefulSet") if each["metadata"]["name"].endswith("-stream")]
    [container] = stream["spec"]["template"]["spec"]["containers"]
    instance = next(each for each in container["env"] if each["name"] == "FLEETLAKE_STREAM__INSTANCE_ID")
    assert instance["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    [scaled] = objects("ScaledObject")
    assert scaled["spec"]["scaleTargetRef"] == {"kind": "StatefulSet", "name": stream["metadata"]["name"]}
    assert "replicas" not in stream["spec"], "KEDA decides"
    [trigger] = scaled["spec"]["triggers"]
    assert trigger["metadata"]["consumerGroup"] == "fleet.fleetlake"
