"""The parts of the publisher, in the order in which a record meets them.

`outgoing_record` makes it, `record_sender` puts it into the queue of its partition (`partitioner`, `send_queues`) and
sends what waits there as one batch, by the `producer`. `kafka_availability` knows whether Kafka is away.
"""
