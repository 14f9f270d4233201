"""MQTT brokers, devices that publish to them, and a WAYSCloud connector."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from connectors.common.context import Context
from connectors.common.publisher import Publisher
from connectors.wayscloud.connector import WayscloudConnector
from connectors.wayscloud.settings import WayscloudSettings
from tests.support.tails import Tail
from tests.support.waiting import eventually

_WINDOW = 1000
"""Messages that a device has under way."""


def mosquitto() -> str | None:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@asynccontextmanager
async def mosquitto_broker(
    folder: Path, port: int, persistence: bool = True, more: str = "", logins: dict[str, str] | None = None
) -> AsyncIterator[int]:
    """Mosquitto until the block ends. `logins`: user names and passwords, without which nobody gets in."""
    binary = mosquitto()
    if binary is None:
        assert not os.environ.get("CI"), "Mosquitto is missing: CI has to install it (apt-get install mosquitto)"
        pytest.skip("Mosquitto is not installed: this test ran on amqtt alone (apt-get install mosquitto)")
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\n{more}\nallow_anonymous {str(logins is None).lower()}\n"
        f"persistence {str(persistence).lower()}\npersistence_location {folder}/\n"
        f"max_queued_messages 100000\n"
        + (f"password_file {_password_file(folder, logins)}\n" if logins else "")
        + ("user root\n" if os.geteuid() == 0 else "")  # else it drops to a user that may not write there
    )
    process = subprocess.Popen([binary, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
    try:
        await eventually(lambda: listening(port))
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _password_file(folder: Path, logins: dict[str, str]) -> Path:
    path = folder / "passwords"
    path.write_text("".join(f"{name}:{password}\n" for name, password in logins.items()))
    path.chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-U", str(path)], check=True)
    return path


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def running(settings: WayscloudSettings, publisher: Publisher, folder: Path) -> AsyncIterator[None]:
    task = asyncio.create_task(WayscloudConnector(settings, Context(publisher, folder)).run())
    try:
        yield
        assert not task.done(), task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def settings_for(port: int, client_id: str = "fleetlake-test", **more: Any) -> WayscloudSettings:
    quick = {"alive_seconds": 0.2, "reconnect_seconds": 0.1, "reconnect_cap_seconds": 0.5, "drain_seconds": 0.2}
    where = {"mqtt_host": "127.0.0.1", "mqtt_port": port, "mqtt_tls": False, "client_id": client_id}
    return WayscloudSettings.model_validate(where | quick | more)


def batched(payloads: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    return (payloads[first : first + size] for first in range(0, len(payloads), size))


@asynccontextmanager
async def sensors(port: int, login: tuple[str, str] | None = None) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """A device's client; `await send(topic, payload)` returns when the broker has acknowledged."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"sensors-{time.monotonic_ns()}", clean_session=False)
    client.reconnect_delay_set(1, 1)
    client.max_inflight_messages_set(_WINDOW)
    acknowledged: set[int] = set()
    client.on_publish = lambda _, __, mid, ___, ____: acknowledged.add(mid)
    if login is not None:
        client.username_pw_set(*login)
    await asyncio.to_thread(client.connect, "127.0.0.1", port)
    client.loop_start()

    async def send(topic: str, *payloads: bytes, retain: bool = False) -> None:
        # A window at a time: after a reconnect paho sends all it has under way at once, whatever its limit in flight.
        for window in batched(payloads, _WINDOW):
            # What is published without a connection is queued; paho's own waiting would raise for it.
            sent = {client.publish(topic, payload, qos=1, retain=retain).mid for payload in window}
            await eventually(partial(sent.issubset, acknowledged), 60)
            acknowledged.difference_update(sent)

    try:
        yield send
    finally:
        client.disconnect()
        await asyncio.to_thread(client.loop_stop)


async def subscribed(
    send: Callable[..., Awaitable[None]], raw: Tail, topic: str = "devices/probe/sensors/mode"
) -> None:
    """Until the connector hears what is sent."""
    for _ in range(100):
        await send(topic, b"hello")
        if await raw.quiet(0.2):
            return
    raise AssertionError("the connector never subscribed")
