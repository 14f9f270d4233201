"""Exactly once, under kill -9 and under freezes past the session timeout (design decision 3)."""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

import pytest

from tests.support.kafka import MakeTopics, committed, numbers, produce, producer, read_all
from tests.support.stream_workers import Workers, until_processed
from tests.support.waiting import eventually, passing

PARTITIONS = 4
KEYS = 50  # a partition
AT_LEAST = 60_000
SESSION = 3.0


async def test_every_record_counts_once_whatever_dies_or_freezes(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    source, out, state = await make_topics(["in", "out", "state"], partitions=PARTITIONS)
    workers = Workers(
        kafka, tmp_path, "counter", source, out, state, env={"SESSION": str(SESSION), "STEP_SLEEP": "0.04"}
    )
    try:
        workers.start()
        workers.start()
        faults = asyncio.create_task(_faults(workers, source))
        sent = await _produce_until(kafka, source, faults)
        await faults
        await until_processed(workers, source, PARTITIONS)
        for worker in workers.started:
            if worker.poll() is None:
                assert await workers.stop(worker) == 0
    finally:
        workers.kill_all()

    assert min(sent) * PARTITIONS >= AT_LEAST
    outputs = await read_all(kafka, out, PARTITIONS)
    for partition, records in outputs.items():
        values = numbers(records)
        assert [value[:2] for value in values] == [[partition, offset] for offset in range(sent[partition])]
        counts = dict.fromkeys((_key(partition, number) for number in range(KEYS)), 0)
        for record, (_, _, count) in zip(records, values, strict=True):
            assert record.key is not None
            counts[record.key] += 1
            assert count == counts[record.key]
        last = {
            record.key: int(record.value or b"") for record in (await read_all(kafka, state, PARTITIONS))[partition]
        }
        assert last == counts


async def test_a_zombie_that_wakes_with_a_batch_in_hand_is_fenced(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    source, out = await make_topics(["in", "out"])
    begun = tmp_path / "begun"
    workers = Workers(kafka, tmp_path, "lingering", source, out, env={"SESSION": "3"})
    try:
        async with producer(kafka) as client:
            await produce(client, source, 0, [(b"device", b"x")] * 100)
        zombie = workers.start(LINGER_FILE=str(begun))
        await eventually(begun.exists)
        zombie.send_signal(signal.SIGSTOP)
        workers.start()
        await until_processed(workers, source, 1)
        zombie.send_signal(signal.SIGCONT)
        assert await workers.exit_code(zombie) == 1
        assert "ProducerFenced" in workers.log(0)
    finally:
        workers.kill_all()
    assert numbers((await read_all(kafka, out, 1))[0]) == [[0, offset] for offset in range(100)]


def _key(partition: int, number: int) -> bytes:
    return b"device-%d-%d" % (partition, number)


async def _produce_until(kafka: str, topic: str, faults: asyncio.Task[None]) -> list[int]:
    """Produce evenly while faults happen, and until there are enough; how many there are in each partition."""
    sent = [0] * PARTITIONS
    async with producer(kafka) as client:
        while not faults.done() or sum(sent) < AT_LEAST:
            for partition in range(PARTITIONS):
                pairs = [(_key(partition, (sent[partition] + i) % KEYS), b"x") for i in range(100)]
                sent[partition] += await produce(client, topic, partition, pairs)
            if faults.done():
                faults.result()
            await passing(0.1, "the pace of the writer")
    return sent


async def _faults(workers: Workers, topic: str) -> None:
    """Three kills and two freezes, each when every partition has gone on since the last."""
    chosen = random.Random(20)
    for fault in ("kill", "freeze", "kill", "freeze", "kill"):
        await _progress(workers, topic)
        running = [worker for worker in workers.started if worker.poll() is None]
        victim = chosen.choice(running)
        if fault == "kill":
            victim.kill()
        else:
            victim.send_signal(signal.SIGSTOP)
            await passing(SESSION + 2.5, "longer than the group waits for it")
            victim.send_signal(signal.SIGCONT)
            await passing(1, "it wakes as a zombie, and acts as one")
        _replace_dead(workers)
    await _progress(workers, topic)
    _replace_dead(workers)


async def _progress(workers: Workers, topic: str) -> None:
    """Wait until every partition goes on, whatever happened before, so that the next fault meets work."""
    before = await committed(workers.kafka, workers.application)

    async def all_went_on() -> bool:
        _replace_dead(workers)
        now = await committed(workers.kafka, workers.application)
        tps = [(topic, partition) for partition in range(PARTITIONS)]
        return all(now.get(tp, 0) >= before.get(tp, 0) + 500 for tp in tps)

    await eventually(all_went_on, 60, workers.log)


def _replace_dead(workers: Workers) -> None:
    """What a supervisor does. Whoever was fenced must have said why and ended non-zero."""
    alive = 0
    for number, worker in enumerate(workers.started):
        code = worker.poll()
        alive += code is None
        if code not in (None, -signal.SIGKILL):
            assert code == 1, workers.log(number)
            assert workers.log(number).count("stream worker failed: ") == 1, workers.log(number)
    for _ in range(2 - alive):
        assert len(workers.started) < 15, workers.log(0)
        workers.start()


pytestmark = pytest.mark.slow
