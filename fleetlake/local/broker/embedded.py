"""A real Apache Kafka, run by the process that needs it: one KRaft node on loopback, stored in a data folder."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from fleetlake.local.broker.folder import BrokerFolder
from fleetlake.local.broker.jars import BrokerError, kafka_class_path
from fleetlake.local.broker.jvm import Jvm, format_storage, java_command
from fleetlake.local.broker.ports import HOST, PortTaken, choose_ports, require_free, serves
from runtime.locks import FileLock

_START_TIMEOUT = 120.0  # seconds; after a power loss Kafka first checks the tail of its log
_POLL = 0.05
_PORT_TRIES = 3


class EmbeddedKafka:
    """One embedded broker on one data folder.

    `data_dir` is the pipeline's data folder; the broker keeps to its subfolder `kafka`. `port` 0 takes a free port,
    another one at each start. `heap` is Java's `-Xmx`; the whole process takes about as much again at the default.
    `cache` overrides where the jars are kept (`jars.cache_dir`).

    Guarantees: records that a producer with `acks=all` had acknowledged survive a kill of the broker and a power loss.
    The broker ends when this process does, in whatever way that ends. Methods block; from asyncio use `async with`,
    or `asyncio.to_thread`.
    """

    def __init__(self, data_dir: Path, port: int = 0, heap: str = "384m", *, cache: Path | None = None) -> None:
        self.folder = BrokerFolder(data_dir)
        self._fixed_port = port
        self._heap = heap
        self._cache = cache
        self._bootstrap: str | None = None
        self._lock: FileLock | None = None
        self._jvm: Jvm | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients. Raises `BrokerError` unless the broker was started."""
        if self._bootstrap is None:
            raise BrokerError("The embedded Kafka is not started.")
        return self._bootstrap

    @property
    def pid(self) -> int | None:
        """Process id of the JVM; None unless started."""
        return self._jvm.pid if self._jvm is not None else None

    @property
    def running(self) -> bool:
        """Whether the JVM lives. It ends by itself only on an error, which its log then states."""
        return self._jvm is not None and self._jvm.running

    @property
    def log_file(self) -> Path:
        """What Kafka logs (INFO and worse); `broker.log.1` to `.3` beside it are older."""
        return self.folder.log_file

    def start(self, timeout: float = _START_TIMEOUT) -> str:
        """Start, wait at most `timeout` seconds until the broker serves (downloads come on top), return `bootstrap`.

        Raises `BrokerError` if the folder is in use, the port is taken, the jars cannot be had or Java fails; nothing
        is left running then.
        """
        if self._lock is not None:
            raise BrokerError("The embedded Kafka is started already.")
        class_path = kafka_class_path(self._cache)
        self._lock = self.folder.lock()
        try:
            for attempt in range(1, _PORT_TRIES + 1):
                try:
                    self._start_once(self._lock, class_path, timeout)
                    break
                except PortTaken:
                    self._kill_jvm()
                    if attempt == _PORT_TRIES:
                        raise
        except BaseException:
            self.kill()
            raise
        return self.bootstrap

    def stop(self) -> None:
        """Stop in order: the broker writes what it holds and leaves a clean log. Does nothing if it is not started."""
        if self._jvm is not None:
            self._jvm.stop()
            self._jvm = None
        self._release()

    def kill(self) -> None:
        """End the JVM with SIGKILL, as a crash would. Does nothing if it is not started."""
        self._kill_jvm()
        self._release()

    def _start_once(self, lock: FileLock, class_path: list[Path], timeout: float) -> None:
        port, controller_port = choose_ports(self._fixed_port)
        folder = self.folder
        folder.write_configuration(port, controller_port)
        java = java_command(folder, self._heap, class_path)
        if not folder.is_formatted:
            format_storage(folder, java)
        folder.note_log_size()
        command = [*java, "kafka.Kafka", str(folder.properties_file)]
        self._jvm = Jvm.launch(command, folder.jvm_output, lock.fileno(), folder.path)
        if self._jvm is None:
            raise BrokerError(f"Java could not be started.{folder.last_words()}")
        self._wait_until_serving(port, controller_port, time.monotonic() + timeout)
        self._bootstrap = f"{HOST}:{port}"
        folder.note_bootstrap(self._bootstrap)

    def _wait_until_serving(self, port: int, controller_port: int, deadline: float) -> None:
        while True:
            if not self.running:
                for needed in (port, controller_port):
                    require_free(needed)
                raise BrokerError(f"Kafka ended while starting.{self.folder.last_words()}")
            if serves(port):
                return
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"Kafka does not serve yet; start it with a longer timeout.{self.folder.last_words()}"
                )
            time.sleep(_POLL)

    def _kill_jvm(self) -> None:
        if self._jvm is not None:
            self._jvm.kill()
            self._jvm = None

    def _release(self) -> None:
        self._bootstrap = None
        if self._lock is not None:
            self.folder.forget_bootstrap()
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
            raise BrokerError(f"Kafka ended by itself.{kafka.folder.last_words()}")
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def _announce(bootstrap: str) -> None:
    print(f"Kafka serves at {bootstrap} (Ctrl-C stops it)", flush=True)
