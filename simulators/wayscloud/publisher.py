"""The sensors: MQTT clients that publish at QoS 1."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from simulators import faults
from simulators.faults import DeviceFaults, Fault, Record, Target
from simulators.fleet import random_for
from simulators.net import Clock, ticks
from simulators.settings import SimulatorSettings
from simulators.wayscloud import payloads
from simulators.wayscloud.payloads import METRICS, Sensor
from simulators.wayscloud.store import TelemetryStore
from simulators.wire import digest, rfc3339

log = logging.getLogger(__name__)

MAX_UNACKNOWLEDGED = 1000


class SensorFleet:
    """All sensors, through one MQTT connection or one each. What the broker does not acknowledge is sent once more."""

    def __init__(
        self, settings: SimulatorSettings, clock: Clock, record: Record, subscribed: asyncio.Event | None = None
    ) -> None:
        """Nothing is published before ``subscribed`` is set."""
        self._subscribed = subscribed
        self.store = TelemetryStore()
        self._settings, self._clock = settings, clock
        self.sensors = payloads.build_fleet(settings.seed, settings.wayscloud.devices)
        targets = [Target(sensor.device_id, tuple(METRICS.values())) for sensor in self.sensors]
        plans = faults.plan(settings.seed, "wayscloud", targets, settings.faults)
        self._faults = {
            sensor.device_id: DeviceFaults(
                "wayscloud", f"wayscloud:{sensor.device_id}", plans[sensor.device_id], record
            )
            for sensor in self.sensors
        }

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Sensors publish while the block lasts; an unavailable broker is retried."""
        each = self._settings.wayscloud.client_per_device
        names = [sensor.device_id for sensor in self.sensors] if each else ["fleet"]
        clients = {name: self._connect(f"simulator-{name}") for name in names}
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._run(sensor, clients[sensor.device_id if each else "fleet"]))
                    for sensor in self.sensors
                ]
                try:
                    yield
                finally:
                    for task in tasks:
                        task.cancel()
        finally:
            for client in clients.values():
                client.disconnect()
            # paho joins its thread here, which would hold up the loop.
            await asyncio.gather(*(asyncio.to_thread(client.loop_stop) for client in clients.values()))

    def _connect(self, client_id: str) -> mqtt.Client:
        settings = self._settings.wayscloud
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=False,
            protocol=mqtt.MQTTv311,
        )
        if settings.mqtt_username is not None:
            secret = settings.mqtt_password
            client.username_pw_set(settings.mqtt_username, secret.get_secret_value() if secret else None)
        client.max_inflight_messages_set(MAX_UNACKNOWLEDGED)
        client.max_queued_messages_set(MAX_UNACKNOWLEDGED)
        client.reconnect_delay_set(1, 10)
        client.connect_async(settings.mqtt_host, settings.mqtt_port)
        client.loop_start()
        return client

    async def _run(self, sensor: Sensor, client: mqtt.Client) -> None:
        planted, turn = self._faults[sensor.device_id], 0
        rate = self._settings.wayscloud.rate
        offset = random_for(self._settings.seed, "offset", sensor.device_id).random() / rate
        if self._subscribed is not None:
            await self._subscribed.wait()
        async for _ in ticks(rate, offset):
            if not client.is_connected():
                continue  # a sensor without a connection does not measure: the gap is real
            now = self._clock()
            planted.contact(now)
            for fault in planted.due(now):
                self._carry_out(fault, sensor, client, planted)
            current = payloads.values(sensor.room.at(now))
            for datapoint in payloads.sent_by(sensor, turn):
                if datapoint in METRICS:
                    shown = planted.applied(METRICS[datapoint], float(current[datapoint]), now)
                    current[datapoint] = round(shown, 2)
            retain = turn == 0 and self._settings.wayscloud.retain_first
            _publish(client, *payloads.message(sensor, turn, current, now), retain=retain)
            self.store.add(sensor, {name: current[name] for name in payloads.sent_by(sensor, turn)}, now)
            turn += 1

    def _carry_out(self, fault: Fault, sensor: Sensor, client: mqtt.Client, planted: DeviceFaults) -> None:
        """All planted messages are about the temperature and timed, whatever the sensor's style is."""
        now = self._clock()
        topic, celsius = payloads.topic(sensor, "temperature"), round(sensor.room.at(now).temperature, 2)
        match fault.kind:
            case "malformed":
                stamp = {"timestamp": rfc3339(now)}
                good, wrong = {"value": celsius} | stamp, {"value": True} | stamp
                payload = faults.spoil(fault.malformation, good, wrong, stamp)
                _publish(client, topic, payload)
                planted.note_malformed(fault, payload, now)
            case "duplicate":
                payload = payloads.timed(celsius, now)
                for _ in range(2):
                    _publish(client, topic, payload)
                planted.note("duplicate", now, sha256=digest(payload))
            case "late":
                then = now - self._settings.faults.late_by
                payload = payloads.timed(celsius, then)
                _publish(client, topic, payload)
                planted.note("late", now, observed_at=rfc3339(then), sha256=digest(payload))
            case "disconnect":
                planted.note("disconnect", now, by="device")
                connection = client.socket()
                if isinstance(connection, socket.socket):
                    connection.shutdown(socket.SHUT_RDWR)  # paho's own thread notices, and reconnects


def _publish(client: mqtt.Client, topic: str, payload: bytes, retain: bool = False) -> None:
    info = client.publish(topic, payload, qos=1, retain=retain)
    if info.rc == mqtt.MQTT_ERR_QUEUE_SIZE:
        log.warning("the MQTT broker does not keep up: a message on %s is dropped", topic)
