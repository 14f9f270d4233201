"""One connection to one broker, and why there is none. Written against aiokafka 0.14.0.

Reason: aiokafka's clients log why a broker cannot be used and raise «Unable to bootstrap», so that a wrong password, a
certificate for another host and a broker that is down look the same to a caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka.client import collect_hosts
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest


class TokenRefusedError(Exception):
    """The broker does not take our token."""


_NOT_OF_A_CONNECTION = ("bootstrap_servers",)


async def try_brokers(client: Mapping[str, Any], seconds: float) -> Exception | None:
    """Connect, sign in and ask something at each broker in turn.

    None at the first that takes us, else what the last one did.
    """
    options = {name: value for name, value in client.items() if name not in _NOT_OF_A_CONNECTION}
    failure: Exception | None = None
    for host, port, _ in collect_hosts(client["bootstrap_servers"]):
        try:
            async with asyncio.timeout(seconds):
                connection = await create_conn(host, port, request_timeout_ms=int(seconds * 1000), **options)
        except Exception as error:  # whatever it is, it is the answer
            failure = error
            continue
        try:
            async with asyncio.timeout(seconds):
                metadata = await connection.send(MetadataRequest([]))
            if metadata.brokers:
                return None
            failure = KafkaConnectionError("the broker names no brokers")
        except Exception as error:
            failure = error
        finally:
            connection.close()
        # aiokafka takes the broker's «invalid token» for a success; to whatever comes next the broker says nothing.
        if client.get("sasl_mechanism") == "OAUTHBEARER":
            failure = TokenRefusedError()
    return failure
