"""The job on Bytewax, run by `python -m bytewax.run job -r FOLDER` with a recovery store, its way to keep offsets.

Tuned by its documents: records are taken and handed on in batches (`batch_size`, `flat_map_batch`), librdkafka's
batching by `add_config`. Its sink flushes after each batch, so a linger would only be waited for.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from transform import observation

brokers = [os.environ["BOOTSTRAP"]]


def normalise(batch):
    """All messages of a batch at once."""
    return [
        KafkaSinkMessage(message.key, orjson.dumps(observation(message.key.decode(), orjson.loads(message.value))))
        for message in batch
    ]


flow = Dataflow("normalise")
source = KafkaSource(
    brokers, [os.environ["INPUT"]], batch_size=5000, add_config={"queued.max.messages.kbytes": "65536"}
)
sink = KafkaSink(
    brokers,
    os.environ["OUTPUT"],
    add_config={
        "acks": "all",
        "linger.ms": "5",
        "batch.size": "1000000",
        "batch.num.messages": "10000",
        "queue.buffering.max.messages": "1000000",
        "compression.type": os.environ["COMPRESSION"],
    },
)
op.output("out", op.flat_map_batch("normalise", op.input("in", flow, source), normalise), sink)
