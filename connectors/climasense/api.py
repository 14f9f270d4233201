"""What ClimaSense devices may ask of us: every endpoint of `schemas.climasense.ENDPOINTS`.

Nothing is answered with 2xx before Kafka and the database have it; while either is away a device gets 503 with
`Retry-After` and keeps what it has. What a device reports goes to Kafka first and into the database then: a crash
between the two makes the device report again, and the normaliser drops the repeat. Errors are
`{"error","message"}` as documented; a 4xx that gives a body up is answered only after its dead letter is in Kafka.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import NoReturn

from aiohttp import web
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from connectors.climasense import protocol
from connectors.climasense.database import Database
from connectors.climasense.keys import KeyRing
from connectors.climasense.protocol import VENDOR, Identity, InvalidRequest, bearer, parse
from connectors.climasense.settings import ClimasenseSettings
from connectors.climasense.store import CHUNK_BYTES, DeviceState, Firmware, StateError
from connectors.common import STAGE
from connectors.common.context import Context, utc_now
from connectors.common.dead_letters import MessageSource, dead_letter
from connectors.common.http_server import Body, read_body, seconds, settled
from connectors.common.rate_limits import RateWindow
from runtime.metrics import LEFT_OUT, RECORDS_IN
from schemas import climasense as contract
from schemas.envelope import Envelope
from schemas.wire import DeadLetter, Device, Problem

_COME_AGAIN_SECONDS = 5.0
_SMALL_BODY = 16 * 1024

Ask = Callable[[web.Request, Identity], Awaitable[web.StreamResponse]]
Take = Callable[[bytes, Identity], Awaitable[BaseModel]]


class Refused(Exception):
    """A request that is answered with an error; no body is lost by it."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.answer = error(status, code, message, headers)


class Api:
    """The endpoints. `seen` tells when each device (native id) last called, on the monotonic clock.

    `stale` is called where a device's record was changed and could not be published.
    """

    def __init__(
        self,
        settings: ClimasenseSettings,
        context: Context,
        database: Database,
        keys: KeyRing,
        stale: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._context = context
        self._db = database
        self._store = database.store
        self._keys = keys
        self._stale = stale
        self._limits = _limits(settings)
        self._sequence = 0
        self._pairing = asyncio.Lock()
        self._document = contract.openapi(settings.paths)
        self.seen: dict[str, float] = {}

    def app(self) -> web.Application:
        """The web application."""
        app = web.Application(middlewares=[_errors_as_documented])
        longest = self._settings.max_body_bytes
        takes: dict[str, tuple[Take, str, int]] = {
            contract.TELEMETRY: (self._telemetry, protocol.TELEMETRY, longest),
            contract.UPDATE_SETTINGS: (self._update_settings, protocol.SETTINGS, _SMALL_BODY),
            contract.RESULT: (self._command_result, protocol.COMMAND_RESULT, longest),
            contract.STATUS: (self._ota_status, protocol.OTA_STATUS, _SMALL_BODY),
            contract.PAIR: (self._pair, protocol.SENSOR_PAIRED, _SMALL_BODY),
        }
        asks: dict[str, Ask] = {
            contract.SETTINGS: self._read_settings,
            contract.PENDING: self._pending,
            contract.CHECK: self._ota_check,
            contract.DOWNLOAD: self._download,
        }
        for endpoint in contract.ENDPOINTS:
            path = self._settings.paths.get(endpoint.name, endpoint.path)
            taken = takes.get(endpoint.name)
            ask = partial(self._posted, *taken) if taken else asks[endpoint.name]
            handler = partial(self._guarded, endpoint.name, ask)
            app.router.add_route(endpoint.method, path, handler)
            if endpoint.method == "patch":
                app.router.add_put(path, handler)
        app.router.add_get("/openapi.json", self._openapi)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        return app

    # -- around all endpoints

    async def _guarded(self, name: str, ask: Ask, request: web.Request) -> web.StreamResponse:
        """Who asks, and not too often; what is away is said so."""
        try:
            identity = self._admitted(name, request)
            return await ask(request, identity)
        except Refused as refused:
            return refused.answer
        except SQLAlchemyError:
            return _unavailable()

    def _admitted(self, name: str, request: web.Request) -> Identity:
        identity = self._keys.identity(bearer(request.headers.get("Authorization")))
        if identity is None:
            LEFT_OUT.labels(STAGE, VENDOR, "unauthorized").inc()
            raise Refused(401, "unauthorized", "Invalid or missing API key")
        window = self._limits[name]
        wait = window.check(identity.digest, time.monotonic())
        if wait:
            LEFT_OUT.labels(STAGE, VENDOR, "rate_limited").inc()
            span = "minute" if window.window == 60 else "hour"
            raise Refused(429, "rate_limited", f"At most {window.limit} requests per {span}", seconds(wait))
        if name == contract.PAIR and identity.role != "hub":
            raise Refused(403, "forbidden", "Only hub devices can register sensors")
        self.seen[identity.device] = time.monotonic()
        return identity

    async def _posted(
        self, take: Take, message_type: str, limit: int, request: web.Request, identity: Identity
    ) -> web.Response:
        """An endpoint that takes a body: bounded, and kept aside where it cannot be taken."""
        body = await read_body(request, limit)
        RECORDS_IN.labels(STAGE, VENDOR).inc()
        try:
            if body.too_large:
                detail = f"the body must not be longer than {limit} bytes"
                raise InvalidRequest("", "too_large", detail, 413, "payload_too_large")
            return _json(await take(body.data, identity))
        except InvalidRequest as wrong:
            return await self._given_up(body, identity, message_type, wrong)

    async def _given_up(self, body: Body, identity: Identity, message_type: str, wrong: InvalidRequest) -> web.Response:
        """The device will give the body up, so it must be kept before it is told: all of it, if it can be redacted."""
        clean = None if body.too_large else protocol.redacted(body.data)
        await self._settle(
            dead_letter(
                body.data if clean is None else clean,
                MessageSource(VENDOR, message_type, utc_now(), identity.device_id),
                Problem(path=wrong.path, reason=wrong.reason, detail=str(wrong)),
                digest=body.digest if clean is None else None,
                redacted=clean is not None,
            )
        )
        return error(wrong.status, wrong.code, str(wrong))

    async def _settle(self, record: Envelope | Device | DeadLetter) -> None:
        """Wait until Kafka has it; Refused (503) where it does not in time."""
        if not await settled(self._context.publisher, record, self._settings.ack_timeout_seconds):
            raise _come_again()

    async def _registered(self, device: DeviceState, now: datetime) -> None:
        try:
            await self._settle(record_of(device, now))
        except Refused:
            self._stale()
            raise

    # -- telemetry

    async def _telemetry(self, body: bytes, identity: Identity) -> BaseModel:
        now = utc_now()
        self._sequence += 1
        taken = protocol.telemetry(body, identity.device_id, now, self._sequence)
        await self._settle(taken.envelope)
        return contract.TelemetryAccepted(accepted=taken.accepted, timestamp=now)

    # -- settings

    async def _read_settings(self, request: web.Request, identity: Identity) -> web.Response:
        device = await self._db.run(self._store.device, identity.device)
        return _json(contract.DeviceSettings.model_validate(device.settings))

    async def _update_settings(self, body: bytes, identity: Identity) -> BaseModel:
        changes = parse(body, contract.SettingsUpdate).model_dump(mode="json", exclude_none=True)
        try:
            device = await self._db.run(self._store.update_settings, identity.device, changes)
        except StateError as too_much:
            raise InvalidRequest("", "too_large", str(too_much), 413, "payload_too_large") from too_much
        await self._registered(device, utc_now())
        return contract.DeviceSettings.model_validate(device.settings)

    # -- commands

    async def _pending(self, request: web.Request, identity: Identity) -> web.Response:
        commands = await self._db.run(self._store.pending, identity.device, utc_now())
        waiting = [
            contract.PendingCommand.model_validate(
                {"command_id": c.command_id, "type": c.type, "payload": c.payload, "expires_at": c.expires_at}
            )
            for c in commands
        ]
        return _json(contract.PendingCommands(commands=waiting))

    async def _command_result(self, body: bytes, identity: Identity) -> BaseModel:
        report = parse(body, contract.CommandResult)
        command = await self._db.run(self._store.command, identity.device, report.command_id)
        if command is None:
            raise InvalidRequest("command_id", "unknown_command", "there is no such command", 404, "not_found")
        now = utc_now()
        await self._settle(protocol.command_result(body, identity.device_id, command.command_id, command.type, now))
        await self._db.run(self._store.finish, command.command_id, report.status, report.error_message, now)
        return contract.CommandAcknowledged(timestamp=now)

    # -- firmware

    async def _ota_check(self, request: web.Request, identity: Identity) -> web.Response:
        current = request.query.get("current_version", "").strip()
        if not 1 <= len(current) <= 100:
            raise Refused(400, "invalid_request", "current_version: is required")
        changed = await self._db.run(self._store.note_firmware, identity.device, current)
        if changed is not None:
            await self._registered(changed, utc_now())
        return _json(_offer(await self._db.run(self._store.update_for, identity.batch, current)))

    async def _download(self, request: web.Request, identity: Identity) -> web.StreamResponse:
        version = request.match_info["version"]
        offered = await self._db.run(self._store.offered, identity.batch)
        image = next((image for image in offered if image.version == version), None)
        if image is None:
            raise Refused(404, "not_found", "There is no such firmware for this device")
        start, stop = _range(request, image)
        partly = (start, stop) != (0, image.size_bytes)
        response = web.StreamResponse(status=206 if partly else 200, headers=_download_headers(image))
        response.content_length = stop - start
        if partly:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{image.size_bytes}"
        first = await self._db.run(self._store.chunk, version, start // CHUNK_BYTES)  # still time to answer 503
        await response.prepare(request)
        try:
            await self._send(response, version, first, start, stop)
        except SQLAlchemyError as away:
            if request.transport is not None:
                request.transport.abort()  # or the device would wait for the rest
            raise ConnectionResetError from away
        return response

    async def _send(self, response: web.StreamResponse, version: str, piece: bytes, start: int, stop: int) -> None:
        number, at = start // CHUNK_BYTES, start
        while at < stop:
            offset = at - number * CHUNK_BYTES
            part = piece[offset : offset + stop - at]
            await response.write(part)
            at += len(part)
            number += 1
            if at < stop:
                piece = await self._db.run(self._store.chunk, version, number)
        await response.write_eof()

    async def _ota_status(self, body: bytes, identity: Identity) -> BaseModel:
        report = parse(body, contract.OtaStatus)
        update = await self._db.run(self._store.next_update, identity.device, report)
        now = utc_now()
        await self._settle(protocol.ota_status(body, identity.device_id, update.attempt, now))
        changed = await self._db.run(self._store.save_update, identity.device, update, now)
        if changed is not None:
            await self._registered(changed, now)
        return contract.OtaRecorded(timestamp=now)

    # -- Zigbee

    async def _pair(self, body: bytes, identity: Identity) -> BaseModel:
        pairing = parse(body, contract.SensorPairing)
        sensor = self._keys.identity(pairing.sensor_api_key)
        if sensor is None or sensor.role != "sensor":
            raise InvalidRequest("sensor_api_key", "unknown_key", "no sensor has this key")
        async with self._pairing:  # two hubs that want the same sensor
            device = await self._db.run(self._store.device, sensor.device)
            answer = contract.SensorPaired(
                sensor_id=protocol.sensor_id_of(sensor.device), serial_number=device.serial_number or sensor.device
            )
            try:
                number = await self._db.run(self._store.next_pairing, sensor.device, identity.device)
            except StateError as conflict:
                raise InvalidRequest("sensor_api_key", "conflict", str(conflict), 409, "conflict") from conflict
            now = utc_now()
            if number is not None:
                ids = (identity.device_id, sensor.device_id)
                await self._settle(protocol.sensor_paired(body, *ids, answer, now, str(number)))
                device = await self._db.run(self._store.pair, sensor.device, identity.device, pairing.ieee_address, now)
            await self._registered(device, now)
        return answer

    # -- ours

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.json_response(self._document)

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        problem = self._context.publisher.problem or self._db.problem or self._keys.problem
        return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)


def record_of(device: DeviceState, now: datetime) -> Device:
    """What the registry says of a device."""
    return protocol.device_record(
        device.device,
        device.role,
        device.batch,
        device.serial_number,
        device.firmware_version,
        device.hub,
        device.settings,
        now,
    )


def error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error as documented: `{"error","message"}`."""
    return web.json_response({"error": code, "message": message}, status=status, headers=headers)


@web.middleware
async def _errors_as_documented(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """No such path, no such method: told in the documented form, too."""
    try:
        return await handler(request)
    except web.HTTPException as refused:
        allowed = {"Allow": refused.headers["Allow"]} if "Allow" in refused.headers else None
        code = "not_found" if refused.status == 404 else "method_not_allowed" if refused.status == 405 else "error"
        return error(refused.status, code, refused.reason, allowed)


def _limits(settings: ClimasenseSettings) -> dict[str, RateWindow]:
    per_minute = {
        contract.TELEMETRY: settings.requests_per_minute,
        contract.SETTINGS: settings.settings_per_minute,
        contract.UPDATE_SETTINGS: settings.updates_per_minute,
        contract.PENDING: settings.commands_per_minute,
        contract.RESULT: settings.results_per_minute,
        contract.CHECK: settings.checks_per_minute,
        contract.STATUS: settings.reports_per_minute,
        contract.PAIR: settings.pairings_per_minute,
    }
    limits = {name: RateWindow(limit, 60.0) for name, limit in per_minute.items()}
    return limits | {contract.DOWNLOAD: RateWindow(settings.downloads_per_hour, 3600.0)}


def _json(model: BaseModel) -> web.Response:
    return web.json_response(text=model.model_dump_json(exclude_none=True))


def _come_again() -> Refused:
    return Refused(503, "unavailable", "Try again later", seconds(_COME_AGAIN_SECONDS))


def _unavailable() -> web.Response:
    return _come_again().answer


def _offer(image: Firmware | None) -> contract.FirmwareOffer:
    if image is None:
        return contract.FirmwareOffer(update_available=False)
    return contract.FirmwareOffer(
        update_available=True,
        version=image.version,
        checksum=image.checksum,
        size_bytes=image.size_bytes,
        release_notes=image.release_notes,
    )


def _download_headers(image: Firmware) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "ETag": f'"{image.checksum}"'}


def _range(request: web.Request, image: Firmware) -> tuple[int, int]:
    """The bytes that are wanted (RFC 9110, 14): all of them unless the header names a part of this very image."""
    if request.headers.get("If-Range", f'"{image.checksum}"') != f'"{image.checksum}"':
        return 0, image.size_bytes
    try:
        start, stop, _ = request.http_range.indices(image.size_bytes)
    except ValueError:  # unreadable: as if it were not there
        return 0, image.size_bytes
    if start >= stop:
        _refuse_range(image)
    return start, stop


def _refuse_range(image: Firmware) -> NoReturn:
    headers = {"Content-Range": f"bytes */{image.size_bytes}"}
    raise Refused(416, "range_not_satisfiable", "The range lies beyond the end of the firmware", headers)
