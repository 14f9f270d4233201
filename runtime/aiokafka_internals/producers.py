"""The producer's record accumulator and sender. Written against aiokafka 0.14.0."""

from __future__ import annotations

import math

from aiokafka import AIOKafkaProducer


def never_expire_batches(producer: AIOKafkaProducer) -> None:
    """Have the producer retry a batch for as long as it lives. Call it before `start`.

    Reason: aiokafka gives up a batch whose partition had no leader for the request timeout, though the broker may have
    written it. Sent once more it would have another sequence number and be there twice. Never giving up keeps
    idempotence.
    """
    producer._message_accumulator._batch_ttl = math.inf


async def abandon(producer: AIOKafkaProducer) -> None:
    """End a producer whose `stop` does not return, without delivering what it holds.

    Reason: `stop` waits for the sender, which retries for as long as no broker answers.
    """
    task = producer._sender.sender_task
    if task is not None:
        task.cancel()
    await producer.client.close()
