"""The folder of an embedded broker: its lock, its address while it serves, its configuration and its logs.

Layout of `<data>/kafka`: `data/` (the log), `logs/broker.log` (rolled) and `logs/jvm.out`, the two written
configuration files, `lock` (held while a broker runs here) and `bootstrap` (`host:port`, only while one serves).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from fleetlake.local.broker.jars import BrokerError
from fleetlake.local.broker.settings import error_lines, log4j2_properties, server_properties
from runtime.files import write_atomically
from runtime.locks import FileLock

_ORPHAN_WAIT = 20.0  # seconds for a broker whose parent died to end
_SHORT_WAIT = 1.0  # seconds; `find_bootstrap` holds the lock for a moment, too
_POLL = 0.05


class BrokerFolder:
    """Paths and files of one broker on one data folder."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir.absolute() / "kafka"
        self._log_size_before = 0  # bytes; what earlier runs logged explains nothing about this one

    @property
    def properties_file(self) -> Path:
        """Kafka's configuration."""
        return self.path / "server.properties"

    @property
    def log4j_file(self) -> Path:
        """The configuration of Kafka's log."""
        return self.path / "log4j2.properties"

    @property
    def logs(self) -> Path:
        """Where Kafka and Java log."""
        return self.path / "logs"

    @property
    def log_file(self) -> Path:
        """What Kafka logs (INFO and worse); `broker.log.1` to `.3` beside it are older."""
        return self.logs / "broker.log"

    @property
    def jvm_output(self) -> Path:
        """What Java writes to its standard streams."""
        return self.logs / "jvm.out"

    @property
    def is_formatted(self) -> bool:
        """Whether Kafka's storage has a cluster id."""
        return (self.path / "data" / "meta.properties").exists()

    def lock(self) -> FileLock:
        """Take the folder for this process. A broker whose parent has died is given time to end.

        BrokerError where another broker keeps it.
        """
        lock = FileLock(self.path / "lock")
        started = time.monotonic()
        while not lock.try_acquire():
            owner = lock.read_text().strip()
            if time.monotonic() - started > (_SHORT_WAIT if _is_alive(owner) else _ORPHAN_WAIT):
                bootstrap = self.bootstrap()
                where = f" and serves at {bootstrap}" if bootstrap else ""
                raise BrokerError(
                    f"Another embedded Kafka (process {owner}) runs on {self.path}{where}: "
                    "use that one, stop it, or name another data folder."
                )
            time.sleep(_POLL)
        lock.write_text(str(os.getpid()))
        self.forget_bootstrap()
        return lock

    def bootstrap(self) -> str | None:
        """Address of the broker that serves on this folder now, whichever process runs it."""
        try:
            lock = FileLock(self.path / "lock", shared=True, create=False)
            if lock.try_acquire():
                lock.close()
                return None  # no broker runs: a `bootstrap` file is left by a killed one
            return self._bootstrap_file.read_text().strip()
        except FileNotFoundError:
            return None

    def note_bootstrap(self, bootstrap: str) -> None:
        """Publish the address of the broker that serves on this folder."""
        write_atomically(self._bootstrap_file, bootstrap + "\n")

    def forget_bootstrap(self) -> None:
        """Withdraw the address: no broker serves."""
        self._bootstrap_file.unlink(missing_ok=True)

    def write_configuration(self, port: int, controller_port: int) -> None:
        """Write both configuration files for a broker on these ports."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self.properties_file.write_text(server_properties(port, controller_port))
        self.log4j_file.write_text(log4j2_properties())

    def note_log_size(self) -> None:
        """From now on `last_words` reads only what is logged later."""
        self._log_size_before = self.log_file.stat().st_size if self.log_file.exists() else 0

    def last_words(self) -> str:
        """What Java and Kafka wrote about their end, for an error message."""
        lines = error_lines(_read_from(self.jvm_output, 0))
        lines += error_lines(_read_from(self.log_file, self._log_size_before))
        hint = (
            "Usual reasons: too little memory for its heap, a full disk, "
            "a data folder written by a newer Kafka or owned by another user."
        )
        return "\n".join([f" Its logs in {self.logs} say:", *lines, hint])

    @property
    def _bootstrap_file(self) -> Path:
        return self.path / "bootstrap"


def find_bootstrap(data_dir: Path) -> str | None:
    """Address (`host:port`) of the embedded broker that serves on `data_dir` now, whichever process runs it."""
    return BrokerFolder(data_dir).bootstrap()


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ValueError:
        return False  # just taken, and its owner's id not written yet: look once more
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read_from(path: Path, offset: int) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(offset if offset <= path.stat().st_size else 0)  # smaller than before: it was rolled
        return file.read().decode(errors="replace")
