"""The parts of the publisher: records, queues per partition, sending, the producer, and whether Kafka is away."""
