"""The parts of the embedded broker, without Kafka: its ports, its folder, and the process under the watchdog."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fleetlake.local.broker import BrokerError, find_bootstrap
from fleetlake.local.broker.folder import BrokerFolder
from fleetlake.local.broker.jvm import Jvm
from fleetlake.local.broker.ports import PortTaken, choose_ports, require_free, serves
from runtime.locks import FileLock
from runtime.ports import free_port
from tests.support.waiting import eventually_blocking


def test_two_free_ports_are_chosen_and_a_fixed_one_is_kept() -> None:
    port, controller_port = choose_ports(0)
    assert port != controller_port
    assert choose_ports(port)[0] == port


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for use in (lambda: choose_ports(port), lambda: require_free(port)):
            with pytest.raises(PortTaken, match=f"Port {port} on 127.0.0.1 is in use"):
                use()
    require_free(port)


def test_nothing_serves_where_nothing_listens() -> None:
    assert not serves(free_port())


def test_an_address_counts_only_while_its_broker_holds_the_folder(tmp_path: Path) -> None:
    folder = BrokerFolder(tmp_path)
    assert find_bootstrap(tmp_path) is None
    lock = folder.lock()
    folder.note_bootstrap("127.0.0.1:1")
    assert find_bootstrap(tmp_path) == "127.0.0.1:1"
    lock.close()  # killed: the file is still there
    assert (tmp_path / "kafka" / "bootstrap").exists()
    assert find_bootstrap(tmp_path) is None
    lock = folder.lock()
    assert not (tmp_path / "kafka" / "bootstrap").exists(), "the next broker forgets the address of the last one"
    lock.close()


def test_a_folder_in_use_names_its_owner_and_address(tmp_path: Path) -> None:
    folder = BrokerFolder(tmp_path)
    with FileLock(tmp_path / "kafka" / "lock") as lock:
        lock.write_text(str(os.getpid()))
        folder.note_bootstrap("127.0.0.1:7")
        with pytest.raises(BrokerError, match=rf"process {os.getpid()}\) runs on .* and serves at 127.0.0.1:7"):
            BrokerFolder(tmp_path).lock()


def test_last_words_are_those_of_this_run(tmp_path: Path) -> None:
    folder = BrokerFolder(tmp_path)
    folder.write_configuration(1, 2)
    folder.log_file.write_text("2026 ERROR of the last run\n")
    folder.note_log_size()
    with folder.log_file.open("a") as log:
        log.write("2026 INFO fine\n2026 ERROR disk full\n")
    assert "disk full" in folder.last_words() and "last run" not in folder.last_words()
    folder.log_file.write_text("2026 ERROR anew\n")
    assert "ERROR anew" in folder.last_words(), "a log that was rolled is read from its beginning"


def launched(tmp_path: Path, code: str) -> Jvm | None:
    with FileLock(tmp_path / "lock") as lock:
        return Jvm.launch([sys.executable, "-c", code], tmp_path / "output", lock.fileno())


@pytest.mark.parametrize("method", ["stop", "kill"])
def test_a_process_is_ended_and_holds_the_lock_until_then(tmp_path: Path, method: str) -> None:
    process = launched(tmp_path, "import time; time.sleep(600)")
    assert process is not None and process.running
    assert not FileLock(tmp_path / "lock").try_acquire(), "the process inherited the lock"
    getattr(process, method)()
    assert not process.running
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    with FileLock(tmp_path / "lock"):
        pass


def test_a_process_that_ends_by_itself_is_seen_and_its_words_are_kept(tmp_path: Path) -> None:
    process = launched(tmp_path, "print('out of memory', flush=True)")
    assert process is not None
    eventually_blocking(lambda: not process.running)
    process.stop()
    assert "out of memory" in (tmp_path / "output").read_text()


def test_a_command_that_cannot_be_run_is_no_process(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock") as lock:
        assert Jvm.launch([str(tmp_path / "missing")], tmp_path / "output", lock.fileno()) is None
    assert "missing" in (tmp_path / "output").read_text()


def test_a_process_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from runtime.locks import FileLock; from fleetlake.local.broker.jvm import Jvm\n"
        "folder = pathlib.Path(sys.argv[1]); lock = FileLock(folder / 'lock'); lock.acquire()\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "print(Jvm.launch(command, folder / 'output', lock.fileno()).pid, flush=True); sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None and parent.stdin is not None
    assert int(parent.stdout.readline()) > 0
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    FileLock(tmp_path / "lock").acquire()  # free as soon as the process has ended; the test's timeout bounds the wait
