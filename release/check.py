"""Whether a release would work: metadata, contents, links, and the demo from the wheel in an environment of its own.

python -m release.check [SECONDS]      # how long the demo runs; default 20
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

from release.sbom import ROOT, version

_VENDORS = {"climasense", "karcher", "ogmen", "wayscloud"}


def build(folder: Path) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it and from nothing else."""
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    [source], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, wheel


def missing_links(readme: str, files: set[str]) -> list[str]:
    """The links of the README to files that the source distribution lacks."""
    targets = [target for target in re.findall(r"\]\(([^)#]+)", readme) if "://" not in target]
    return [target for target in targets if target.rstrip("/") not in files]


def install(wheel: Path, folder: Path) -> Path:
    """An environment with the wheel and the locked dependencies; its folder of commands."""
    venv.create(folder, with_pip=True)
    pip: list[str | Path] = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    _run(*pip, "--require-hashes", "-r", ROOT / "requirements.lock")
    _run(*pip, "--no-deps", wheel)
    return folder / "bin"


def demo(commands: Path, folder: Path, seconds: int) -> set[str]:
    """Run the demo in an empty folder; the vendors of which its table has readings."""
    folder.mkdir()
    fleetlake = commands / "fleetlake"
    if (said := _run(fleetlake, "--version", cwd=folder).strip()) != f"fleetlake {version()}":
        raise SystemExit(f"the command says {said!r}, the package is {version()}")
    _run(fleetlake, "demo", "--seconds", str(seconds), cwd=folder)
    query = "SELECT DISTINCT vendor FROM readings"
    return set(_run(fleetlake, "sql", "--format", "csv", query, cwd=folder).split()[1:])


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints. SystemExit with its errors where it fails. PYTHONPATH must not lend it the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main(seconds: int) -> None:
    """Check everything in turn. SystemExit at the first thing that is wrong."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source, wheel = build(folder / "dist")
        print(f"built    {source.name}, {wheel.name} ({wheel.stat().st_size >> 10} KiB)", flush=True)
        _run(sys.executable, "-m", "twine", "check", "--strict", source, wheel)
        print("metadata valid", flush=True)
        with tarfile.open(source) as archive:
            files = {name.partition("/")[2] for name in archive.getnames()}
        if missing := missing_links((ROOT / "README.md").read_text(encoding="utf-8"), files):
            raise SystemExit(f"README.md links to what the source distribution lacks: {', '.join(missing)}")
        print(f"links    of README.md are among the {len(files)} files", flush=True)
        vendors = demo(install(wheel, folder / "env"), folder / "empty", seconds)
        if vendors != _VENDORS:
            raise SystemExit(f"the demo has readings of {sorted(vendors)} only")
        print(f"demo     of {seconds} s in an empty folder: readings of {', '.join(sorted(vendors))}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
