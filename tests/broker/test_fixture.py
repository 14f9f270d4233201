from __future__ import annotations

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.support.kafka import MakeTopics


async def test_a_transaction_goes_through_the_session_broker(kafka: str, make_topics: MakeTopics) -> None:
    [topic] = await make_topics(["records"], partitions=3)

    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=topic)
    async with producer, producer.transaction():
        for number in range(3):
            await producer.send_and_wait(topic, f"{number}".encode(), partition=number)

    async with AIOKafkaConsumer(
        topic, bootstrap_servers=kafka, auto_offset_reset="earliest", isolation_level="read_committed"
    ) as consumer:
        received = [(await consumer.getone()).value for _ in range(3)]

    assert sorted(received) == [b"0", b"1", b"2"]
