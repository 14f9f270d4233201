"""One MQTT connection, made again whenever it ends: protocol version, silence, outages."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from paho.mqtt.enums import MQTTProtocolVersion

from connectors.common.connection_state import ConnectionState, Gap
from connectors.common.context import utc_now
from connectors.common.http_client import VendorError
from connectors.common.state_file import StateFile
from connectors.wayscloud.mqtt import Login, MqttError, MqttSession, MqttSilent
from connectors.wayscloud.objects import VENDOR
from connectors.wayscloud.protocol import Packet
from connectors.wayscloud.settings import WayscloudSettings
from runtime.backoff import Backoff
from schemas.timestamps import format_iso, parse_iso

V5, V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311

CHANNEL = "mqtt"

_STABLE_SECONDS = 10.0
_OLD_VERSION_FOR = timedelta(days=1)
"""So long a broker that did not speak MQTT 5 is not asked again."""


@dataclass(frozen=True)
class Outage:
    """A time without a connection. Where the broker kept our session, what was sent at QoS 1 comes late, not never."""

    gap: Gap
    session_kept: bool
    device: str = ""
    """Native id where the connection is one device's; else all devices are concerned."""


class Memory:
    """What a process must know of its connections after a restart: when each was last alive, and which brokers speak
    MQTT 3.1.1 only.
    """

    def __init__(self, file: StateFile) -> None:
        self._file = file
        content = file.read()
        self.alive: dict[str, datetime] = _times(content.get("alive"))
        self.old_brokers: dict[str, datetime] = _times(content.get("old_brokers"))

    def write(self) -> None:
        """Keep it."""
        parts = {"alive": self.alive, "old_brokers": self.old_brokers}
        self._file.write({name: {k: format_iso(at) for k, at in part.items()} for name, part in parts.items()})


class Listener:
    """Keeps one MQTT connection going until cancelled."""

    def __init__(
        self,
        settings: WayscloudSettings,
        login: Login,
        memory: Memory,
        where: Callable[[], Awaitable[tuple[str, int]]],
        publish: Callable[[Packet], Awaitable[list[asyncio.Future[None]]]],
        on_outage: Callable[[Outage], Awaitable[None]],
        device: str = "",
    ) -> None:
        self._settings = settings
        self._login = login
        self._memory = memory
        self._where = where
        self._hand_on = publish
        self._on_outage = on_outage
        self._device = device
        self._link = ConnectionState(VENDOR, CHANNEL, settings.mqtt_host or "the broker")
        self._backoff = Backoff(settings.reconnect_seconds, settings.reconnect_cap_seconds)
        self._known: MQTTProtocolVersion | None = {"5": V5, "3.1.1": V311}.get(settings.mqtt_version)
        self._version = self._known or V5
        self._session: MqttSession | None = None
        self._last_alive = memory.alive.get(login.client_id)
        self._news_at: datetime | None = None
        self._silent = False
        """Nothing came since the connection was last made anew for silence: that has been told."""

    async def run(self) -> None:
        """One session after the other, with jittered back-off."""
        try:
            while True:
                started = time.monotonic()
                try:
                    host, port = await self._where()
                    await self._connect(f"{host}:{port}", host, port)
                except MqttSilent as error:
                    self._note_silence(str(error))
                except (MqttError, VendorError, ValueError) as error:
                    if self._try_other_version(error):
                        continue
                    self._link.lost(utc_now(), str(error))
                if time.monotonic() - started > _STABLE_SECONDS:
                    self._backoff.reset()
                await asyncio.sleep(self._backoff.next(random.random()))
        finally:
            self._link.closed()

    def note_alive(self) -> None:
        """Remember that everything up to now is in Kafka or with the broker."""
        if self._session is not None and self._link.up:
            self._memory.alive[self._login.client_id] = self._session.safe_until()

    async def _connect(self, name: str, host: str, port: int) -> None:
        self._link.name = f"{name} as {self._login.client_id}" if self._device else name
        refused_at = self._memory.old_brokers.get(name)
        if self._known is None and refused_at is not None and utc_now() - refused_at < _OLD_VERSION_FOR:
            self._version = V311

        async def on_connected(session_present: bool) -> None:
            if self._known is None and self._version == V311:
                self._memory.old_brokers.setdefault(name, utc_now())
            self._known = self._version
            await self._tell(self._link.connected(utc_now()), session_present)

        self._session = MqttSession(self._settings, self._login, host, port, self._version)
        try:
            await self._session.run(self._publish, on_connected)
        finally:
            self._session = None

    def _try_other_version(self, error: Exception) -> bool:
        """Whether to try again at once, with MQTT 3.1.1; if that does not help, MQTT 5 is next, after the wait."""
        if not isinstance(error, MqttError) or not error.unsupported or self._known is not None:
            return False
        self._version = V311 if self._version == V5 else V5
        return self._version == V311

    async def _publish(self, packet: Packet) -> list[asyncio.Future[None]]:
        if not packet.retain:
            self._silent = False
            self._news_at = utc_now()
        return await self._hand_on(packet)

    def _note_silence(self, reason: str) -> None:
        """The first time only: a fleet that sleeps all night is one line and one gap."""
        if not self._silent:
            self._link.lost(self._news_at or utc_now(), reason)
        self._silent = True

    async def _tell(self, gap: Gap | None, session_present: bool) -> None:
        """Report the outage that ends now: of this process's connection, or of an earlier process's."""
        before, self._last_alive = self._last_alive, None
        if gap is None and before is not None and (not session_present or self._settings.backfill == "every_outage"):
            gap = Gap(VENDOR, CHANNEL, before, utc_now(), "not running")
        if gap is not None:
            what = "the broker kept our session" if session_present else "the broker has forgotten our session"
            gap = replace(gap, reason=f"{gap.reason}; {what}")
            await self._on_outage(Outage(gap, session_present, self._device))


def _times(content: object) -> dict[str, datetime]:
    found: dict[str, datetime] = {}
    for name, text in content.items() if isinstance(content, dict) else ():
        try:
            found[str(name)] = parse_iso(str(text))
        except ValueError:
            continue
    return found
