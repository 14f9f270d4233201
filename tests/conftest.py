"""What all tests share: one real Kafka for the whole session, uniquely named topics on it, free ports."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
import sqlalchemy as sa
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from fleetlake.local.broker import EmbeddedKafka
from runtime.ports import free_port

pytest.register_assert_rewrite("tests.support")
from tests.support.kafka import MakeTopics  # noqa: E402
from tests.support.waiting import eventually_blocking  # noqa: E402

pytest_plugins = ["tests.support.tails"]

# Most brokers of the tests live for seconds: compiling their code well would take as long as all that they do.
# Processes that tests start inherit this.
os.environ.setdefault("FLEETLAKE_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

hypothesis.settings.register_profile("no-deadline", deadline=None)  # a busy machine is no finding
hypothesis.settings.load_profile("no-deadline")


LONGEST_FIRST = (
    "e2e/test_demo.py",
    "streams/test_outages.py",
    "alarm_service/test_service.py",
    "streams/test_alarms_day.py",
    "vendors/test_fifth_vendor.py",
    "upgrade/test_older_folder.py",
    "fleetlake/test_up.py",
    "alarm_service/test_kafka_away.py",
    "broker/test_broker.py",
    "streams/test_transport.py",
    "connectors/test_publisher.py",
    "streams/test_transport_faults.py",
    "streams/test_inhibition_kafka.py",
    "sinks/test_working_database.py",
    "sinks/test_delta_sink.py",
    "fleetlake/test_supervisor.py",
    "queries/test_sql.py",
    "connectors/test_wayscloud_outages.py",
    "sinks/test_published_replaced.py",
    "runtime/test_watchdog.py",
)
"""The files that take longest, below this folder. They begin first, so that no worker is left with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of the session's broker. Where it cannot start, the tests fail: there is no substitute."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.bootstrap


@pytest.fixture
def make_topics(kafka: str) -> MakeTopics:
    """Creates topics on the session's broker and returns their unique names: `a-1f0c…` for `a`. To be awaited."""

    async def make(names: Iterable[str], partitions: int = 1, configs: Mapping[str, str] | None = None) -> list[str]:
        unique = [f"{name}-{uuid.uuid4().hex[:8]}" for name in names]
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        try:
            topics = [NewTopic(name, partitions, 1, topic_configs=dict(configs or {})) for name in unique]
            response = await admin.create_topics(topics, timeout_ms=10_000)
            refused = [error for error in response.topic_errors if error[1] != 0]
            assert not refused, refused
        finally:
            await admin.close()
        return unique

    return make


@pytest.fixture
def unused_port() -> Callable[[], int]:
    """`unused_port()` returns a TCP port that nobody listens on right now, on loopback."""
    return free_port


def _postgresql_bin() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # where Debian puts it
    on_path = shutil.which("initdb")
    return found[-1] if found else Path(on_path).resolve().parent if on_path else None


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """URL of a real PostgreSQL, started for this module; it refuses to run as root, so it runs as its own user.

    Its folder is not among pytest's: these are closed to other users, again whenever another pytest begins.
    """
    folder = _postgresql_bin()
    if folder is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have PostgreSQL")
        pytest.skip("PostgreSQL is not installed")
    data = Path(tempfile.mkdtemp(prefix="fleetlake-postgresql-"))
    user = "postgres" if os.getuid() == 0 else None
    if user:
        shutil.chown(data, user)
    port = free_port()
    subprocess.run(
        [folder / "initdb", "-D", data / "db", "-U", "fleetlake", "-A", "trust", "-N"],
        user=user, cwd=data, check=True, capture_output=True,
    )  # fmt: skip
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    log = data / "log"
    with log.open("wb") as stderr:
        command = [folder / "postgres", "-D", data / "db", *options.split()]
        server = subprocess.Popen(command, user=user, cwd=data, stderr=stderr)
    try:
        ready = [folder / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
        eventually_blocking(
            lambda: subprocess.run(ready, capture_output=True).returncode == 0 or server.poll() is not None,
            what=log.read_text,
        )
        assert server.poll() is None, log.read_text()
        yield f"postgresql+psycopg://fleetlake@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)
        shutil.rmtree(data)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """What a store is opened with: None (a file of its own), and the URL of an empty PostgreSQL."""
    if request.param == "sqlite":
        return None
    url: str = request.getfixturevalue("postgresql")
    engine = sa.create_engine(url)
    with engine.begin() as tx:
        tx.execute(sa.text("DROP SCHEMA public CASCADE"))
        tx.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    return url
