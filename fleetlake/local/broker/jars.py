"""Kafka's jars: pinned by SHA-256 in `kafka_jars.lock`, downloaded once into a cache of the user.

The lock file is the dependency list of `org.apache.kafka:kafka_2.13`; `jgo` fetches what it names in pure Python, so
neither Java nor Maven has to be installed. A jar enters the cache only after its digest matched, by an atomic rename:
an interrupted download is continued by the next start, and two processes may start on an empty cache at once.

`python -m fleetlake.local.broker.jars` resolves Kafka's dependencies anew and rewrites the lock file (for maintainers,
when `KAFKA_VERSION` changes).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from requests import RequestException
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from fleetlake.errors import UserError
from runtime.locks import FileLock

KAFKA_VERSION = "4.2.0"
_SCALA_VERSION = "2.13"
# Kafka's own dependencies end at the logging facade; its distribution adds this binding, and so do we.
_LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl"
_LOCK_FILE = Path(__file__).with_name("kafka_jars.lock")
_PARALLEL_DOWNLOADS = 6


class BrokerError(UserError):
    """The embedded broker failed. The message states the reason and what to do, and is meant for the user."""


class _DigestMismatch(Exception):
    """A downloaded file is not the one that the lock file names."""


@dataclass(frozen=True)
class Jar:
    """One file of Kafka's class path, as the lock file names it."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        """Name of the file in the cache folder."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def coordinate(self) -> str:
        """Maven's coordinate, `group:artifact:version`."""
        return f"{self.group}:{self.artifact}:{self.version}"

    def is_valid(self, path: Path) -> bool:
        """Whether the file at `path` exists and has the pinned digest."""
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return False


def read_lock(path: Path = _LOCK_FILE) -> list[Jar]:
    """The pinned jars; each line of the lock file is `group:artifact:version sha256`, `#` starts a comment."""
    jars = []
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            coordinate, digest = line.split()
            group, artifact, version = coordinate.split(":")
            jars.append(Jar(group, artifact, version, digest))
    return jars


def cache_dir() -> Path:
    """Where downloads are kept: `FLEETLAKE_CACHE`, else `fleetlake` in `XDG_CACHE_HOME`, else `~/.cache/fleetlake`."""
    if own := os.environ.get("FLEETLAKE_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fleetlake"


def kafka_class_path(cache: Path | None = None) -> list[Path]:
    """The jars of Kafka's class path, downloaded first where they are missing or damaged.

    Blocks until they are there (tens of seconds the first time, with progress on standard error; about 0.1 s later).
    Raises `BrokerError` if a jar is missing and cannot be fetched; what arrived until then is kept.
    """
    folder = (cache or cache_dir()) / f"kafka-{KAFKA_VERSION}"
    jars = read_lock()
    if _missing(jars, folder):
        _download_missing(jars, folder)
    return [folder / jar.filename for jar in jars]


def missing_jars(cache: Path | None = None) -> int:
    """The number of jars that the next start downloads."""
    return len(_missing(read_lock(), (cache or cache_dir()) / f"kafka-{KAFKA_VERSION}"))


def _missing(jars: list[Jar], folder: Path) -> list[Jar]:
    return [jar for jar in jars if not jar.is_valid(folder / jar.filename)]


def _download_missing(jars: list[Jar], folder: Path) -> None:
    try:
        with FileLock(folder / "lock"):  # a second process waits here, then uses the jars of the first
            missing = _missing(jars, folder)
            staging = folder / "staging"
            shutil.rmtree(staging, ignore_errors=True)  # a killed process may have left one
            staging.mkdir()
            try:
                _download_all(missing, len(jars), folder, staging)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except RequestException as error:
        raise BrokerError(_download_failed(jars, folder, error)) from error
    except (RuntimeError, _DigestMismatch) as error:  # jgo raises RuntimeError for what the repository does not have
        raise BrokerError(_download_failed(jars, folder, error)) from error
    except OSError as error:
        raise BrokerError(f"Kafka's jars cannot be stored in {folder}: {error}. Set FLEETLAKE_CACHE.") from error


def _download_failed(jars: list[Jar], folder: Path, error: Exception) -> str:
    missing = _missing(jars, folder)
    return (
        f"The embedded Kafka {KAFKA_VERSION} needs {len(missing)} of {len(jars)} jars that are not in {folder} "
        f"(first: {missing[0].coordinate}), and downloading them from Maven Central failed: {error}.\n"
        "Either start it once with a network (a proxy is taken from HTTPS_PROXY; what has arrived is kept), "
        f"or copy {folder} from a machine where it ran (FLEETLAKE_CACHE names another cache folder), "
        "or configure the bootstrap server of a Kafka you already run."
    )


def _download_all(missing: list[Jar], total: int, folder: Path, staging: Path) -> None:
    with _progress(total - len(missing), total) as advance, ThreadPoolExecutor(_PARALLEL_DOWNLOADS) as pool:
        downloads = [pool.submit(_download, jar, folder, staging) for jar in missing]
        try:
            for download in as_completed(downloads):
                download.result()
                advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@retry(
    retry=retry_if_exception_type((RequestException, RuntimeError, _DigestMismatch)),
    stop=stop_after_attempt(3),
    wait=wait_exponential(multiplier=0.5),
    reraise=True,
)
def _download(jar: Jar, folder: Path, staging: Path) -> None:
    from jgo.maven import MavenContext, PythonResolver  # slow to import, and needed once in a cache's life

    with tempfile.TemporaryDirectory(dir=staging) as attempt:
        context = MavenContext(resolver=PythonResolver(), repo_cache=Path(attempt))
        path = context.create_dependency(jar.coordinate).artifact.resolve()
        if not jar.is_valid(path):
            raise _DigestMismatch(f"{jar.coordinate} as downloaded does not have the SHA-256 pinned in the lock file")
        path.replace(folder / jar.filename)


@contextmanager
def _progress(done: int, total: int) -> Iterator[Callable[[], None]]:
    """Shows how many jars are there: a bar on a terminal, else a plain line now and then."""
    title = f"Downloading Kafka {KAFKA_VERSION}"
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("jars"), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(title, total=total, completed=done)
            yield lambda: bar.advance(task)
        return

    def advance() -> None:
        nonlocal done
        done += 1
        if done % 15 == 0 or done == total:
            print(f"{title} … {done}/{total} jars", file=sys.stderr, flush=True)

    print(f"{title} … {done}/{total} jars", file=sys.stderr, flush=True)
    yield advance


def _resolve() -> list[Jar]:
    from jgo.maven import MavenContext, PythonResolver

    with tempfile.TemporaryDirectory() as scratch:
        context = MavenContext(resolver=PythonResolver(), repo_cache=Path(scratch))
        kafka = context.create_dependency(f"org.apache.kafka:kafka_{_SCALA_VERSION}:{KAFKA_VERSION}")
        inputs, transitive = context.resolver.resolve([kafka])
        dependencies = inputs + transitive
        # Resolved beside Kafka, the binding's parent would impose its own versions (an older kafka-clients among them).
        log4j = next(each.version for each in dependencies if each.artifactId == "log4j-core")
        dependencies.append(context.create_dependency(f"{_LOG_BINDING}:{log4j}"))
        digests = [hashlib.sha256(each.artifact.resolve().read_bytes()).hexdigest() for each in dependencies]
        return [
            Jar(d.groupId, d.artifactId, d.version, digest) for d, digest in zip(dependencies, digests, strict=True)
        ]


def _write_lock(jars: list[Jar]) -> None:
    lines = [f"# Class path of Apache Kafka {KAFKA_VERSION}; written by `python -m fleetlake.local.broker.jars`."]
    lines += sorted(f"{jar.coordinate} {jar.sha256}" for jar in jars)
    _LOCK_FILE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    _write_lock(_resolve())
