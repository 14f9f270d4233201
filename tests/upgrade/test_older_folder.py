"""A data folder of an older version goes on: Kafka's offsets and state, connectors' files, lake, `fleet.duckdb`.

`folder-2026-11-27.tar.xz` is what `fleetlake demo --seconds 14 --devices 8` of commit 8282b1d left behind, its logs
removed. A change that would make it unreadable is a break of the upgrade contract; see docs/reliability.md.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import fleetlake
from fleetlake.local.broker import EmbeddedKafka
from tests.support.waiting import eventually_blocking

FOLDERS = sorted(Path(__file__).parent.glob("folder-*.tar.xz"))
KEPT = {
    "readings": "origin_topic, origin_partition, origin_offset, device_id, metric, observed_at, value_number",
    "events": "origin_topic, origin_partition, origin_offset, event_id",
    "alarm_events": "event_id, alarm_id, sequence, event_type",
}
"""Tables and the columns by which a row of before is recognised afterwards."""


def rows(data: Path, table: str) -> set[tuple[object, ...]]:
    with fleetlake.connect(data) as connection:
        fetched = connection.execute(f"SELECT {KEPT[table]} FROM {table}").fetchall()
    assert len(set(fetched)) == len(fetched), f"{table}: a row is there twice"
    return set(fetched)


def fleetlake_command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fleetlake", *arguments], cwd=cwd, capture_output=True, text=True, timeout=200
    )


def run_until_there_is_more(data: Path, readings: int) -> None:
    """Run the demo on the folder until its tables have grown; then stop it as `Ctrl-C` does."""
    command = [sys.executable, "-m", "fleetlake", "demo", "--devices", "8", "--data", str(data)]
    demo = subprocess.Popen(command, cwd=data.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        eventually_blocking(lambda: demo.poll() is not None or len(rows(data, "readings")) > readings, 120)
        demo.send_signal(signal.SIGINT)
        output, _ = demo.communicate(timeout=120)
        assert demo.returncode == 0, output
    finally:
        demo.kill()


@pytest.mark.slow
@pytest.mark.parametrize("archive", FOLDERS, ids=lambda path: path.name.removesuffix(".tar.xz"))
def test_a_folder_of_an_older_version_goes_on(archive: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with tarfile.open(archive) as packed:
        packed.extractall(data, filter="data")
    before = {table: rows(data, table) for table in KEPT}
    assert all(before.values())

    run_until_there_is_more(data, len(before["readings"]))
    with EmbeddedKafka(data):
        verified = fleetlake_command("lake", "verify", "--data", str(data), cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout + verified.stderr

    after = {table: rows(data, table) for table in KEPT}
    for table, kept in before.items():
        assert kept <= after[table], f"{table}: rows are gone"
    assert len(after["readings"]) > len(before["readings"])
    numbers = [(row[1], row[2]) for row in after["alarm_events"]]
    assert len(set(numbers)) == len(numbers), "an alarm's timeline went on from a number it had used"
