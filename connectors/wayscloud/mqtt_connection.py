"""One MQTT connection that is made again whenever it ends: protocol version, silence, outages."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from paho.mqtt.enums import MQTTProtocolVersion

from connectors.common.byte_budget import ByteBudget
from connectors.common.clock import utc_now
from connectors.common.connection_state import ConnectionState, Gap
from connectors.common.http_client import VendorError
from connectors.common.state_file import StateFile
from connectors.wayscloud.logins import Login
from connectors.wayscloud.mqtt_client import V5, V311, MqttError
from connectors.wayscloud.mqtt_session import MqttSession, MqttSilentError
from connectors.wayscloud.objects import VENDOR, BrokerAddress
from connectors.wayscloud.protocol import Packet
from connectors.wayscloud.settings import WayscloudSettings
from runtime.backoff import Backoff
from schemas.timestamps import format_iso, parse_iso

CHANNEL = "mqtt"

_STABLE_SECONDS = 10.0
_OLD_VERSION_FOR = timedelta(days=1)
"""How long a broker that refused MQTT 5 is not offered it again."""


@dataclass(frozen=True)
class Outage:
    """A time without a connection. Where the broker kept our session, what was sent at QoS 1 arrives late."""

    gap: Gap
    session_kept: bool
    device: str = ""
    """Native id where the connection is one device's; else all devices are concerned."""


class PacketReceiver(Protocol):
    """What a connection needs of its owner."""

    @property
    def intake(self) -> ByteBudget:
        """The bytes of packets that all connections may have received and not handed on."""

    async def find_broker(self) -> BrokerAddress:
        """Return the broker's address. VendorError or ValueError where it must be asked for and is not answered."""

    async def receive(self, packet: Packet) -> list[asyncio.Future[None]]:
        """Hand a packet on; the futures are done when Kafka has what the packet contained."""

    async def connected(self, device: str) -> None:
        """Note that a connection is up, of a device (native id) or of all; packets come when this returns."""

    def lost(self, device: str) -> None:
        """Note that a connection was lost."""

    async def outage_ended(self, outage: Outage) -> None:
        """Report an outage when the connection is back."""


class ConnectionMemory:
    """What a process must know of its connections after a restart.

    It holds when each connection was last alive, and which brokers speak only MQTT 3.1.1.
    """

    def __init__(self, file: StateFile) -> None:
        self._file = file
        content = file.read()
        self.alive: dict[str, datetime] = _times(content.get("alive"))
        """By client id: everything that was sent before is in Kafka or with the broker."""
        self.old_brokers: dict[str, datetime] = _times(content.get("old_brokers"))
        """By `host:port`: when the broker refused MQTT 5."""

    def write(self) -> None:
        """Write the file."""
        parts = {"alive": self.alive, "old_brokers": self.old_brokers}
        self._file.write({name: {k: format_iso(at) for k, at in part.items()} for name, part in parts.items()})


class MqttConnection:
    """Keeps one MQTT connection up until cancelled."""

    def __init__(
        self, settings: WayscloudSettings, login: Login, memory: ConnectionMemory, receiver: PacketReceiver
    ) -> None:
        self._settings = settings
        self._login = login
        self._memory = memory
        self._receiver = receiver
        self._state = ConnectionState(VENDOR, CHANNEL, settings.mqtt_host or "the broker")
        self._backoff = Backoff(settings.reconnect_seconds, settings.reconnect_cap_seconds)
        self._known_version: MQTTProtocolVersion | None = {"5": V5, "3.1.1": V311}.get(settings.mqtt_version)
        self._version = self._known_version or V5
        self._session: MqttSession | None = None
        self._last_alive = memory.alive.get(login.client_id)
        self._last_message_at: datetime | None = None
        self._is_silent = False
        """The connection was made again for silence, which was reported, and nothing arrived since."""

    async def run(self) -> None:
        """Run one session after another, with jittered back-off, until cancelled."""
        try:
            while True:
                started = time.monotonic()
                try:
                    await self._connect(await self._find_broker())
                except MqttSilentError as error:
                    self._receiver.lost(self._login.device)
                    self._report_silence(str(error))
                except (MqttError, VendorError) as error:
                    self._receiver.lost(self._login.device)
                    if self._try_other_version(error):
                        continue
                    self._state.lost(utc_now(), str(error))
                if time.monotonic() - started > _STABLE_SECONDS:
                    self._backoff.reset()
                await asyncio.sleep(self._backoff.next(random.random()))
        finally:
            self._state.closed()

    def note_alive(self) -> None:
        """Note in the memory up to which time everything is in Kafka or with the broker."""
        if self._session is not None and self._state.up:
            self._memory.alive[self._login.client_id] = self._session.safe_until()

    async def _find_broker(self) -> BrokerAddress:
        try:
            return await self._receiver.find_broker()
        except ValueError as error:
            raise VendorError(str(error)) from error

    async def _connect(self, address: BrokerAddress) -> None:
        name = f"{address.host}:{address.port}"
        self._state.name = f"{name} as {self._login.client_id}" if self._login.device else name
        refused_at = self._memory.old_brokers.get(name)
        if self._known_version is None and refused_at is not None and utc_now() - refused_at < _OLD_VERSION_FOR:
            self._version = V311

        async def on_connected(session_present: bool) -> None:
            if self._known_version is None and self._version == V311:
                self._memory.old_brokers.setdefault(name, utc_now())
            self._known_version = self._version
            gap = self._state.connected(utc_now())
            await self._receiver.connected(self._login.device)
            await self._report_outage(gap, session_present)

        self._session = MqttSession(self._settings, self._login, self._version, self._receiver.intake)
        try:
            await self._session.run(address, self._receive, on_connected)
        finally:
            self._session = None

    def _try_other_version(self, error: Exception) -> bool:
        """Whether to try again at once, with MQTT 3.1.1. Where that fails too, MQTT 5 is next, after the wait."""
        if not isinstance(error, MqttError) or not error.unsupported or self._known_version is not None:
            return False
        self._version = V311 if self._version == V5 else V5
        return self._version == V311

    async def _receive(self, packet: Packet) -> list[asyncio.Future[None]]:
        if not packet.retain:
            self._is_silent = False
            self._last_message_at = utc_now()
        return await self._receiver.receive(packet)

    def _report_silence(self, reason: str) -> None:
        """Report the first time only: a fleet that sleeps all night is one line and one gap."""
        if not self._is_silent:
            self._state.lost(self._last_message_at or utc_now(), reason)
        self._is_silent = True

    async def _report_outage(self, gap: Gap | None, session_present: bool) -> None:
        """Report the outage that ends now: of this process's connection, or of an earlier process's."""
        before, self._last_alive = self._last_alive, None
        if gap is None and before is not None and (not session_present or self._settings.backfill == "every_outage"):
            gap = Gap(VENDOR, CHANNEL, before, utc_now(), "not running")
        if gap is not None:
            what = "the broker kept our session" if session_present else "the broker has forgotten our session"
            gap = replace(gap, reason=f"{gap.reason}; {what}")
            await self._receiver.outage_ended(Outage(gap, session_present, self._login.device))


def _times(content: object) -> dict[str, datetime]:
    times: dict[str, datetime] = {}
    for name, text in content.items() if isinstance(content, dict) else ():
        try:
            times[str(name)] = parse_iso(str(text))
        except ValueError:
            continue
    return times
