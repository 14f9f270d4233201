"""paho's MQTT client for asyncio: its network thread fills a queue that the event loop empties."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import threading
import time
from collections import deque
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from connectors.common.byte_budget import ByteBudget
from connectors.wayscloud.logins import Login
from connectors.wayscloud.objects import BrokerAddress
from connectors.wayscloud.settings import WayscloudSettings
from runtime.tls import client_context, reason_problem, tls_problem

V5, V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311

_silent = logging.getLogger("connectors.wayscloud.library")
_silent.disabled = True

_TLS_REASON = re.compile(r"\[SSL: (\w+)\]")
_TRIAL_SECONDS = 1.0
"""A broker that speaks only MQTT 3.1.1 may leave a CONNECT of MQTT 5 unanswered: how long to wait for an answer."""
_MARGIN = 1000
"""Messages taken beyond `max_in_flight`, for brokers that do not keep to it (MQTT 3.1.1 has no such limit)."""


_MESSAGE_BYTES = 1000
"""Rough size of a message beside its payload."""


class Receipt(NamedTuple):
    """What a PUBACK needs of a message, whose payload need not be kept for it."""

    mid: int
    qos: int


class MqttError(RuntimeError):
    """The session ended or could not begin; `unsupported` where another protocol version may help."""

    def __init__(self, text: str, unsupported: bool = False) -> None:
        super().__init__(text)
        self.unsupported = unsupported


class MqttClient:
    """One connection to a broker, for one use: `connect`, then `subscribed`.

    Messages come from CONNACK on: a broker that kept our session sends what it holds before it answers SUBSCRIBE. So
    whoever waits for `subscribed` then has to take messages meanwhile. They wait in `messages`, and `wake` is set when
    one arrives. When too many are not acknowledged, or too many bytes of them wait, paho's thread stops reading, and
    TCP holds the broker back. `ended` has the reason when the connection is lost, or the subscription refused.
    """

    def __init__(
        self, settings: WayscloudSettings, login: Login, version: MQTTProtocolVersion, intake: ByteBudget
    ) -> None:
        self._settings = settings
        self._login = login
        self._v5 = version == V5
        self._loop = asyncio.get_running_loop()
        self.messages: deque[paho.MQTTMessage] = deque()
        self.wake = asyncio.Event()
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self.subscribed: asyncio.Future[None] = self._loop.create_future()
        """Done when the broker has granted the subscriptions; MqttError where it refuses."""
        self._accepted: asyncio.Future[bool] = self._loop.create_future()
        self._intake = intake
        self._room = threading.Semaphore(settings.max_in_flight + _MARGIN)
        self._closing = False
        self._tls_failure: str | None = None
        self._paho = self._new_client(version)

    # In asyncio's thread.

    async def connect(self, address: BrokerAddress) -> bool:
        """Connect, and ask to subscribe; whether the broker still had our session. MqttError where it refuses us."""
        timeout = self._settings.connect_timeout_seconds
        properties = _connect_properties(self._settings) if self._v5 else None
        options: dict[str, Any] = {"clean_start": False, "properties": properties} if self._v5 else {}
        try:
            async with asyncio.timeout(timeout) as limit:
                started = time.monotonic()
                keepalive = self._settings.keepalive_seconds
                await asyncio.to_thread(self._paho.connect, address.host, address.port, keepalive, **options)
                self._paho.loop_start()
                if self._v5 and self._settings.mqtt_version == "auto":
                    timeout = min(timeout, _TRIAL_SECONDS + 4 * (time.monotonic() - started))
                    limit.reschedule(asyncio.get_running_loop().time() + timeout)
                return await self._accepted
        except TimeoutError:
            raise MqttError(f"no answer within {timeout:g} s", unsupported=True) from None
        except ssl.SSLError as error:
            raise MqttError(tls_problem(error)) from None
        except OSError as error:
            raise MqttError(error.strerror or str(error) or type(error).__name__) from None

    def handed_on(self, message: paho.MQTTMessage) -> None:
        """Make room for the bytes of another message: whoever has this one now counts it."""
        self._intake.release(_bytes_of(message))

    def done_with(self, receipt: Receipt, *, acknowledge: bool) -> None:
        """Make room for another message; with `acknowledge`, send the PUBACK of this one."""
        self._room.release()
        if acknowledge:
            self._paho.ack(receipt.mid, receipt.qos)

    def take_no_more(self) -> None:
        """Drop what arrives from now on; the broker sends it again in the next session."""
        self._closing = True
        self._intake.wake()

    async def close(self) -> None:
        """Disconnect; the broker keeps the session."""
        self._room.release()  # paho's thread may be waiting for room
        self._paho.disconnect()
        self._intake.wake()
        await asyncio.to_thread(self._paho.loop_stop)
        while self.messages:
            self.handed_on(self.messages.popleft())
        self._accepted.cancel()
        self.subscribed.cancel()
        self.ended.cancel()

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
            files = settings.mqtt_ca_file, settings.mqtt_certificate_file, settings.mqtt_key_file
            client.tls_set_context(client_context(*files, section="wayscloud", prefix="mqtt_"))
        client.on_log = self._on_log
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_connect(self, client: paho.Client, _: Any, flags: Any, reason: ReasonCode, __: Properties | None) -> None:
        if reason.is_failure:
            unsupported = reason.getName() == "Unsupported protocol version"
            self._settle(self._accepted, MqttError(because("refused", reason), unsupported))
            return
        self._settle(self._accepted, bool(flags.session_present))
        result, _mid = client.subscribe([(t, self._subscription()) for t in self._login.topics])
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._fail_to_subscribe("cannot subscribe")

    def _subscription(self) -> Any:
        return SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB) if self._v5 else 1

    def _on_subscribe(self, _: Any, __: Any, ___: int, reasons: list[ReasonCode], ____: Properties | None) -> None:
        refused = [t for t, reason in zip(self._login.topics, reasons, strict=False) if reason.is_failure]
        if refused:
            self._fail_to_subscribe(f"the broker refuses to subscribe us to {', '.join(refused)}")
        self._settle(self.subscribed, None)

    def _fail_to_subscribe(self, text: str) -> None:
        self._settle(self.subscribed, MqttError(text))
        self._settle(self.ended, text)  # with a kept session nobody waits for the answer

    def _on_log(self, _: Any, __: Any, level: int, text: str) -> None:
        # The only place where paho says why TLS failed after the handshake, as it does for a client's certificate.
        if level == LogLevel.MQTT_LOG_ERR and (found := _TLS_REASON.search(text)):
            self._tls_failure = reason_problem(found[1])

    def _on_disconnect(self, _: Any, __: Any, ___: Any, reason: ReasonCode, ____: Properties | None) -> None:
        failure = self._tls_failure
        text = because("connection lost", reason) if failure is None else f"connection lost: {failure}"
        if self._settings.mqtt_tls and failure is None and not self._accepted.done():
            text += "; the server may want another client certificate"  # some say so only by hanging up
        # A broker that does not know our version may just hang up.
        self._settle(self._accepted, MqttError(text, unsupported=failure is None))
        self._settle(self.subscribed, MqttError(text))
        self._settle(self.ended, text)

    def _on_message(self, _: Any, __: Any, message: paho.MQTTMessage) -> None:
        if not self._closing:
            self._room.acquire()  # full: paho stops reading, TCP holds the broker back
        if self._closing or not self._intake.take(_bytes_of(message), lambda: self._closing):
            return
        self.messages.append(message)
        self._loop.call_soon_threadsafe(self.wake.set)

    def _settle(self, future: asyncio.Future[Any], result: object) -> None:
        def settle() -> None:
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
                future.exception()  # whoever waits gets it; nobody may be waiting
            else:
                future.set_result(result)

        self._loop.call_soon_threadsafe(settle)


def because(what: str, reason: ReasonCode) -> str:
    """What happened and why. «Unspecified error» is also what paho says of a connection that just ended."""
    name = reason.getName()
    return f"{what}, no reason given" if name == "Unspecified error" else f"{what}: {name}"


def _bytes_of(message: paho.MQTTMessage) -> int:
    return len(message.payload) + _MESSAGE_BYTES


def _connect_properties(settings: WayscloudSettings) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = int(settings.session_expiry_hours * 3600)
    properties.ReceiveMaximum = settings.max_in_flight
    properties.MaximumPacketSize = settings.max_packet_bytes
    return properties
