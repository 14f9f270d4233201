"""One MQTT session: packets go to Kafka, and are acknowledged to the broker when Kafka has them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTProtocolVersion

from connectors.common.byte_budget import ByteBudget
from connectors.common.clock import utc_now
from connectors.wayscloud.logins import Login
from connectors.wayscloud.mqtt_client import MqttClient, MqttError, Receipt
from connectors.wayscloud.objects import BrokerAddress
from connectors.wayscloud.protocol import Packet
from connectors.wayscloud.settings import WayscloudSettings

_LONG_BYTES = 64 * 1024

Publish = Callable[[Packet], Awaitable[list[asyncio.Future[None]]]]
"""Hands a packet on; the futures are done when Kafka has what the packet contained."""


class MqttSilentError(MqttError):
    """The connection stands, but no message arrived through it for too long."""


class MqttSession:
    """Connects once, subscribes, and hands on packets until the connection ends.

    Delivery: QoS 1 with a persistent session. A packet is acknowledged (PUBACK) when Kafka has it, in the order of
    receipt, as MQTT 5.0, 4.6 asks; the broker sends again what is not acknowledged. At most `max_in_flight` packets are
    taken beyond what Kafka has acknowledged, and no more bytes than `intake` has room for.
    """

    def __init__(
        self, settings: WayscloudSettings, login: Login, version: MQTTProtocolVersion, intake: ByteBudget
    ) -> None:
        self._settings = settings
        self._login = login
        self._client = MqttClient(settings, login, version, intake)
        self._unacknowledged: deque[tuple[Receipt, asyncio.Future[Any], datetime]] = deque()

    async def run(
        self, address: BrokerAddress, publish: Publish, on_connected: Callable[[bool], Awaitable[None]]
    ) -> None:
        """Run until cancelled (then what is under way is acknowledged first) or MqttError.

        `on_connected` gets whether the broker still had our session. MqttSilentError where nothing arrived for
        `silent_seconds`; retained messages do not count, since each new subscription brings them.
        """
        try:
            session_present = await self._client.connect(address)
            if not session_present:  # then nothing comes before the subscription, which may be refused
                await self._wait_for_subscription()
            await on_connected(session_present)
            await self._pump(publish)
        finally:
            await self._close()

    def safe_until(self) -> datetime:
        """The time before which everything that arrived is in Kafka."""
        return self._unacknowledged[0][2] if self._unacknowledged else utc_now()

    async def _wait_for_subscription(self) -> None:
        timeout = self._settings.connect_timeout_seconds
        try:
            async with asyncio.timeout(timeout):
                await self._client.subscribed
        except TimeoutError:
            raise MqttError(f"no answer to SUBSCRIBE within {timeout:g} s") from None

    async def _pump(self, publish: Publish) -> None:
        client = self._client
        silent = self._settings.silent_seconds or None
        last_message = time.monotonic()
        while True:
            while client.messages:
                message = client.messages.popleft()
                await self._take(message, publish)
                if len(message.payload) > _LONG_BYTES:
                    await asyncio.sleep(0)  # to read one takes long: the loop goes round before the next
                if not message.retain:
                    last_message = time.monotonic()
            client.wake.clear()
            if client.messages:
                continue
            timeout = None if silent is None else max(0.0, last_message + silent - time.monotonic())
            is_awake = await self._wait(timeout)
            if client.ended.done():
                raise MqttError(client.ended.result())
            if not is_awake and not client.messages:
                raise MqttSilentError(f"no message for {silent:g} s")

    async def _take(self, message: paho.MQTTMessage, publish: Publish) -> None:
        received = utc_now()
        identity = f"{self._login.client_id}/{message.mid}"
        topic, unreadable = _topic(message)
        packet = Packet(topic, bytes(message.payload), message.retain, message.dup, identity, unreadable)
        try:
            delivered = asyncio.gather(*await publish(packet))
        finally:
            self._client.handed_on(message)
        self._unacknowledged.append((Receipt(message.mid, message.qos), delivered, received))
        delivered.add_done_callback(self._acknowledge)

    async def _wait(self, timeout: float | None) -> bool:
        """Wait for a message or the end of the connection; False where neither happened within `timeout` seconds."""
        wake: asyncio.Future[Any] = asyncio.ensure_future(self._client.wake.wait())
        waiting: set[asyncio.Future[Any]] = {wake, self._client.ended}
        try:
            done, _ = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wake.cancel()
        return bool(done)

    def _acknowledge(self, _: object) -> None:
        """Acknowledge up to the first packet that Kafka does not have yet."""
        while self._unacknowledged and self._unacknowledged[0][1].done():
            receipt, delivered, _ = self._unacknowledged.popleft()
            is_delivered = not delivered.cancelled() and delivered.exception() is None
            self._client.done_with(receipt, acknowledge=is_delivered)

    async def _close(self) -> None:
        """Acknowledge what Kafka takes within `drain_seconds`, then leave."""
        self._client.take_no_more()
        if not self._client.ended.done():
            pending = [delivered for _, delivered, _ in self._unacknowledged]
            if pending:
                await asyncio.wait(pending, timeout=self._settings.drain_seconds)
            self._acknowledge(None)
        await self._client.close()


def _topic(message: paho.MQTTMessage) -> tuple[str, bytes]:
    """The topic; or, where a broker let one pass that is not UTF-8, an empty text and the topic's bytes."""
    try:
        return message.topic, b""
    except UnicodeDecodeError as error:
        return "", error.object
