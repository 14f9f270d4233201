"""Ports of the embedded broker: whether one is free, whether something listens, whether Kafka serves there."""

from __future__ import annotations

import asyncio
import errno
import socket

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from fleetlake.local.broker.jars import BrokerError
from fleetlake.local.broker.settings import NODE_ID
from runtime.ports import free_port

HOST = "127.0.0.1"


class PortTaken(BrokerError):
    """Another process listens on the port. It may have taken a free port while Java started."""


def choose_ports(fixed_port: int) -> tuple[int, int]:
    """The broker's port (`fixed_port`, or a free one if that is 0), and another free one for the controller.

    PortTaken where the fixed one is in use.
    """
    with socket.socket() as broker:
        _bind(broker, fixed_port or free_port())
        return broker.getsockname()[1], free_port()  # while the first is held, so that they differ


def require_free(port: int) -> None:
    """PortTaken if another process listens on the port."""
    with socket.socket() as probe:
        _bind(probe, port)


def serves(port: int) -> bool:
    """Whether a client gets metadata that lists our node as alive."""
    if not _is_listening(port):
        return False
    try:
        return asyncio.run(_lists_our_node(port))
    except (KafkaError, OSError, TimeoutError):
        return False


def _bind(probe: socket.socket, port: int) -> None:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka binds: a port in TIME_WAIT is usable
    try:
        probe.bind((HOST, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise BrokerError(f"Port {port} on {HOST} cannot be used: {error}.") from error
        raise PortTaken(
            f"Port {port} on {HOST} is in use; stop what listens there, or choose another port (0 takes a free one)."
        ) from error


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


async def _lists_our_node(port: int) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{HOST}:{port}", request_timeout_ms=2000)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        return any(broker["node_id"] == NODE_ID for broker in cluster["brokers"])
    finally:
        await admin.close()
