"""The bill of materials in CycloneDX's format: Python packages, Kafka's jars and the page's libraries.

The Python packages come from `cyclonedx-py`, which reads the lock file. It knows neither what the embedded Kafka
downloads (`kafka_jars.lock`) nor what the live page ships (`ui/static/vendor`), so both are added here.

    python -m release.sbom sbom.json
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
JARS = ROOT / "fleetlake" / "local" / "broker" / "kafka_jars.lock"
_SPEC = "1.6"
_ONLY_FOR_TESTS = {"axe-core"}


def version() -> str:
    """The version, from the only place where it stands. Not imported: the environment of a release has no fleetlake."""
    text = (ROOT / "fleetlake" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert found, "fleetlake/__init__.py has no __version__"
    return found[1]


def python_bom() -> dict[str, Any]:
    """The bill of the locked Python packages, with their digests."""
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "--pyproject", "pyproject.toml"]
    command += ["--sv", _SPEC, "--output-reproducible", "requirements.lock"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    bom: dict[str, Any] = json.loads(made.stdout)
    for component in bom["components"]:
        del component["description"]  # the line of the lock file, with all its digests
    return bom


def jars(lock: str) -> Iterator[dict[str, Any]]:
    """The components of Kafka's class path, from the text of its lock file."""
    for line in lock.splitlines():
        if line and not line.startswith("#"):
            coordinate, digest = line.split()
            group, name, number = coordinate.split(":")
            yield _library(f"pkg:maven/{group}/{name}@{number}", name, number) | {
                "group": group,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }


def browser_libraries(makefile: str) -> Iterator[dict[str, Any]]:
    """The components that the live page ships, from the Makefile's line that fetches them."""
    line = re.search(r"^\tnpm install .*\$\(UI_VENDOR\) (.+)$", makefile, re.MULTILINE)
    assert line, "the Makefile's target ui-vendor names no packages"
    for package in line[1].split():
        name, _, number = package.rpartition("@")
        if name not in _ONLY_FOR_TESTS:
            yield _library(f"pkg:npm/{name}@{number}", name, number)


def whole_bom() -> dict[str, Any]:
    """The bill of everything that fleetlake ships or fetches."""
    bom = python_bom()
    bom["metadata"]["component"]["version"] = version()
    bom["components"] += jars(JARS.read_text(encoding="utf-8"))
    bom["components"] += browser_libraries((ROOT / "Makefile").read_text(encoding="utf-8"))
    return bom


def validate(bom: str) -> None:
    """ValueError if the text is no valid bill."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom):
        raise ValueError(str(error))


def _library(purl: str, name: str, number: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": purl, "purl": purl, "name": name, "version": number}


def main(path: Path) -> None:
    """Write the bill to `path`, and print how much it lists."""
    warnings.simplefilter("ignore")
    bom = whole_bom()
    text = json.dumps(bom, indent=1) + "\n"
    validate(text)
    path.write_text(text, encoding="utf-8")
    print(f"{path}: {len(bom['components'])} components, CycloneDX {_SPEC}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
