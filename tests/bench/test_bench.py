"""What the figures rest on: the job is the issue's, the verifier finds what is wrong, results keep their shape."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import types
from pathlib import Path

import psutil
import pytest

from bench import __main__ as command
from bench import decoders, job
from bench.job import Job, Output, verify
from bench.part import Bench
from bench.peers import transform
from bench.process import Process, ProcessEnded
from bench.results import Figure, Samples, load, merge, ratio, save
from schemas import wire
from schemas.envelope import Envelope
from streams.normalise import normalise
from streams.normalise.message import Options
from tests.support.waiting import eventually_blocking

JOB = Job(messages=250, machines=100, start_ms=1_773_645_666_755)
ORIGIN = wire.Origin("telemetry.raw.karcher.v1", 0, 7)


def ours(envelope: Envelope) -> Output:
    """What fleetlake's own normaliser makes of an envelope, read as the benchmark reads it."""
    result = normalise(envelope, ORIGIN, Options())
    assert result.observation is not None and result.dead_letter is None
    return decoders.fleetlake(envelope.key, wire.encode(result.observation))


def theirs(envelope: Envelope) -> Output:
    """What the Python peers make of it."""
    made = transform.observation(envelope.device_id, json.loads(envelope.data))
    return decoders.peer(envelope.key, json.dumps(made).encode())


def test_messages_are_those_the_vendor_documents() -> None:
    messages = [json.loads(job.payload(JOB, number)) for number in range(JOB.messages)]
    assert messages[101] == {
        "type": "datapoints",
        "data": {
            "location": {
                "coordinateX": 1000 + 101 * 37,
                "coordinateY": 6355,
                "mapId": messages[1]["data"]["location"]["mapId"],
            }
        },
        "timestamp": JOB.start_ms + 100,
    }
    assert len({json.dumps(message) for message in messages}) == JOB.messages
    assert len({envelope.device_id for envelope in job.envelopes(JOB)}) == JOB.machines
    assert len({envelope.id for envelope in job.envelopes(JOB)}) == JOB.messages


@pytest.mark.parametrize("system", [ours, theirs])
def test_what_the_systems_make_is_accepted(system: object) -> None:
    outputs = [system(envelope) for envelope in job.envelopes(JOB)]  # type: ignore[operator]
    assert verify(JOB, outputs) == job.Verdict(0, 0, 0)
    assert verify(JOB, outputs)


def test_the_verifier_finds_what_is_missing_doubled_or_wrong() -> None:
    outputs = [theirs(envelope) for envelope in job.envelopes(JOB)]
    assert verify(JOB, outputs[:-1]) == job.Verdict(1, 0, 0)
    assert verify(JOB, [*outputs, outputs[3]]) == job.Verdict(0, 1, 0)
    first = outputs[0]
    wrong = [
        first._replace(key=b"karcher:another"),
        first._replace(key=None),
        first._replace(device_id="karcher:another"),
        first._replace(time_ms=first.time_ms + 1),
        first._replace(time_ms=JOB.start_ms + 1_000_000),
        first._replace(units=("m", "mm")),
        first._replace(position=first.position._replace(x=first.position.x * 1.001)),
        first._replace(position=first.position._replace(y=6355.0)),
        first._replace(position=first.position._replace(map_id="")),
    ]
    for output in wrong:
        assert verify(JOB, [output, *outputs[1:]]) == job.Verdict(1, 0, 1), output
    assert not verify(JOB, [wrong[0], *outputs])


def test_telegrafs_shape_is_read() -> None:
    fields = {"position.x": 1.037, "position.y": 6.355, "map.id": "m"}
    tags = {"device_id": "karcher:a", "unit": "m"}
    value = json.dumps({"fields": fields, "name": "observation", "tags": tags, "timestamp": 1773645666755}).encode()
    output = decoders.telegraf(b"karcher:a", value)
    assert output == Output(b"karcher:a", "karcher:a", 1773645666755, job.Position(1.037, 6.355, "m"), ("m", "m"))


def test_results_have_their_shape_and_parts_are_replaced(tmp_path: Path) -> None:
    samples = Samples()
    for value in (3.0, 1.0, 2.0):
        samples.add("normalise", "fleetlake", records_per_second=value)
        samples.add("normalise", "bytewax", records_per_second=value / 2)
        samples.add("normalise", "faust", records_per_second=value / 8)
    figures = samples.figures()
    assert figures[0] == Figure("normalise", "fleetlake", "records_per_second", 2.0, 1.0, 3.0, 3)
    assert ratio(figures[0], figures) == 2.0
    old = [
        dataclasses.replace(figures[0], system="gone"),
        Figure("alarms", "rules-0", "cpu_us_per_reading", 1, 1, 1, 3),
    ]
    save(tmp_path / "results.json", merge(old, figures))
    saved = json.loads((tmp_path / "results.json").read_text())
    assert {frozenset(item) for item in saved} == {
        frozenset({"bench", "system", "metric", "median", "min", "max", "runs"})
    }
    assert [(item["bench"], item["system"]) for item in saved] == [
        ("alarms", "rules-0"),
        ("normalise", "bytewax"),
        ("normalise", "faust"),
        ("normalise", "fleetlake"),
    ]
    assert load(tmp_path / "results.json") == merge(old, figures)


def test_recorded_results_keep_to_the_shape() -> None:
    recorded = load(Path(__file__).parents[2] / "bench" / "results.json")
    assert all(f.min <= f.median <= f.max for f in recorded)
    assert {f.metric for f in recorded if f.runs < 3} <= {"reading_bytes"}  # the same files each time


def test_cpu_and_memory_are_those_of_the_whole_tree_and_nothing_is_left(tmp_path: Path) -> None:
    burn = "import time\nt = time.process_time()\nwhile time.process_time() - t < 0.2: pass\ntime.sleep(60)"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])"
    with Process([sys.executable, "-c", parent], tmp_path / "log") as process:
        eventually_blocking(lambda: process.sample() >= 0.2)
        assert process.peak_rss > 8 << 20
        (child,) = psutil.Process(process.pid).children()
    assert psutil.wait_procs([child], timeout=5) == ([child], [])


def test_a_process_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no broker')"]
    with Process(command, tmp_path / "log") as process, pytest.raises(ProcessEnded, match="no broker"):
        eventually_blocking(process.check)


def test_a_part_that_fails_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async def fails(bench: Bench, samples: Samples) -> None:
        raise RuntimeError("no broker")

    async def works(bench: Bench, samples: Samples) -> None:
        for run in range(bench.runs):
            samples.add("works", "fleetlake", records_per_second=run)

    for name, part in (("fails", fails), ("works", works)):
        module = types.ModuleType(f"bench.{name}")
        module.run = part  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(command, "PARTS", ("fails", "works"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["bench", "--out", str(tmp_path / "results.json")])
    assert command.main() == 1
    assert "FAILED: fails, all: RuntimeError('no broker')" in capsys.readouterr().err
    assert load(tmp_path / "results.json") == [Figure("works", "fleetlake", "records_per_second", 1.0, 0.0, 2.0, 3)]
