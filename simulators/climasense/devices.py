"""ClimaSense devices, as in its API document: HTTP clients that post readings to the product's server.

A device keeps what it could not deliver and sends it later, the body of a failed request unchanged. A hub submits for
its Zigbee sensors, each with the sensor's own key.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import aiohttp

from simulators import faults
from simulators.climasense.client import LONGEST_WAIT, Client
from simulators.climasense.management import DeviceManagement, Misbehaviour
from simulators.faults import DeviceFaults, Fault, Record, Target
from simulators.fleet import Room, RoomState, random_for
from simulators.net import Clock, ticks
from simulators.settings import SimulatorSettings
from simulators.wire import digest, encode, rfc3339

log = logging.getLogger(__name__)

Role = Literal["hub", "device", "sensor"]

MAX_READINGS = 100
POST_INTERVAL = 1.0
"""The documented limit of ``POST /v1/telemetry`` is 60 requests per minute."""

OFFLINE_SECONDS = 5.0
BATCH = "demo"
PAIRING_ANSWERS = frozenset({400, 403, 404, 409})
"""Answers after which a hub gives up pairing a sensor: 404 means that pairing is not offered."""

METRICS = {"temperature": "environment.temperature", "battery_level": "battery.level"}


@dataclass(frozen=True)
class ApiKey:
    """A device and the key it was provisioned with. ``ieee_address``: of Zigbee sensors only."""

    device_id: str
    role: Role
    key: str
    ieee_address: str | None = None

    @property
    def sha256(self) -> str:
        """The key as a server may store it: SHA-256, in hexadecimal."""
        return sha256(self.key.encode()).hexdigest()


def api_keys(devices: int, seed: int) -> list[ApiKey]:
    """The devices of a simulated fleet and their keys: a hub, devices, and (the last third) the hub's sensors."""
    sensors = devices // 3
    return [_api_key(number, _role(number, devices, sensors), seed) for number in range(devices)]


def write_keys(path: Path, devices: int, seed: int) -> None:
    """Write what the product provisions from: each device's hashed key, role and batch.

    Replaced whole, so that no half is ever read.
    """
    fresh = path.with_name(path.name + ".new")
    entries = {
        key.device_id: {"sha256": key.sha256, "role": key.role, "batch": BATCH} for key in api_keys(devices, seed)
    }
    fresh.write_text(json.dumps(entries, indent=2))
    fresh.replace(path)


def _role(number: int, devices: int, sensors: int) -> Role:
    if number >= devices - sensors:
        return "sensor"
    return "hub" if number == 0 else "device"


def _api_key(number: int, role: Role, seed: int) -> ApiKey:
    rng = random_for(seed, "climasense", number)
    prefix = "sk_sensor" if role == "sensor" else "sk_device"
    ieee = f"0x00124b00{rng.getrandbits(32):08x}" if role == "sensor" else None
    return ApiKey(f"cs-{number + 1:06d}", role, f"{prefix}_{rng.getrandbits(128):032x}", ieee)


def readings(state: RoomState, now: float, role: Role) -> list[dict[str, Any]]:
    """What a device measures at one moment; a Zigbee sensor knows no mains power."""
    values: dict[str, float] = {
        "temperature": round(state.temperature, 2),
        "humidity": round(state.humidity, 1),
        "battery_level": round(state.battery, 1),
        "pressure": round(state.pressure, 1),
        "signal_strength": round(state.signal),
        "iaq": round(state.air_quality),
    }
    if role != "sensor":
        values["power_availability"] = int(state.powered)
    stamp = rfc3339(now)
    return [{"sensor_type": name, "value": value, "timestamp": stamp} for name, value in values.items()]


@dataclass
class _Parcel:
    """A body to deliver, and what to do when that is settled (with the answer's status)."""

    body: bytes
    settled: Callable[[int], None]


@dataclass
class _Device:
    """One device: what it measured and has not delivered yet."""

    key: ApiKey
    room: Room
    planted: DeviceFaults
    position: dict[str, float]
    unsent: deque[dict[str, Any]]
    parcels: deque[_Parcel] = field(default_factory=deque)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    last_accepted: bytes = b""
    offline_until: float = 0.0

    def body(self, batch: list[dict[str, Any]]) -> dict[str, Any]:
        return self.position | {"readings": batch}

    def next_parcel(self) -> _Parcel | None:
        """What to send next; stays the same until ``parcels`` is popped."""
        if not self.parcels and self.unsent:
            batch = [self.unsent.popleft() for _ in range(min(MAX_READINGS, len(self.unsent)))]
            self.parcels.append(_Parcel(encode(self.body(batch)), lambda status: None))
        return self.parcels[0] if self.parcels else None


class ClimaSenseFleet:
    """All ClimaSense devices; they post while ``posting()`` lasts."""

    def __init__(self, settings: SimulatorSettings, clock: Clock, record: Record) -> None:
        self._settings, self._clock = settings, clock
        self.keys = api_keys(settings.climasense.devices, settings.seed)
        targets = [Target(key.device_id, tuple(METRICS.values())) for key in self.keys]
        plans = faults.plan(settings.seed, "climasense", targets, settings.faults)
        self._devices = [
            _Device(
                key=key,
                room=Room(settings.seed, f"climasense/{key.device_id}"),
                planted=DeviceFaults("climasense", f"climasense:{key.device_id}", plans[key.device_id], record),
                position={} if key.role == "sensor" else {"latitude": 37.7749, "longitude": -122.4194},
                unsent=deque(maxlen=settings.climasense.buffer_readings),
            )
            for key in self.keys
        ]
        self._paired = {key.device_id: asyncio.Event() for key in self.keys if key.role == "sensor"}
        self.managements: list[DeviceManagement] = []

    @asynccontextmanager
    async def posting(self) -> AsyncIterator[None]:
        """Devices measure and post while the block lasts. Needs ``climasense.url``."""
        timeout = aiohttp.ClientTimeout(total=30)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):
            simulator = self._settings.climasense
            client = Client(session, f"{simulator.url}", simulator.retry_seconds)
            self.managements = [
                self._management_of(device, client) for device in self._devices if device.key.role != "sensor"
            ]
            tasks = [group.create_task(self._pair(client))]
            for device in self._devices:
                tasks += [group.create_task(self._measure(device)), group.create_task(self._deliver(device, client))]
            for number, management in enumerate(self.managements):
                offset = simulator.poll_seconds * (number + 1) / (len(self.managements) + 1)  # not all at once
                tasks.append(group.create_task(management.run(simulator.poll_seconds, offset)))
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    # --- measuring -------------------------------------------------------------------------------------------

    async def _measure(self, device: _Device) -> None:
        rate = self._settings.climasense.rate
        offset = random_for(self._settings.seed, "offset", device.key.device_id).random() / rate
        async for _ in ticks(rate, offset):
            now = self._clock()
            for fault in device.planted.due(now):
                self._carry_out(fault, device, now)
            batch = readings(device.room.at(now), now, device.key.role)
            for reading in batch:
                metric = METRICS.get(reading["sensor_type"])
                if metric is not None:
                    reading["value"] = round(device.planted.applied(metric, reading["value"], now), 2)
            device.unsent.extend(batch)
            device.waiting.set()

    def _carry_out(self, fault: Fault, device: _Device, now: float) -> None:
        planted = device.planted
        match fault.kind:
            case "malformed":
                payload = self._spoilt(fault, device, now)

                def malformed(status: int) -> None:
                    planted.note_malformed(fault, payload, self._clock(), status=status)

                device.parcels.append(_Parcel(payload, malformed))
            case "duplicate" if device.last_accepted:
                repeated = device.last_accepted

                def duplicate(status: int) -> None:
                    planted.note("duplicate", self._clock(), sha256=digest(repeated), status=status)

                device.parcels.append(_Parcel(repeated, duplicate))
            case "late":
                then = now - self._settings.faults.late_by
                old = encode(device.body(readings(device.room.at(then), then, device.key.role)))

                def late(status: int) -> None:
                    planted.note("late", self._clock(), observed_at=rfc3339(then), sha256=digest(old), status=status)

                device.parcels.append(_Parcel(old, late))
            case "disconnect":
                device.offline_until = now + OFFLINE_SECONDS
                planted.note("disconnect", now, by="device", seconds=OFFLINE_SECONDS)

    @staticmethod
    def _spoilt(fault: Fault, device: _Device, now: float) -> bytes:
        """A bad body: text for the temperature, or a reading that does not say what it is of."""
        first, *rest = readings(device.room.at(now), now, device.key.role)
        nameless = {name: value for name, value in first.items() if name != "sensor_type"}
        good = device.body([first, *rest])
        wrong, missing = device.body([first | {"value": "warm"}, *rest]), device.body([nameless, *rest])
        return faults.spoil(fault.malformation, good, wrong, missing)

    # --- delivering ------------------------------------------------------------------------------------------

    async def _deliver(self, device: _Device, client: Client) -> None:
        if device.key.role == "sensor":
            await self._paired[device.key.device_id].wait()
        while True:
            await device.waiting.wait()
            await asyncio.sleep(max(0.0, device.offline_until - self._clock()))
            parcel = device.next_parcel()
            if parcel is None:
                device.waiting.clear()
                continue
            answer = await client.deliver("/v1/telemetry", device.key.key, parcel.body)
            device.parcels.popleft()
            now = self._clock()
            parcel.settled(answer.status)
            if answer.ok:
                device.planted.contact(now)
                device.last_accepted = parcel.body
            else:
                size = len(parcel.body)
                log.debug("%s drops a body of %d bytes: HTTP %d", device.key.device_id, size, answer.status)
            await asyncio.sleep(POST_INTERVAL)

    async def _pair(self, client: Client) -> None:
        """The hub announces its sensors, each until the server has said yes or no."""
        hub = self.keys[0]
        for sensor in (key for key in self.keys if key.role == "sensor"):
            body = encode({"sensor_api_key": sensor.key, "ieee_address": sensor.ieee_address})
            wait = client.retry_seconds
            while not (answer := await client.ask("POST", "/v1/zigbee/sensors", hub.key, body)).ok:
                if answer.status in PAIRING_ANSWERS:
                    break
                await asyncio.sleep(wait if answer.retry_after is None else answer.retry_after)
                wait = min(wait * 2, LONGEST_WAIT)
            self._paired[sensor.device_id].set()

    def _management_of(self, device: _Device, client: Client) -> DeviceManagement:
        def note(what: Misbehaviour, status: int) -> None:
            device.planted.note("misbehaviour", self._clock(), what=what, status=status)

        return DeviceManagement(device.key.key, client, frozenset(self._settings.climasense.misbehave), note)
