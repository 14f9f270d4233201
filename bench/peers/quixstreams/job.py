"""The job on Quix Streams.

Tuned by its «Configuration» page: commits by interval (the default of 5 s), librdkafka's batching by
`producer_extra_config` (`linger.ms`, larger batches), fetches by `consumer_extra_config`; JSON by its own serializers.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from quixstreams import Application
from transform import observation

app = Application(
    broker_address=os.environ["BOOTSTRAP"],
    consumer_group=os.environ["GROUP"],
    auto_offset_reset="earliest",
    auto_create_topics=False,
    state_dir=os.environ["FOLDER"],
    commit_interval=5.0,
    loglevel="WARNING",
    consumer_extra_config={"fetch.min.bytes": 65536, "fetch.wait.max.ms": 100, "queued.max.messages.kbytes": 65536},
    producer_extra_config={
        "acks": "all",
        "linger.ms": 50,
        "batch.size": 1_000_000,
        "batch.num.messages": 10_000,
        "queue.buffering.max.messages": 1_000_000,
        "compression.type": os.environ["COMPRESSION"],
    },
)
source = app.topic(os.environ["INPUT"], key_deserializer="bytes", value_deserializer="json")
target = app.topic(os.environ["OUTPUT"], key_serializer="bytes", value_serializer="json")
frame = app.dataframe(source)
frame = frame.apply(lambda value, key, timestamp, headers: observation(key.decode(), value), metadata=True)
frame = frame.to_topic(target)

if __name__ == "__main__":
    app.run()
