"""The systems that do the job, each an adapter: how it is installed, started and read.

One process each, and fleetlake with two workers beside that.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import decoders
from bench.job import Output
from bench.results import OURS, OURS_TWICE
from schemas.topics import READINGS
from streams.engine.options import PipelineOptions

COMPRESSION = PipelineOptions().compression or "none"
"""Of the output topic: fleetlake's default, the same for all."""

_PEERS = Path(__file__).parent / "peers"
_CACHE = Path(__file__).parent / ".cache"
_PYTHONS = ("python3.12", "python3.11", "python3.10")


@dataclass(frozen=True)
class Place:
    """Where one run happens."""

    bootstrap: str
    group: str
    input: str
    output: str
    partitions: int
    folder: Path


@dataclass(frozen=True)
class Start:
    """How a process is started."""

    command: list[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


@dataclass(frozen=True)
class System:
    """One system. `commits_to_kafka` is false where offsets are kept elsewhere."""

    name: str
    install: Callable[[], None]
    start: Callable[[Place], Start]
    decode: Callable[[bytes | None, bytes], Output]
    output: str | None = None
    """The topic it writes to, where that cannot be chosen."""
    commits_to_kafka: bool = True
    transactional: bool = False
    """An output counts when its input offset is committed with it."""


def fleetlake_start(place: Place, *arguments: str, extra: str = "", data: Path | None = None) -> Start:
    """`fleetlake ARGUMENTS` as its users start it.

    Its configuration says where things are, and what `extra` says: all else is at its default.
    """
    data = data or place.folder / "data"
    data.mkdir(exist_ok=True)
    config = place.folder / "fleetlake.toml"
    config.write_text(
        f'[pipeline]\ndata = "{data}"\n[kafka]\nbootstrap_servers = "{place.bootstrap}"\n'
        f'application_id = "{place.group}"\npartitions = {place.partitions}\n{extra}'
    )
    return Start([sys.executable, "-m", "fleetlake", *arguments, "--config", str(config)])


def _nothing() -> None:
    """Installed with the project."""


def _peer_env(place: Place) -> dict[str, str]:
    names = {"BOOTSTRAP": place.bootstrap, "GROUP": place.group, "INPUT": place.input, "OUTPUT": place.output}
    return {**names, "PARTITIONS": str(place.partitions), "FOLDER": str(place.folder), "COMPRESSION": COMPRESSION}


def _python_peer(name: str, python: str, *arguments: str, place: Place) -> Start:
    return Start([python, *arguments], _peer_env(place), _PEERS / name)


def _venv_python(name: str) -> str:
    return str(_CACHE / name / "bin" / "python")


def _install_venv(name: str) -> None:
    """A virtual environment of its own, pinned with hashes; made anew when the pins change."""
    venv, pins = _CACHE / name, _PEERS / name / "requirements.txt"
    if _is_done(venv, pins.read_bytes()):
        return
    shutil.rmtree(venv, ignore_errors=True)
    _run([_python(), "-m", "venv", str(venv)])
    pip = [_venv_python(name), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:"]
    _run([*pip, "--require-hashes", "-r", str(pins)])
    (venv / "done").write_bytes(pins.read_bytes())


def _install_telegraf() -> None:
    """Telegraf's agent with the plugins the job needs, built by Go from its module."""
    sources = sorted(path for path in (_PEERS / "telegraf").iterdir() if path.suffix in (".go", ".mod", ".sum"))
    state = b"".join(path.read_bytes() for path in sources)
    folder = _CACHE / "telegraf"
    if _is_done(folder, state):
        return
    if shutil.which("go") is None:
        raise RuntimeError("Telegraf is built by Go, which is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    _run(["go", "build", "-o", str(folder / "telegraf"), "."], cwd=_PEERS / "telegraf")
    (folder / "done").write_bytes(state)


def _is_done(folder: Path, state: bytes) -> bool:
    done = folder / "done"
    return done.exists() and done.read_bytes() == state


def _python() -> str:
    """A Python that all peers have wheels for (Bytewax: up to 3.12)."""
    if sys.version_info < (3, 13):
        return sys.executable
    for name in _PYTHONS:
        if (path := shutil.which(name)) and subprocess.run([path, "-c", ""], check=False).returncode == 0:
            return path
    raise RuntimeError(f"one of {', '.join(_PYTHONS)} is needed: a peer has no wheels for newer ones")


def _run(command: list[str], cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{(done.stderr or done.stdout)[-2000:]}")


def _start_bytewax(place: Place) -> Start:
    store = place.folder / "recovery"
    store.mkdir()
    python = _venv_python("bytewax")
    _run([python, "-m", "bytewax.recovery", str(store), "1"])
    run = ("-m", "bytewax.run", "job", "-r", str(store), "-s", "5", "-b", "0")
    return _python_peer("bytewax", python, *run, place=place)


def _start_telegraf(place: Place) -> Start:
    template = (_PEERS / "telegraf" / "telegraf.conf").read_text()
    codec = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}[COMPRESSION]
    config = place.folder / "telegraf.conf"
    config.write_text(
        template.replace("@BOOTSTRAP@", place.bootstrap)
        .replace("@GROUP@", place.group)
        .replace("@INPUT@", place.input)
        .replace("@OUTPUT@", place.output)
        .replace("@CODEC@", str(codec))
    )
    return Start([str(_CACHE / "telegraf" / "telegraf"), str(config)], {"GOMAXPROCS": str(min(2, os.cpu_count() or 1))})


def _start_two(place: Place) -> Start:
    """Two workers of one group side by side, as `[pipeline] stream_workers = 2` has them."""
    one = shlex.join(fleetlake_start(place, "stream").command)
    return Start(["sh", "-c", f"{one} & {one} & wait"])


def _fleetlake(name: str, start: Callable[[Place], Start]) -> System:
    return System(name, _nothing, start, decoders.fleetlake, READINGS, transactional=True)


FLEETLAKE = _fleetlake(OURS, lambda place: fleetlake_start(place, "stream"))
SYSTEMS = (
    FLEETLAKE,
    _fleetlake(OURS_TWICE, _start_two),
    System(
        "faust",
        _nothing,
        lambda place: _python_peer(
            "faust", sys.executable, "job.py", "worker", "-l", "warn", "--without-web", place=place
        ),
        decoders.peer,
    ),
    System(
        "quixstreams",
        functools.partial(_install_venv, "quixstreams"),
        lambda place: _python_peer("quixstreams", _venv_python("quixstreams"), "job.py", place=place),
        decoders.peer,
    ),
    System(
        "bytewax",
        functools.partial(_install_venv, "bytewax"),
        _start_bytewax,
        decoders.peer,
        commits_to_kafka=False,
    ),
    System("telegraf", _install_telegraf, _start_telegraf, decoders.telegraf),
)
