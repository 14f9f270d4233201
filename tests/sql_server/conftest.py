"""One server for all tests of the folder."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import trustme

from alarm_service.settings import AlarmsSettings
from alarm_service.store.database import alarm_database
from schemas.words import KeyRole
from tests.queries.fleet import build
from tests.sql_server.serving import Served, served


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("sql")
    data = build(folder / "data")
    store = alarm_database(AlarmsSettings(), data)
    key = store.keys.create("grafana", KeyRole.READ, datetime.now(UTC))
    store.close()
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    chain, private, ca = folder / "chain.pem", folder / "key.pem", folder / "ca.pem"
    issued.cert_chain_pems[0].write_to_path(chain)
    issued.private_key_pem.write_to_path(private)
    authority.cert_pem.write_to_path(ca)
    with served(data, key, (chain, private, ca)) as here:
        yield here


@pytest.fixture
def connection(server: Served) -> Iterator[psycopg.Connection[Any]]:
    with server.connect() as here:
        yield here
