"""The configuration in force, as the stages get it, and as it is left for people to read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleetlake.config import Settings, effective_toml

EFFECTIVE = "effective.toml"
_DESCRIPTORS = Path("/proc/self/fd")


@dataclass(frozen=True, slots=True)
class StageConfig:
    """A configuration file with secrets in it."""

    path: Path
    """The file, as a stage opens it."""
    files: tuple[int, ...] = ()
    """Descriptors that a stage has to inherit for that."""


@contextmanager
def stage_config(settings: Settings) -> Iterator[StageConfig]:
    """The configuration for the stages while the block lasts; `effective.toml` shows it with the secrets masked.

    On Linux the secrets are in a file that exists in memory only, and ends with this process and the stages. Elsewhere
    they are in `effective.toml`, readable by its owner only, until the block ends; a process that is killed leaves them
    there.
    """
    shown = settings.pipeline.data / EFFECTIVE
    if hasattr(os, "memfd_create") and _DESCRIPTORS.is_dir():
        _write(shown, effective_toml(settings))
        descriptor = os.memfd_create(EFFECTIVE)
        try:
            with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
                file.write(effective_toml(settings, masked=False))
            yield StageConfig(_DESCRIPTORS / str(descriptor), (descriptor,))
        finally:
            os.close(descriptor)
        return
    _write(shown, effective_toml(settings, masked=False))
    try:
        yield StageConfig(shown)
    finally:
        _write(shown, effective_toml(settings))


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write("# Written at each start from the configuration file, the environment and the command line.\n")
        file.write(text)
