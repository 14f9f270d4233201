"""WAYSCloud: telemetry by MQTT, everything else by REST."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from connectors.common.context import Context, utc_now
from connectors.common.http_client import VendorError
from connectors.common.state_file import StateFile
from connectors.wayscloud import objects
from connectors.wayscloud.backfill import Backfill
from connectors.wayscloud.cloud import Cloud
from connectors.wayscloud.listener import V5, V311, Listener, Memory, Outage
from connectors.wayscloud.mqtt import Login, MqttSession
from connectors.wayscloud.objects import VENDOR
from connectors.wayscloud.poller import Definitions, Poller, repeat
from connectors.wayscloud.protocol import Inbox, Packet, subscriptions
from connectors.wayscloud.settings import WayscloudSettings
from runtime.checks import CheckResult
from runtime.errors import StageError
from runtime.locks import exclusive, lowest_free_number
from schemas.device import device_id, quote_id, split_device_id

_log = logging.getLogger(__name__)

_FIRST_READING_SECONDS = 10.0


class WayscloudConnector:
    """Keeps the MQTT connections and the REST readings going until cancelled.

    Delivery: at least once from the broker (QoS 1, persistent session, acknowledged after Kafka). An outage leaves a
    gap record of each device concerned; where the broker lost our session, telemetry is read back by REST.
    """

    def __init__(self, settings: WayscloudSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._definitions = Definitions(StateFile(context.state_dir / "wayscloud-datapoints.json"))
        self._inbox = Inbox(settings.topics, self._definitions.by_name)
        self._devices_file = StateFile(context.state_dir / "wayscloud-devices.json")
        self._devices: set[str] = set()
        """Native ids of all devices ever heard or listed."""
        self._devices_written = 0
        self._backfill: Backfill | None = None
        self._host = ""

    async def run(self) -> None:
        """Until cancelled; StageError where neither a broker nor an API key is configured."""
        settings = self._settings
        if not settings.mqtt_host and settings.api_key is None:
            raise StageError("set mqtt_host, or api_key to ask for it, in [wayscloud]")
        self._devices = set(map(str, self._devices_file.read().get("devices", [])))
        timeout = aiohttp.ClientTimeout(total=settings.request_timeout_seconds)
        async with contextlib.AsyncExitStack() as stack:
            client_id = settings.client_id
            if settings.share_group:
                purpose = f"wayscloud-client-{client_id}"
                number = stack.enter_context(lowest_free_number(self._context.state_dir, purpose))
                client_id = f"{client_id}-{number}"
            http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            cloud = Cloud(settings, http, self._context.state_dir) if settings.api_key else None
            if cloud is not None:
                file = StateFile(self._context.state_dir / f"wayscloud-backfill-{quote_id(client_id)}.json")
                self._backfill = Backfill(settings, self._context, file)
                tasks.create_task(self._backfill.run(cloud))
                tasks.create_task(self._poll(cloud))
                await self._first_definitions(cloud)
                definitions = self._definitions
                tasks.create_task(
                    repeat("datapoint definitions", settings.registry_seconds, lambda: definitions.read(cloud))
                )
            memory = Memory(StateFile(self._context.state_dir / f"wayscloud-mqtt-{quote_id(client_id)}.json"))
            listeners = [self._listener(login, device, memory, cloud) for login, device in logins(settings, client_id)]
            for listener in listeners:
                tasks.create_task(listener.run())
            await self._remember(memory, listeners)

    async def _first_definitions(self, cloud: Cloud) -> None:
        """Before the first packet, if REST answers soon; without them, units are taken for the catalogue's."""
        try:
            async with asyncio.timeout(_FIRST_READING_SECONDS):
                await self._definitions.read(cloud)
        except (VendorError, ValueError, TimeoutError) as error:
            _log.warning("wayscloud: no datapoint definitions yet (%s)", error or "no answer")

    async def _poll(self, cloud: Cloud) -> None:
        """REST is read by one of the processes that share the state folder; another takes over when that ends."""
        async with exclusive(self._context.state_dir, "wayscloud-rest"):
            await Poller(self._settings, self._context, cloud, self._definitions, self._meet).run()

    def _listener(self, login: Login, device: str, memory: Memory, cloud: Cloud | None) -> Listener:
        async def where() -> tuple[str, int]:
            settings = self._settings
            if settings.mqtt_host or cloud is None:
                return settings.mqtt_host, settings.port
            websockets = settings.mqtt_transport == "websockets"
            host, port = objects.broker_of(await cloud.get("credentials"), settings.mqtt_tls, websockets)
            return host, settings.mqtt_port or port

        return Listener(self._settings, login, memory, where, self._publish, self._on_outage, device)

    async def _publish(self, packet: Packet) -> list[asyncio.Future[None]]:
        decoded = self._inbox.packet(packet, utc_now())
        for envelope in decoded.envelopes:
            self._devices.add(split_device_id(envelope.device_id)[1])
        return await self._context.deliver(VENDOR, decoded)

    async def _on_outage(self, outage: Outage) -> None:
        """A gap record for each device concerned, and reading back what may be missing."""
        devices = {outage.device} if outage.device else self._known()
        for native in sorted(devices):
            await self._context.publisher.publish_soon(outage.gap.envelope(device_id(VENDOR, native)))
        policy = self._settings.backfill
        if policy == "every_outage" or (policy == "lost_session" and not outage.session_kept):
            if self._backfill is not None:
                self._backfill.add(outage.gap.start, outage.gap.end, devices)
            elif not outage.session_kept:
                _log.warning(
                    "wayscloud: the broker has forgotten our session, and without api_key nothing is read back"
                )

    # What a restart must find.

    def _known(self) -> set[str]:
        """The devices that this process or another one on the state folder has met."""
        return self._devices | set(map(str, self._devices_file.read().get("devices", [])))

    def _meet(self, devices: set[str]) -> None:
        self._devices |= devices

    async def _remember(self, memory: Memory, listeners: list[Listener]) -> None:
        """Every few seconds, and at the end: whoever stops us on purpose shall not have anything read twice."""
        try:
            while True:
                await asyncio.sleep(self._settings.alive_seconds)
                self._write_down(memory, listeners)
        finally:
            self._write_down(memory, listeners)

    def _write_down(self, memory: Memory, listeners: list[Listener]) -> None:
        for listener in listeners:
            listener.note_alive()
        memory.write()
        if len(self._devices) != self._devices_written:
            known = self._known()
            self._devices_file.write({"devices": sorted(known)})
            self._devices, self._devices_written = known, len(known)


def logins(settings: WayscloudSettings, client_id: str) -> list[tuple[Login, str]]:
    """The connections to make, and the device of each that is a single one's."""
    found = []
    for each in settings.device_credentials:
        name = each.client_id or f"{client_id}-{each.device_id}"
        topics = subscriptions(settings.topics, settings.share_group, each.device_id)
        found.append((Login(name, each.username, each.password.get_secret_value(), topics), each.device_id))
    if settings.mqtt_username or not found:
        topics = subscriptions(settings.topics, settings.share_group)
        password = settings.mqtt_password.get_secret_value()
        found.append((Login(client_id, settings.mqtt_username, password, topics), ""))
    return found


async def check(settings: WayscloudSettings, _: Path) -> list[CheckResult]:
    """REST, if there is a key, and the broker, with client ids of its own so that no running session is taken."""
    results: list[CheckResult] = []
    timeout = aiohttp.ClientTimeout(total=settings.request_timeout_seconds)
    host, port = settings.mqtt_host, settings.port
    if settings.api_key is not None:
        with TemporaryDirectory() as folder:
            async with aiohttp.ClientSession(timeout=timeout) as http:
                cloud = Cloud(settings, http, Path(folder))
                cloud.rest.attempts = 1
                for endpoint in ("credentials", "devices", "datapoints", "alarms", "rules", "groups", "profiles"):
                    try:
                        body = await cloud.get(endpoint)
                        detail = f"{endpoint} can be read"
                        if endpoint == "credentials":
                            websockets = settings.mqtt_transport == "websockets"
                            asked, asked_port = objects.broker_of(body, settings.mqtt_tls, websockets)
                            detail = f"the broker is {asked}:{asked_port}"
                            if not host:
                                host, port = asked, settings.mqtt_port or asked_port
                        results.append(CheckResult("wayscloud: REST", True, detail))
                    except (VendorError, ValueError) as error:
                        results.append(CheckResult("wayscloud: REST", False, str(error)))
    if not host:
        results.append(CheckResult("wayscloud: MQTT", False, "set mqtt_host, or api_key to ask for it, in [wayscloud]"))
        return results
    for login, device in logins(_probing(settings), f"{settings.client_id}-check"):
        name = f"wayscloud: MQTT {device}" if device else "wayscloud: MQTT"
        results.append(await _check_broker(settings, login, host, port, name))
    return results


def _probing(settings: WayscloudSettings) -> WayscloudSettings:
    """Other client ids, and another share group: a probe must neither end a session nor take a message from it."""
    group = settings.share_group and f"{settings.share_group}-check"
    each = [
        c.model_copy(update={"client_id": f"{c.client_id or c.device_id}-check"}) for c in settings.device_credentials
    ]
    return settings.model_copy(update={"share_group": group, "device_credentials": each})


async def _check_broker(settings: WayscloudSettings, login: Login, host: str, port: int, name: str) -> CheckResult:
    probe = settings.model_copy(update={"session_expiry_hours": 0.0})
    text = ""
    for version in {"auto": (V5, V311), "5": (V5,), "3.1.1": (V311,)}[settings.mqtt_version]:
        connected = asyncio.Event()

        async def nothing(_: Packet) -> list[asyncio.Future[None]]:
            return [asyncio.get_running_loop().create_future()]  # never acknowledged

        async def on_connected(_: bool, done: asyncio.Event = connected) -> None:
            done.set()

        session = asyncio.create_task(MqttSession(probe, login, host, port, version).run(nothing, on_connected))
        waiting = asyncio.create_task(connected.wait())
        await asyncio.wait({session, waiting}, return_when=asyncio.FIRST_COMPLETED)
        for task in (session, waiting):
            task.cancel()
        outcome = (await asyncio.gather(session, waiting, return_exceptions=True))[0]
        if connected.is_set():
            return CheckResult(name, True, f"{host}:{port} lets us in")
        text = str(outcome)
    return CheckResult(name, False, f"{host}:{port}: {text}")
