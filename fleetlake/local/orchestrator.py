"""The whole pipeline on one machine: its processes, and the order in which they start and stop.

Used by `fleetlake up` and `fleetlake demo`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from aiokafka.errors import KafkaError
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fleetlake.config import Settings
from fleetlake.errors import UserError, reason
from fleetlake.local.broker import find_bootstrap
from fleetlake.local.health_ports import health_ports, probe_host
from fleetlake.local.progress import step
from fleetlake.local.stage_config import StageConfig
from fleetlake.local.status import StatusModel, plain_line, render
from fleetlake.local.supervisor import ChildSpec, Supervisor
from runtime.kafka import client_options, declare_topics
from runtime.kafka_problem import connection_problem
from runtime.locks import FileLock, LockHeldError
from runtime.ports import free_port
from runtime.running import forget_stages, write_stages
from runtime.systemd import ALIVE, READY, notify
from schemas.topics import topic_specs

log = logging.getLogger(__name__)

_READERS = {"normalise", "detect", "delta"}
"""The stages that must report that no record waits before the pipeline is drained."""

_PLAIN_SECONDS = 5.0


def lock_folder(data: Path, stack: ExitStack) -> None:
    """Hold the data folder for one pipeline; UserError where another has it."""
    try:
        lock = stack.enter_context(FileLock(data / ".lock", blocking=False))
    except LockHeldError as error:
        owner = error.content or "another process"
        raise UserError(
            f"data folder {data} is in use by {owner}; stop that pipeline or choose another folder with --data"
        ) from error
    lock.write_text(f"process {os.getpid()}")


class Orchestrator:
    """Starts, watches and stops the stages against one configuration file."""

    def __init__(self, settings: Settings, config: StageConfig, console: Console, *, simulate: bool) -> None:
        self.settings = settings
        self.data = settings.pipeline.data
        self.supervisor = Supervisor(self.data / "logs")
        self.model = StatusModel(tuple(settings.pipeline.vendors))
        self._config = config
        self._console = console
        self._simulate = simulate
        self._pipeline = settings.pipeline
        self._stream_workers = stream_workers(settings)
        self._embedded = not settings.kafka.bootstrap_servers

    async def start(self, stop: asyncio.Event) -> None:
        """Start everything in order, unless stopped meanwhile. UserError where Kafka does not start."""
        stages = self.stages()
        ports = health_ports(self._pipeline.health_port, self._pipeline.health_host, stages)
        self._start_ui(ports)
        if self._embedded:
            with step(self._console, "starting Kafka"):
                if not await self._start_broker(stop):
                    return
        kafka = self.settings.kafka
        try:
            with step(self._console, f"declaring topics at {kafka.bootstrap_servers}"):
                await declare_topics(kafka, topic_specs())
        except (KafkaError, OSError) as error:
            why = await connection_problem(client_options(kafka)) or reason(error)
            raise UserError(f"Kafka at {kafka.bootstrap_servers} does not answer: {why}") from error
        environment = {"FLEETLAKE_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
        for name, arguments in stages.items():
            if name != "ui":
                own = self._stream_workers.get(name, {})
                self._start_stage(ChildSpec(name, arguments, ports[name], {**environment, **own}))
        write_stages(self.data, list(self._pipeline.vendors), ports, probe_host(self._pipeline.health_host))

    def stages(self) -> dict[str, list[str]]:
        """The stages to run beside the broker, in the order in which they start, each with its arguments."""
        stages = {"ui": ["ui"]} if self.settings.ui.enabled else {}
        stages |= {
            "duckdb": ["sink", "duckdb"],
            "delta": ["sink", "delta"],
            **{name: ["stream"] for name in self._stream_workers},
            "connect": ["connect", *self._pipeline.vendors],
        }
        if self.settings.alarms.enabled:
            stages["alarms"] = ["alarms", "serve"]
        if self.settings.sql.enabled:
            stages["sql"] = ["serve", "sql"]
        if self._simulate:
            stages["simulate"] = ["simulate", "all"]
        return stages

    def _start_stage(self, spec: ChildSpec) -> None:
        self.supervisor.start(self._with_config(replace(spec, health_host=probe_host(self._pipeline.health_host))))

    def _with_config(self, spec: ChildSpec) -> ChildSpec:
        return replace(spec, arguments=[*spec.arguments, "--config", str(self._config.path)], files=self._config.files)

    def _start_ui(self, ports: Mapping[str, int]) -> None:
        """Start the live page first, so that its address is the first thing to read; it waits for the others."""
        ui = self.settings.ui
        if "ui" not in ports:
            return
        port = ui.port or free_port()
        self._start_stage(ChildSpec("ui", ["ui", "--port", str(port)], ports["ui"]))
        self._console.print(f"Live page: {ui.url(port)}", highlight=False)

    async def _start_broker(self, stop: asyncio.Event) -> bool:
        """True once the embedded broker serves; False where the user stopped it meanwhile."""
        # One port for the whole run: the stages get it once, so that a restarted broker must keep it.
        port = self.settings.broker.port or free_port()
        child = self.supervisor.start(self._with_config(ChildSpec("broker", ["broker", "--port", str(port)])))
        shown = _LogTail(self.data / "logs" / "broker.log")
        while (bootstrap := find_bootstrap(self.data)) is None:
            if stop.is_set():
                return False
            if child.restarts:
                raise UserError(f"the embedded Kafka did not start:\n{tail(self.data / 'logs' / 'broker.log')}")
            for line in shown.new_lines():  # the first start downloads Kafka: show its progress
                self._console.print(line, markup=False, highlight=False)
            await asyncio.sleep(0.2)
        self.settings.kafka.bootstrap_servers = bootstrap
        log.info("Kafka at %s has no password: every user of this machine can read and write its topics", bootstrap)
        return True

    async def watch(self, until: Callable[[float], bool], title: str) -> None:
        """Show the live status until `until(elapsed seconds)`."""
        started = time.monotonic()
        notify(READY)
        with ExitStack() as stack:
            live = None
            if self._console.is_terminal:
                live = stack.enter_context(Live(console=self._console, refresh_per_second=2, transient=False))
            printed = 0.0
            while not until(elapsed := time.monotonic() - started):
                await self.supervisor.poll()
                self.model.update(time.monotonic(), self.supervisor.samples())
                notify(ALIVE)
                down = [name for name, child in self.supervisor.children.items() if not child.up] + self.model.late()
                if live:
                    table = render(self.model, elapsed, down, title, self._console.width)
                    live.update(Group(table, Text("Ctrl-C stops and keeps the data", style="dim")))
                elif elapsed - printed >= _PLAIN_SECONDS:
                    printed = elapsed
                    print(plain_line(self.model, elapsed, down), flush=True)
                await asyncio.sleep(0.5 if live else 1.0)

    async def stop(self, *, drain_seconds: float = 30.0) -> None:
        """Stop in order: sources first, then each stage once no record is left for it."""
        forget_stages(self.data)
        with step(self._console, "stopping: the sources first"):
            await self.supervisor.stop("simulate")
            await self.supervisor.stop("connect")
        if "delta" in self.supervisor.children:  # else stopped before a stage was started
            await self._drain(drain_seconds)
        # Upstream first, so that each stage can still pass on its records.
        streams = tuple(self._stream_workers)
        for what, names in (
            ("the alarm service", ("alarms",)),
            ("the stream workers", streams),
            ("the lake's sink", ("delta",)),
            ("the last publishing of fleet.duckdb", ("duckdb",)),
            ("Kafka", ("broker",)),
        ):
            if any(name in self.supervisor.children for name in names):
                with step(self._console, f"stopping: {what}"):
                    await self.supervisor.stop(*names)
        await self.supervisor.stop_all(())

    async def _drain(self, seconds: float) -> None:
        with step(self._console, "stopping: until each stage has passed on its records"):
            drained = await self.supervisor.wait_until(self._drained, seconds)
        if not drained:
            log.warning(
                "records still waited after %.0f s; they are in Kafka and will be read at the next start", seconds
            )

    def _drained(self) -> bool:
        self.model.update(time.monotonic(), self.supervisor.samples())
        lag = self.model.lag()
        names = (*self._stream_workers, "delta")
        readers = [self.supervisor.children[name] for name in names if name in self.supervisor.children]
        return all(reader.up for reader in readers) and set(lag) >= _READERS and not any(lag.values())


def stream_workers(settings: Settings) -> dict[str, dict[str, str]]:
    """The stream workers by name, each with the environment that names it to Kafka.

    The name derives from machine and data folder, which only one pipeline at a time uses, unless the configuration
    gives a name. A worker that is restarted after a crash therefore has its partitions back without waiting for the
    dead worker's session. Two workers of one name would only evict each other: transactions are fenced by partition.
    """
    place = f"{socket.gethostname()}\0{settings.pipeline.data.absolute()}".encode()
    instance = settings.stream.instance_id or f"up-{hashlib.sha256(place).hexdigest()[:16]}"
    further = [f"-{number}" for number in range(2, settings.pipeline.stream_workers + 1)]
    return {f"stream{suffix}": {"FLEETLAKE_STREAM__INSTANCE_ID": instance + suffix} for suffix in ("", *further)}


class _LogTail:
    """The lines added to a log since the last call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = path.stat().st_size if path.exists() else 0

    def new_lines(self) -> list[str]:
        if not self._path.exists():
            return []
        with self._path.open(errors="replace") as file:
            file.seek(self._position)
            text = file.read()
            self._position = file.tell()
        return text.splitlines()


def tail(path: Path, lines: int = 12) -> str:
    """The last lines of a log, for an error message."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return f"(no log at {path})"
