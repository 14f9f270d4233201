"""The job on stock Faust: its own aiokafka transport, an agent a record.

Tuned by Faust's «Configuration Reference»: raw serializers (no codec chain), a large stream buffer, records polled and
sent in bulk (`producer_linger_ms`, `producer_max_batch_size`), sends not awaited one by one, no leader topic, no web.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import faust
import msgspec
from transform import observation

app = faust.App(
    os.environ["GROUP"],
    broker=f"kafka://{os.environ['BOOTSTRAP']}",
    datadir=os.environ["FOLDER"],
    store="memory://",
    web_enabled=False,
    topic_disable_leader=True,
    topic_partitions=int(os.environ["PARTITIONS"]),
    consumer_auto_offset_reset="earliest",
    broker_max_poll_records=5000,
    broker_commit_interval=5.0,
    stream_buffer_maxsize=16_384,
    stream_wait_empty=False,
    producer_acks=-1,
    producer_linger_ms=20,
    producer_max_batch_size=512 * 1024,
    producer_compression_type=None if os.environ["COMPRESSION"] == "none" else os.environ["COMPRESSION"],
)
source = app.topic(os.environ["INPUT"], key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
target = app.topic(os.environ["OUTPUT"], key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode


@app.agent(source)
async def normalise(stream):
    async for key, value in stream.items():
        await target.send(key=key, value=encode(observation(key.decode(), decode(value))))


if __name__ == "__main__":
    app.main()
