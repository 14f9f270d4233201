"""Runs stages as child processes: starts them in order, restarts what fails, stops them in order.

A stage that fails ends its process (docs/adr/0002-batch-is-a-transaction.md), and the supervisor starts it once more.
A stage that runs but is not live (a frozen process, a blocked event loop, a dead fetcher) is killed and started too. A
process that cannot even be started is tried for ever, at growing intervals.
Children hold a pipe from the supervisor as standard input, so that they stop when it is gone, however it ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from tenacity import RetryCallState, wait_random_exponential

from fleetlake.local.liveness import DEFAULT_LIMITS, LivenessLimits, LivenessRecord, probe_liveness
from runtime.log import LOG_FILE, STAGE_NAME
from runtime.metrics import Sample, parse_samples
from runtime.process import SUPERVISED
from runtime.systemd import NOTIFY_SOCKET

log = logging.getLogger(__name__)

_Key = tuple[str, tuple[tuple[str, str], ...]]
"""A metric's name and labels."""

_RESTART_WAIT = wait_random_exponential(multiplier=0.5, max=10)
_SETTLED_SECONDS = 60.0
"""A child that lived for this long starts its restart back-off from the beginning."""
_ABORT_SECONDS = 2.0
"""How long a child that is not live may take to write its stacks to its log."""


@dataclass
class ChildSpec:
    """A stage to run: its name, the `fleetlake` arguments, the port of its health server, further environment."""

    name: str
    arguments: Sequence[str]
    health_port: int = -1
    environment: dict[str, str] = field(default_factory=dict)
    health_host: str = "127.0.0.1"
    """Where this machine reaches the health server; an IPv6 address in brackets."""
    files: tuple[int, ...] = ()
    """Descriptors of open files that the process inherits."""

    @property
    def health_url(self) -> str:
        """The base URL of the health server; meaningless without a port."""
        return f"http://{self.health_host}:{self.health_port}"


class Child:
    """One supervised process."""

    def __init__(self, spec: ChildSpec, log_file: Path | None, limits: LivenessLimits) -> None:
        self.spec = spec
        self.restarts = 0
        self._samples: dict[_Key, float] = {}
        self._before: dict[_Key, float] = {}
        """The counters' values when earlier processes of this stage ended."""
        self.up = False
        self._log_file = log_file
        self._limits = limits
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def samples(self) -> list[Sample]:
        """The stage's metrics; counters continue where an earlier process of it ended."""
        keys = self._samples.keys() | self._before.keys()
        return [(n, dict(ls), self._samples.get((n, ls), 0.0) + self._before.get((n, ls), 0.0)) for n, ls in keys]

    def read(self, samples: list[Sample]) -> None:
        """Take the metrics of the running process."""
        self._samples = {(name, tuple(sorted(labels.items()))): value for name, labels, value in samples}

    def _ended(self) -> None:
        self.up = False
        for key, value in self._samples.items():
            if key[0].endswith("_total"):
                self._before[key] = self._before.get(key, 0.0) + value
        self._samples = {}

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def start(self) -> None:
        """Keep the process running from now on."""
        self._task = asyncio.create_task(self._keep_running())

    async def stop(self, timeout: float = 30.0) -> int | None:
        """Send SIGTERM, then SIGKILL after `timeout` seconds; returns the exit status, or None if it never ran."""
        self._stopping = True
        if self._process and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), timeout)
            except TimeoutError:
                log.warning("%s did not stop within %.0f s: killing it", self.spec.name, timeout)
                self._process.kill()
                await self._process.wait()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        return self._process.returncode if self._process else None

    async def _keep_running(self) -> None:
        failures = 0
        while not self._stopping:
            started = time.monotonic()
            outcome = await self._run_once()
            self._ended()
            if self._stopping:
                return
            failures = 1 if time.monotonic() - started > _SETTLED_SECONDS else failures + 1
            self.restarts += 1
            pause = _restart_pause(failures)
            log.warning("%s %s; restarting it in %.1f s%s", self.spec.name, outcome, pause, self._hint())
            await asyncio.sleep(pause)

    async def _run_once(self) -> str:
        """Start the process and wait for its end; returns what became of it."""
        try:
            self._process = await self._spawn()
        except (OSError, RuntimeError) as error:  # no descriptors, memory, threads or log folder: all of it may pass
            return f"could not be started: {error}"
        watch = asyncio.create_task(self._watch(self._process))
        try:
            return f"ended with status {await self._process.wait()}"
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _spawn(self) -> asyncio.subprocess.Process:
        with ExitStack() as stack:
            output = None
            if self._log_file:
                self._log_file.parent.mkdir(parents=True, exist_ok=True)
                output = stack.enter_context(self._log_file.open("ab"))
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "fleetlake",
                *self.spec.arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=self._environment(),
                pass_fds=self.spec.files,
                start_new_session=True,  # Ctrl-C reaches us alone; we stop the children in order
            )

    def _environment(self) -> dict[str, str]:
        own = {SUPERVISED: "1", "FLEETLAKE_PIPELINE__HEALTH_PORT": str(self.spec.health_port)}
        own[STAGE_NAME] = self.spec.name
        if self._log_file:
            own[LOG_FILE] = str(self._log_file)
        inherited = {name: value for name, value in os.environ.items() if name != NOTIFY_SOCKET}
        return {**inherited, **own, **self.spec.environment}

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Kill the process if it is not live; its end is then handled like any other."""
        if self.spec.health_port <= 0:
            return
        record = LivenessRecord(self._limits)
        while True:
            await asyncio.sleep(self._limits.interval_seconds)
            problem = await probe_liveness(self.spec.health_url, self._limits.timeout_seconds)
            if record.observe(problem):
                break
        if self._stopping:
            return
        log.error("%s is not live (%s): killing it", self.spec.name, problem)
        process.send_signal(signal.SIGABRT)  # writes the stacks of its threads, unless it is frozen
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _ABORT_SECONDS)
        if process.returncode is None:
            process.kill()

    def _hint(self) -> str:
        return f" (see {self._log_file})" if self._log_file else ""


def _restart_pause(failures: int) -> float:
    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    state.attempt_number = failures
    return float(_RESTART_WAIT(state))


class Supervisor:
    """A set of children, and what their health servers report."""

    def __init__(self, log_folder: Path | None, limits: LivenessLimits = DEFAULT_LIMITS) -> None:
        self.children: dict[str, Child] = {}
        self._log_folder = log_folder
        self._limits = limits

    def start(self, spec: ChildSpec) -> Child:
        """Start one more child."""
        log_file = self._log_folder / f"{spec.name}.log" if self._log_folder else None
        child = Child(spec, log_file, self._limits)
        self.children[spec.name] = child
        child.start()
        return child

    async def stop(self, *names: str, timeout: float = 30.0) -> None:
        """Stop the named children side by side; names that never started are skipped."""
        await asyncio.gather(*(self.children[name].stop(timeout) for name in names if name in self.children))

    async def stop_all(self, order: Sequence[Sequence[str]]) -> None:
        """Stop group after group, then all other children."""
        for group in order:
            await self.stop(*group)
        await self.stop(*self.children)

    async def poll(self) -> None:
        """Read every child's metrics; a child that does not answer is down and keeps its last figures."""
        timeout = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await asyncio.gather(*(self._poll_child(session, child) for child in self.children.values()))

    async def _poll_child(self, session: aiohttp.ClientSession, child: Child) -> None:
        if child.spec.health_port <= 0:
            child.up = child.pid is not None
            return
        base = child.spec.health_url
        try:
            async with session.get(f"{base}/readyz") as answer:
                child.up = answer.status == 200
            async with session.get(f"{base}/metrics") as answer:
                child.read(parse_samples(await answer.text()))
        except (aiohttp.ClientError, TimeoutError, OSError):
            child.up = False

    async def wait_until(self, done: Callable[[], bool], timeout: float, interval: float = 0.5) -> bool:
        """Poll until `done()`; False after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            await self.poll()
            if done():
                return True
            await asyncio.sleep(interval)
        return False

    def samples(self) -> list[Sample]:
        """The metrics of all children together."""
        return [sample for child in self.children.values() for sample in child.samples]
