"""The SQL server as it is run: `fleetlake serve sql` on the small fleet of the query tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from runtime.ports import free_port
from tests.support.paths import ROOT
from tests.support.waiting import eventually_blocking

SECONDS = 4
ROWS = 20_000
CONNECTIONS = 12


@dataclass(frozen=True)
class Served:
    """Where the server is, and the key of a reader."""

    port: int
    key: str
    data: Path
    ca: Path

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A connection that commits by itself."""
        own = {"host": "127.0.0.1", "port": self.port, "dbname": "fleet", "user": "ada", "password": self.key}
        return psycopg.connect(**{**own, "autocommit": True, "connect_timeout": 20, **options})


@contextmanager
def served(data: Path, key: str, certificate: tuple[Path, Path, Path]) -> Iterator[Served]:
    """A server with small limits. `certificate` are chain, private key and authority."""
    chain, private, authority = certificate
    port = free_port()
    environment = os.environ | {
        "FLEETLAKE_SQL__QUERY_SECONDS": str(SECONDS),
        "FLEETLAKE_SQL__QUERY_ROWS": str(ROWS),
        "FLEETLAKE_SQL__QUERY_MEGABYTES": "256",
        "FLEETLAKE_SQL__PROCESSES": "2",
        "FLEETLAKE_SQL__MAX_CONNECTIONS": str(CONNECTIONS),
        "FLEETLAKE_SQL__TLS_CERTIFICATE": str(chain),
        "FLEETLAKE_SQL__TLS_KEY": str(private),
    }
    log = data.parent / "sql.log"
    command = [sys.executable, "-m", "fleetlake", "serve", "sql", "--data", str(data), "--port", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        eventually_blocking(lambda: "postgresql://" in log.read_text() or process.poll(), 60, log.read_text)
        assert process.poll() is None, log.read_text()
        yield Served(port, key, data, authority)
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
