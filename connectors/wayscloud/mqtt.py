"""One MQTT session: paho's thread on one side, asyncio and Kafka on the other."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from connectors.common.context import utc_now
from connectors.wayscloud.protocol import Packet
from connectors.wayscloud.settings import WayscloudSettings

_silent = logging.getLogger("connectors.wayscloud.library")
_silent.disabled = True

_TRIAL_SECONDS = 1.0
"""A broker that speaks MQTT 3.1.1 only may just say nothing to a CONNECT of MQTT 5: so long it may think about it."""

Publish = Callable[[Packet], Awaitable[list[asyncio.Future[None]]]]
"""Hands a packet on; the futures are done when Kafka has what it came to."""


@dataclass(frozen=True)
class Login:
    """Who we are for the broker, and what we subscribe to."""

    client_id: str
    username: str
    password: str
    topics: tuple[str, ...]


class MqttError(RuntimeError):
    """The session ended or could not begin; `unsupported` where another protocol version may help."""

    def __init__(self, text: str, unsupported: bool = False) -> None:
        super().__init__(text)
        self.unsupported = unsupported


class MqttSilent(MqttError):
    """The connection stands, but for too long nothing came through it."""


class MqttSession:
    """Connects once, subscribes, and hands on what comes until the connection ends.

    Delivery: QoS 1 with a persistent session. A packet is acknowledged (PUBACK) when Kafka has it, in the order of
    receipt, as MQTT 4.6 asks; what is not acknowledged the broker sends again. At most `max_in_flight` packets are
    taken beyond what Kafka has acknowledged.
    """

    def __init__(
        self, settings: WayscloudSettings, login: Login, host: str, port: int, version: MQTTProtocolVersion
    ) -> None:
        self._settings = settings
        self._login = login
        self._host = host
        self._port = port
        self._v5 = version == MQTTProtocolVersion.MQTTv5
        self._loop = asyncio.get_running_loop()
        self._came: deque[paho.MQTTMessage] = deque()
        self._wake = asyncio.Event()
        self._room = threading.Semaphore(settings.max_in_flight + 1000)
        self._connected: asyncio.Future[bool] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._unacknowledged: deque[tuple[paho.MQTTMessage, asyncio.Future[Any], datetime]] = deque()
        self._closing = False
        self._client = self._new_client(version)

    async def run(self, publish: Publish, on_connected: Callable[[bool], Awaitable[None]]) -> None:
        """Until cancelled (then what is under way is acknowledged first) or MqttError.

        `on_connected` is told whether the broker still had our session. MqttSilent where nothing came for
        `silent_seconds`; retained messages do not count, for a new subscription brings them in any case.
        """
        try:
            session_present = await self._connect()
            await on_connected(session_present)
            await self._pump(publish)
        finally:
            await self._close()

    def safe_until(self) -> datetime:
        """Everything that came before is in Kafka."""
        return self._unacknowledged[0][2] if self._unacknowledged else utc_now()

    # In asyncio's thread.

    async def _connect(self) -> bool:
        timeout = self._settings.connect_timeout_seconds
        properties = _connect_properties(self._settings) if self._v5 else None
        options: dict[str, Any] = {"clean_start": False, "properties": properties} if self._v5 else {}
        try:
            async with asyncio.timeout(timeout) as limit:
                started = time.monotonic()
                await asyncio.to_thread(
                    self._client.connect, self._host, self._port, self._settings.keepalive_seconds, **options
                )
                self._client.loop_start()
                if self._v5 and self._settings.mqtt_version == "auto":
                    timeout = min(timeout, _TRIAL_SECONDS + 4 * (time.monotonic() - started))
                    limit.reschedule(asyncio.get_running_loop().time() + timeout)
                return await self._connected
        except TimeoutError:
            raise MqttError(f"no answer within {timeout:g} s", unsupported=True) from None
        except OSError as error:
            raise MqttError(error.strerror or str(error) or type(error).__name__) from None

    async def _pump(self, publish: Publish) -> None:
        silent = self._settings.silent_seconds or None
        news = time.monotonic()
        while True:
            while self._came:
                message = self._came.popleft()
                received = utc_now()
                identity = f"{self._login.client_id}/{message.mid}"
                packet = Packet(message.topic, bytes(message.payload), message.retain, message.dup, identity)
                delivered = asyncio.gather(*await publish(packet))
                self._unacknowledged.append((message, delivered, received))
                delivered.add_done_callback(self._acknowledge)
                if not message.retain:
                    news = time.monotonic()
            self._wake.clear()
            if self._came:
                continue
            wake: asyncio.Future[Any] = asyncio.ensure_future(self._wake.wait())
            waiting: set[asyncio.Future[Any]] = {wake, self._ended}
            left = None if silent is None else max(0.0, news + silent - time.monotonic())
            try:
                done, _ = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                wake.cancel()
            if self._ended.done():
                raise MqttError(self._ended.result())
            if not done and not self._came:
                raise MqttSilent(f"no message for {silent:g} s")

    def _acknowledge(self, _: object) -> None:
        """Acknowledge as far as everything before is delivered as well."""
        while self._unacknowledged and self._unacknowledged[0][1].done():
            message, delivered, _ = self._unacknowledged.popleft()
            self._room.release()
            if not delivered.cancelled() and delivered.exception() is None:
                self._client.ack(message.mid, message.qos)

    async def _close(self) -> None:
        """Acknowledge what Kafka takes within `drain_seconds`, then leave; the broker keeps the session."""
        self._closing = True
        if not self._ended.done():
            pending = [delivered for _, delivered, _ in self._unacknowledged]
            if pending:
                await asyncio.wait(pending, timeout=self._settings.drain_seconds)
            self._acknowledge(None)
        for _ in range(self._settings.max_in_flight):  # paho's thread may be waiting for room
            self._room.release()
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)
        self._connected.cancel()
        self._ended.cancel()

    # In paho's thread.

    def _new_client(self, version: MQTTProtocolVersion) -> paho.Client:
        settings = self._settings
        options: dict[str, Any] = {} if self._v5 else {"clean_session": settings.session_expiry_hours == 0}
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._login.client_id,
            protocol=version,
            transport=settings.mqtt_transport,
            manual_ack=True,
            reconnect_on_failure=False,
            **options,
        )
        client.enable_logger(_silent)
        client.connect_timeout = settings.connect_timeout_seconds
        if settings.mqtt_transport == "websockets":
            client.ws_set_options(path=settings.websocket_path)
        if self._login.username:
            client.username_pw_set(self._login.username, self._login.password or None)
        if settings.mqtt_tls:
            ca_file = str(settings.mqtt_ca_file) if settings.mqtt_ca_file else None
            client.tls_set_context(ssl.create_default_context(cafile=ca_file))
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_connect(self, client: paho.Client, _: Any, flags: Any, reason: ReasonCode, __: Properties | None) -> None:
        if reason.is_failure:
            unsupported = reason.getName() == "Unsupported protocol version"
            self._tell(self._connected, MqttError(f"refused: {reason.getName()}", unsupported))
            return
        result, _mid = client.subscribe([(t, self._subscription()) for t in self._login.topics])
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._tell(self._connected, MqttError("cannot subscribe"))
        self._session_present = bool(flags.session_present)

    def _subscription(self) -> Any:
        return SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB) if self._v5 else 1

    def _on_subscribe(self, _: Any, __: Any, ___: int, reasons: list[ReasonCode], ____: Properties | None) -> None:
        refused = [t for t, reason in zip(self._login.topics, reasons, strict=False) if reason.is_failure]
        problem = MqttError(f"the broker refuses to subscribe us to {', '.join(refused)}") if refused else None
        self._tell(self._connected, problem or self._session_present)

    def _on_disconnect(self, _: Any, __: Any, ___: Any, reason: ReasonCode, ____: Properties | None) -> None:
        text = f"connection lost: {reason.getName()}"
        # A broker that does not know our version may just hang up.
        self._tell(self._connected, MqttError(text, unsupported=True))
        self._tell(self._ended, text)

    def _on_message(self, _: Any, __: Any, message: paho.MQTTMessage) -> None:
        self._room.acquire()  # full: paho stops reading, TCP holds the broker back
        if self._closing:
            return
        self._came.append(message)
        self._loop.call_soon_threadsafe(self._wake.set)

    def _tell(self, future: asyncio.Future[Any], result: object) -> None:
        def settle() -> None:
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
                future.exception()  # whoever waits gets it; nobody may be waiting
            else:
                future.set_result(result)

        self._loop.call_soon_threadsafe(settle)


def _connect_properties(settings: WayscloudSettings) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = int(settings.session_expiry_hours * 3600)
    properties.ReceiveMaximum = settings.max_in_flight
    return properties
