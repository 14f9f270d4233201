"""WAYSCloud: telemetry by MQTT, everything else by REST."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import aiohttp

from connectors.common.byte_budget import ByteBudget
from connectors.common.clock import utc_now
from connectors.common.context import Context
from connectors.common.dead_letters import MessageSource
from connectors.common.entrance import admit
from connectors.common.http_client import VendorError
from connectors.common.state_file import StateFile
from connectors.wayscloud import objects
from connectors.wayscloud.account import poll_account, read_periodically
from connectors.wayscloud.alarms import AlarmReader, RuleReader
from connectors.wayscloud.api import WayscloudApi
from connectors.wayscloud.backfill import Backfill
from connectors.wayscloud.datapoints import DatapointDefinitions
from connectors.wayscloud.device_registry import DeviceRegistry
from connectors.wayscloud.known_devices import KnownDevices
from connectors.wayscloud.logins import logins
from connectors.wayscloud.mqtt_connection import CHANNEL, ConnectionMemory, MqttConnection, Outage
from connectors.wayscloud.objects import VENDOR, BrokerAddress
from connectors.wayscloud.protocol import PUBLISH, Inbox, Packet
from connectors.wayscloud.settings import WayscloudSettings
from runtime.errors import StageError
from runtime.locks import exclusive, lowest_free_number
from schemas.device import device_id, quote_id, split_device_id

_log = logging.getLogger(__name__)

_FIRST_READING_SECONDS = 10.0


class WayscloudConnector:
    """Keeps the MQTT connections and the REST jobs running until cancelled.

    Delivery: at least once from the broker (QoS 1, persistent session, acknowledged after Kafka). An outage leaves a
    gap record of each device concerned; where the broker lost our session, telemetry is back-filled by REST.
    """

    def __init__(self, settings: WayscloudSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._definitions = DatapointDefinitions(self._state_file("datapoints"))
        self._inbox = Inbox(settings.topics, self._definitions.by_name)
        self._devices = KnownDevices(self._state_file("devices"))
        self._backfill: Backfill | None = None
        self._api: WayscloudApi | None = None

    async def run(self) -> None:
        """Run until cancelled; StageError where neither a broker nor an API key is configured."""
        settings = self._settings
        if not settings.mqtt_host and settings.api_key is None:
            raise StageError("set mqtt_host, or api_key to ask for it, in [wayscloud]")
        timeout = aiohttp.ClientTimeout(total=settings.request_timeout_seconds)
        async with contextlib.AsyncExitStack() as stack:
            client_id = self._client_id(stack)
            http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            if settings.api_key is not None:
                api = WayscloudApi(settings, http, self._context.state_dir, self._context.publisher)
                await self._start_rest(api, client_id, tasks)
            memory = ConnectionMemory(self._state_file(f"mqtt-{quote_id(client_id)}"))
            connections = [MqttConnection(settings, login, memory, self) for login in logins(settings, client_id)]
            for connection in connections:
                tasks.create_task(connection.run())
            await self._write_state(memory, connections)

    def _client_id(self, stack: contextlib.AsyncExitStack) -> str:
        """The client id, with a number where processes of a share group need one each."""
        client_id = self._settings.client_id
        if not self._settings.share_group:
            return client_id
        number = stack.enter_context(lowest_free_number(self._context.state_dir, f"wayscloud-client-{client_id}"))
        return f"{client_id}-{number}"

    def _state_file(self, name: str) -> StateFile:
        return StateFile(self._context.state_dir / f"wayscloud-{name}.json")

    # REST.

    async def _start_rest(self, api: WayscloudApi, client_id: str, tasks: asyncio.TaskGroup) -> None:
        self._api = api
        self._backfill = Backfill(self._settings, self._context, self._state_file(f"backfill-{quote_id(client_id)}"))
        tasks.create_task(self._backfill.run(api))
        tasks.create_task(self._poll_account(api))
        await self._read_first_definitions(api)
        definitions, seconds = self._definitions, self._settings.registry_seconds
        tasks.create_task(read_periodically("datapoint definitions", seconds, lambda: definitions.read(api)))

    async def _read_first_definitions(self, api: WayscloudApi) -> None:
        """Read them before the first packet if REST answers soon. Without them, units are taken for the catalogue's."""
        try:
            async with asyncio.timeout(_FIRST_READING_SECONDS):
                await self._definitions.read(api)
        except (VendorError, ValueError, TimeoutError) as error:
            _log.warning("wayscloud: no datapoint definitions yet (%s)", error or "no answer")

    async def _poll_account(self, api: WayscloudApi) -> None:
        """Poll in one of the processes that share the state folder; another takes over when it ends."""
        settings, context = self._settings, self._context
        async with exclusive(context.state_dir, "wayscloud-rest"):
            registry = DeviceRegistry(settings, context, api, lambda listed: self._devices.add(*listed))
            alarms = AlarmReader(context, api, settings.alarm_history_seconds)
            await poll_account(settings, registry, alarms, RuleReader(context, api, self._definitions))

    # As `mqtt_connection.PacketReceiver`.

    @property
    def intake(self) -> ByteBudget:
        """The bytes that the process's connectors share."""
        return self._context.intake

    async def find_broker(self) -> BrokerAddress:
        """Return the configured broker, or the one that the account names."""
        settings = self._settings
        if settings.mqtt_host or self._api is None:
            return BrokerAddress(settings.mqtt_host, settings.port)
        websockets = settings.mqtt_transport == "websockets"
        host, port = objects.broker_of(await self._api.get("credentials"), settings.mqtt_tls, websockets)
        return BrokerAddress(host, settings.mqtt_port or port)

    async def receive(self, packet: Packet) -> list[asyncio.Future[None]]:
        """Publish a packet; the futures are done when Kafka has it."""
        now = utc_now()
        message = admit(packet.payload, MessageSource(VENDOR, PUBLISH, now), lambda: self._inbox.packet(packet, now))
        self._devices.add(*(split_device_id(envelope.device_id)[1] for envelope in message.envelopes))
        return await self._context.deliver(VENDOR, message)

    async def connected(self, device: str) -> None:
        """Say that the devices are listened to, and wait until Kafka knows it."""
        await self._context.coverage.listening(CHANNEL, device_id(VENDOR, device) if device else "")

    def lost(self, device: str) -> None:
        """Say that the devices are not listened to."""
        self._context.coverage.interrupted(CHANNEL, device_id(VENDOR, device) if device else "")

    async def outage_ended(self, outage: Outage) -> None:
        """Publish a gap record of each device concerned, and back-fill what may be missing."""
        devices = {outage.device} if outage.device else self._devices.all()
        for native in sorted(devices):
            await self._context.publisher.publish_soon(outage.gap.envelope(device_id(VENDOR, native)))
        policy = self._settings.backfill
        if policy == "every_outage" or (policy == "lost_session" and not outage.session_kept):
            if self._backfill is not None:
                self._backfill.add(outage.gap.start, outage.gap.end, devices)
            elif not outage.session_kept:
                _log.warning(
                    "wayscloud: the broker has forgotten our session, and without api_key nothing can be back-filled"
                )

    # State.

    async def _write_state(self, memory: ConnectionMemory, connections: list[MqttConnection]) -> None:
        """Write the state files every few seconds and at the end, so that a clean stop leaves nothing to back-fill."""
        try:
            while True:
                await asyncio.sleep(self._settings.alive_seconds)
                self._write_state_once(memory, connections)
        finally:
            self._write_state_once(memory, connections)

    def _write_state_once(self, memory: ConnectionMemory, connections: list[MqttConnection]) -> None:
        for connection in connections:
            connection.note_alive()
        memory.write()
        self._devices.write()
