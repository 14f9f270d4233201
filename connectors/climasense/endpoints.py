"""The endpoints that take telemetry, settings, command results and pairings.

What a device reports goes to Kafka first and into the database then: after a crash between the two the device reports
again, and the normaliser drops the duplicate.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from pydantic import BaseModel

from connectors.climasense import protocol
from connectors.climasense.answers import json_answer
from connectors.climasense.command_events import CommandEvents
from connectors.climasense.delivery import Delivery
from connectors.climasense.keys import KeyRing
from connectors.climasense.protocol import Identity, InvalidRequest, Pairing, parse
from connectors.climasense.store.records import StateError
from connectors.climasense.store.threads import StoreThreads
from connectors.common.clock import utc_now
from schemas import climasense as contract


class TelemetryEndpoint:
    """`POST /v1/telemetry`."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._sequence = 0

    async def post(self, body: bytes, identity: Identity) -> BaseModel:
        """Publish a body of readings."""
        now = utc_now()
        self._sequence += 1
        telemetry = protocol.telemetry(body, identity.device_id, now, self._sequence, identity.request_key)
        if telemetry.content:
            await self._delivery.publish_untimed(telemetry.envelope, telemetry.content)
        else:
            await self._delivery.publish(telemetry.envelope)
        return contract.TelemetryAccepted(accepted=telemetry.accepted, timestamp=now)


class SettingsEndpoints:
    """`GET` and `PATCH /v1/settings`."""

    def __init__(self, store: StoreThreads, delivery: Delivery) -> None:
        self._run = store.run
        self._devices = store.store.devices
        self._delivery = delivery

    async def get(self, _: web.Request, identity: Identity) -> web.Response:
        """Answer the device's settings."""
        device = await self._run(self._devices.get, identity.device)
        return json_answer(contract.DeviceSettings.model_validate(device.settings))

    async def update(self, body: bytes, identity: Identity) -> BaseModel:
        """Merge what the device reports into its settings, and publish its record."""
        changes = parse(body, contract.SettingsUpdate).model_dump(mode="json", exclude_none=True)
        try:
            device = await self._run(self._devices.update_settings, identity.device, changes)
        except StateError as too_much:
            raise InvalidRequest("", "too_large", str(too_much), 413, "payload_too_large") from too_much
        await self._delivery.register(device, utc_now())
        return contract.DeviceSettings.model_validate(device.settings)


class CommandEndpoints:
    """Pending commands, and their results."""

    def __init__(self, store: StoreThreads, delivery: Delivery, events: CommandEvents) -> None:
        self._run = store.run
        self._commands = store.store.commands
        self._delivery = delivery
        self._events = events

    async def pending(self, _: web.Request, identity: Identity) -> web.Response:
        """Answer the commands that wait for the device."""
        now = utc_now()
        commands = await self._run(self._commands.pending, identity.device, now)
        self._events.handed_out(commands, now)
        waiting = [
            contract.PendingCommand.model_validate(
                {"command_id": c.command_id, "type": c.type, "payload": c.payload, "expires_at": c.expires_at}
            )
            for c in commands
        ]
        return json_answer(contract.PendingCommands(commands=waiting))

    async def result(self, body: bytes, identity: Identity) -> BaseModel:
        """Publish and store the result of a command."""
        report = parse(body, contract.CommandResult)
        command = await self._run(self._commands.get, identity.device, report.command_id)
        if command is None:
            raise InvalidRequest("command_id", "unknown_command", "there is no such command", 404, "not_found")
        now = utc_now()
        envelope = protocol.command_result(body, identity.device_id, command.command_id, command.type, now)
        await self._delivery.publish(envelope)
        await self._run(self._commands.finish, command.command_id, report.status, report.error_message, now)
        return contract.CommandAcknowledged(timestamp=now)


class PairingEndpoint:
    """A hub registers a Zigbee sensor."""

    def __init__(self, store: StoreThreads, delivery: Delivery, keys: KeyRing) -> None:
        self._run = store.run
        self._devices = store.store.devices
        self._delivery = delivery
        self._keys = keys
        self._lock = asyncio.Lock()

    async def post(self, body: bytes, identity: Identity) -> BaseModel:
        """Give the sensor to the hub, unless another hub has it (409)."""
        request = parse(body, contract.SensorPairing)
        sensor = self._keys.identity(request.sensor_api_key)
        if sensor is None or sensor.role != "sensor":
            raise InvalidRequest("sensor_api_key", "unknown_key", "no sensor has this key")
        async with self._lock:  # two hubs that want the same sensor
            device = await self._run(self._devices.get, sensor.device)
            answer = contract.SensorPaired(
                sensor_id=protocol.sensor_id_of(sensor.device), serial_number=device.serial_number or sensor.device
            )
            try:
                number = await self._run(self._devices.next_pairing, sensor.device, identity.device)
            except StateError as conflict:
                raise InvalidRequest("sensor_api_key", "conflict", str(conflict), 409, "conflict") from conflict
            now = utc_now()
            if number is not None:
                pairing = Pairing(identity.device_id, sensor.device_id, answer, number)
                await self._delivery.publish(protocol.sensor_paired(body, pairing, now))
                device = await self._run(self._devices.pair, sensor.device, identity.device, request.ieee_address, now)
            await self._delivery.register(device, now)
        return answer
