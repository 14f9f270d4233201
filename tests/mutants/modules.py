"""Which modules are mutated: those that the import checker holds to be pure, and the contract's."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.support.paths import ROOT

PURE = "Pure modules do no I/O and read neither clock nor randomness"
WRITES_DOCUMENTS = {"schemas.contract"}
"""Of the contract: its generator writes the documents in `docs/`, and a test compares these as a whole."""


def pure_modules(root: Path = ROOT) -> dict[str, Path]:
    """Names and files of the pure modules."""
    configuration = tomllib.loads((root / "pyproject.toml").read_text())
    [patterns] = [
        contract["source_modules"]
        for contract in configuration["tool"]["importlinter"]["contracts"]
        if contract["name"] == PURE
    ]
    files: dict[str, Path] = {}
    for pattern in [*patterns, "schemas.*"]:
        place = pattern.replace(".", "/")
        matches = sorted([*root.glob(f"{place}.py"), *root.glob(f"{place}/__init__.py")])
        assert matches, f"{pattern} of pyproject.toml names no module"
        for path in matches:
            name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            if name not in WRITES_DOCUMENTS:
                files[name] = path
    return files
