"""The embedded MQTT broker (``amqtt``, MQTT 3.1.1), for demos and tests. In production: Mosquitto or the like.

Stock amqtt 0.12 forgets a message that a subscriber has not acknowledged within five seconds, or before its
connection breaks; it keeps nothing for absent clients without a user name, and marks what it kept as «retained». The
classes here make QoS 1 what MQTT 3.1.1 says it is (sections 3.1.2.4, 3.3.1.3 and 4.4): a message stays in the session
until it is acknowledged, and is sent once more, with DUP set, when the client reconnects.
"""

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amqtt.broker import Broker
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import OUTGOING, Session

from runtime.ports import free_port

_HERE = "simulators.wayscloud.broker"


class SharedPasswordPlugin(BaseAuthPlugin):  # type: ignore[misc]  # amqtt is untyped to mypy
    """One user name and password for everybody, or none at all. Sessions are kept either way.

    (amqtt's own plugins: one keeps no sessions, the other needs a file of hashes.)
    """

    async def authenticate(self, *, session: Session) -> bool:
        """Whether user name and password are the configured ones; without a configured user name, always."""
        username = self._get_config_option("username", None)
        if username is None:
            return True
        given = f"{session.username}\n{session.password}"
        wanted = f"{username}\n{self._get_config_option('password', '')}"
        return hmac.compare_digest(given.encode(), wanted.encode())

    @dataclass
    class Config:
        """Configuration that amqtt hands to the plugin."""

        username: str | None = None
        password: str = ""


class Manners:
    """How the broker misbehaves; may be changed while it runs."""

    def __init__(self, redeliver_every: int = 0) -> None:
        """One of ``redeliver_every`` messages is sent twice, the second time with DUP set; 0: none."""
        self.redeliver_every = redeliver_every
        self.sent = 0
        self._handlers: set[Any] = set()
        self._muted: set[Any] = set()

    def silence(self) -> None:
        """The connections there are stay open, answer pings, and bring nothing any more. New ones are well."""
        self._muted |= self._handlers

    def met(self, handler: Any) -> None:
        """A client has connected."""
        self._handlers.add(handler)

    def is_muted(self, handler: Any) -> bool:
        """Whether this connection brings nothing."""
        return handler in self._muted

    def repeats_now(self) -> bool:
        """Whether the message just sent is one to be sent twice."""
        self.sent += 1
        return self.redeliver_every > 0 and self.sent % self.redeliver_every == 0


class _KeepingHandler(BrokerProtocolHandler):  # type: ignore[misc]  # amqtt is untyped to mypy
    """A connection that forgets a message only when it is acknowledged."""

    manners: Manners

    async def _handle_qos1_message_flow(self, app_message: Any) -> None:
        if app_message.direction != OUTGOING:
            await super()._handle_qos1_message_flow(app_message)
            return
        session, packet_id = self.session, app_message.packet_id
        session.inflight_out[packet_id] = app_message
        packet = app_message.build_publish_packet(dup=app_message.publish_packet is not None)
        app_message.publish_packet = packet
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._puback_waiters[packet_id] = waiter
        try:
            if not self.manners.is_muted(self):
                await self._send_packet(packet)
                if self.manners.repeats_now():
                    await self._send_packet(app_message.build_publish_packet(dup=True))
            app_message.puback_packet = await waiter  # cancelled when the connection ends
        finally:
            self._puback_waiters.pop(packet_id, None)
        session.inflight_out.pop(packet_id, None)

    async def _retry_deliveries(self) -> None:
        """Resend what was not acknowledged. Does not wait, since a SUBSCRIBE would have to wait, too."""
        for message in list(self.session.inflight_out.values()):
            _in_background(self._handle_message_flow(message))


class _KeepingBroker(Broker):  # type: ignore[misc]  # amqtt is untyped to mypy
    """A broker whose connections keep what was not acknowledged; it says when somebody has subscribed."""

    subscribed: asyncio.Event | None = None
    manners: Manners

    async def add_subscription(self, subscription: Any, session: Any) -> Any:
        granted = await super().add_subscription(subscription, session)
        if self.subscribed is not None:
            self.subscribed.set()
        return granted

    async def _handle_client_session(
        self, reader: Any, writer: Any, client_session: Any, handler: Any, *rest: Any
    ) -> None:
        handler.__class__ = _KeepingHandler  # amqtt names its class where it makes one; this is the least intrusion
        handler.manners = self.manners
        self.manners.met(handler)
        await super()._handle_client_session(reader, writer, client_session, handler, *rest)

    async def _publish_session_retained_messages(self, session: Any) -> None:
        """Messages of a client's absence: ordinary messages, not «retained» ones [MQTT-3.3.1-9]."""
        handler = self._get_handler(session)
        while handler is not None and not session.retained_messages.empty():
            kept = session.retained_messages.get_nowait()
            _in_background(handler.mqtt_publish(kept.topic, kept.data, kept.qos, retain=False))


_background: set[asyncio.Task[None]] = set()


def _in_background(delivery: Any) -> None:
    """Runs a delivery; it is cancelled with its connection, and its message stays in the session then."""

    async def run() -> None:
        try:
            await delivery
        except (asyncio.CancelledError, OSError):
            logging.getLogger(__name__).debug("a delivery waits until the client reconnects")

    task = asyncio.create_task(run())
    _background.add(task)  # the loop itself holds tasks weakly
    task.add_done_callback(_background.discard)


@dataclass(frozen=True)
class BrokerOptions:
    """Address and credentials of the broker. Without ``username`` anybody may connect: keep it on loopback."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 picks a free port."""
    username: str | None = None
    password: str | None = None
    websockets: bool = False
    """Serve MQTT over WebSocket instead of TCP."""
    certificate_file: Path | None = None
    """Certificate and key in PEM: serve over TLS."""
    authority_file: Path | None = None
    """Whose client certificates are taken; a client need not show one."""

    def listener(self, port: int) -> dict[str, Any]:
        """The listener in amqtt's form."""
        listener = {"type": "ws" if self.websockets else "tcp", "bind": f"{self.host}:{port}"}
        if self.certificate_file is None:
            return listener
        file = str(self.certificate_file)
        return {**listener, "ssl": True, "certfile": file, "keyfile": file, "cafile": str(self.authority_file or file)}


_DEFAULT_OPTIONS = BrokerOptions()


@asynccontextmanager
async def run_mqtt_broker(
    options: BrokerOptions = _DEFAULT_OPTIONS,
    subscribed: asyncio.Event | None = None,
    manners: Manners | None = None,
) -> AsyncIterator[int]:
    """Serve MQTT until the block ends; yields the port. ``subscribed`` is set at the first subscription.

    Delivers with QoS 1, at least once. Persistent sessions are in memory: they survive the absence of a client, but
    not a restart of the broker.
    """
    logging.getLogger("amqtt").setLevel(logging.WARNING)
    logging.getLogger("transitions").setLevel(logging.WARNING)
    port = options.port or free_port(options.host)
    broker = _KeepingBroker(
        {
            "listeners": {"default": options.listener(port)},
            "plugins": {
                f"{_HERE}.SharedPasswordPlugin": {"username": options.username, "password": options.password or ""}
            },
        }
    )
    broker.subscribed = subscribed
    broker.manners = manners or Manners()
    await broker.start()
    try:
        yield port
    finally:
        await broker.shutdown()
