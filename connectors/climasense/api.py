"""The HTTP API that ClimaSense devices call: every endpoint of `schemas.climasense.ENDPOINTS`.

No request is answered with 2xx before Kafka and the database have it. While either is away, a device gets 503 with
`Retry-After` and keeps what it has. Errors are `{"error","message"}` as documented. A 4xx that makes a device give up a
body is answered only after its dead letter is in Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from aiohttp import web
from pydantic import BaseModel
from sqlalchemy.exc import DataError, SQLAlchemyError

from connectors.climasense import protocol
from connectors.climasense.answers import RequestRefused, error_answer, json_answer, unavailable
from connectors.climasense.command_events import CommandEvents
from connectors.climasense.delivery import Delivery
from connectors.climasense.endpoints import CommandEndpoints, PairingEndpoint, SettingsEndpoints, TelemetryEndpoint
from connectors.climasense.firmware import FirmwareEndpoints
from connectors.climasense.keys import KeyRing
from connectors.climasense.protocol import VENDOR, Identity, InvalidRequest, bearer
from connectors.climasense.settings import ClimasenseSettings
from connectors.climasense.store.threads import StoreThreads
from connectors.common import STAGE
from connectors.common.clock import utc_now
from connectors.common.dead_letters import MessageSource, dead_letter
from connectors.common.entrance import problem_of
from connectors.common.http_server import Body, read_body, seconds
from connectors.common.rate_limits import RateWindow
from runtime.metrics import LEFT_OUT, RECORDS_IN
from schemas import climasense as contract
from schemas.wire import Problem

_SMALL_BODY = 16 * 1024

Get = Callable[[web.Request, Identity], Awaitable[web.StreamResponse]]
Post = Callable[[bytes, Identity], Awaitable[BaseModel]]


@dataclass(frozen=True)
class _BodyEndpoint:
    """An endpoint that takes a body of at most `limit` bytes; a refused body's dead letter has the `message_type`."""

    post: Post
    message_type: str
    limit: int


@dataclass(frozen=True)
class Stored:
    """What the endpoints read and change."""

    store: StoreThreads
    keys: KeyRing
    command_events: CommandEvents


class ClimaSenseApi:
    """The web application: who may call what how often, and what becomes of bodies that are refused.

    `last_call` holds when each device (native id) last called, on the monotonic clock.
    """

    def __init__(self, settings: ClimasenseSettings, delivery: Delivery, stored: Stored) -> None:
        self._settings = settings
        self._delivery = delivery
        self._store = stored.store
        self._keys = stored.keys
        self._command_events = stored.command_events
        self._limits = _limits(settings)
        self._document = contract.openapi(settings.paths)
        self.last_call: dict[str, float] = {}

    def app(self) -> web.Application:
        """Make the web application."""
        app = web.Application(middlewares=[_errors_as_documented])
        endpoints = self._endpoints()
        for endpoint in contract.ENDPOINTS:
            path = self._settings.paths.get(endpoint.name, endpoint.path)
            handler = partial(self._guard, endpoint.name, endpoints[endpoint.name])
            app.router.add_route(endpoint.method, path, handler)
            if endpoint.method == "patch":
                app.router.add_put(path, handler)
        app.router.add_get("/openapi.json", self._openapi)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        return app

    def _endpoints(self) -> dict[str, Get]:
        store, delivery, longest = self._store, self._delivery, self._settings.max_body_bytes
        settings = SettingsEndpoints(store, delivery)
        commands = CommandEndpoints(store, delivery, self._command_events)
        firmware = FirmwareEndpoints(store, delivery)
        pairing = PairingEndpoint(store, delivery, self._keys)
        bodies = {
            contract.TELEMETRY: _BodyEndpoint(TelemetryEndpoint(delivery).post, protocol.TELEMETRY, longest),
            contract.UPDATE_SETTINGS: _BodyEndpoint(settings.update, protocol.SETTINGS, _SMALL_BODY),
            contract.RESULT: _BodyEndpoint(commands.result, protocol.COMMAND_RESULT, longest),
            contract.STATUS: _BodyEndpoint(firmware.status, protocol.OTA_STATUS, _SMALL_BODY),
            contract.PAIR: _BodyEndpoint(pairing.post, protocol.SENSOR_PAIRED, _SMALL_BODY),
        }
        return {
            **{name: partial(self._take_body, endpoint) for name, endpoint in bodies.items()},
            contract.SETTINGS: settings.get,
            contract.PENDING: commands.pending,
            contract.CHECK: firmware.check,
            contract.DOWNLOAD: firmware.download,
        }

    # Around all endpoints.

    async def _guard(self, name: str, get: Get, request: web.Request) -> web.StreamResponse:
        """Admit the device, and answer what goes wrong."""
        try:
            return await get(request, self._admit(name, request))
        except RequestRefused as refused:
            return refused.answer
        except SQLAlchemyError:
            return unavailable().answer

    def _admit(self, name: str, request: web.Request) -> Identity:
        """Return which device calls; RequestRefused where it may not, or calls too often."""
        identity = self._keys.identity(bearer(request.headers.get("Authorization")))
        if identity is None:
            LEFT_OUT.labels(STAGE, VENDOR, "unauthorized").inc()
            raise RequestRefused(401, "unauthorized", "Invalid or missing API key")
        window = self._limits[name]
        wait = window.check(identity.digest, time.monotonic())
        if wait:
            LEFT_OUT.labels(STAGE, VENDOR, "rate_limited").inc()
            span = "minute" if window.window == 60 else "hour"
            raise RequestRefused(429, "rate_limited", f"At most {window.limit} requests per {span}", seconds(wait))
        if name == contract.PAIR and identity.role != "hub":
            raise RequestRefused(403, "forbidden", "Only hub devices can register sensors")
        self.last_call[identity.device] = time.monotonic()
        return identity

    async def _take_body(self, endpoint: _BodyEndpoint, request: web.Request, identity: Identity) -> web.Response:
        """Read a bounded body and hand it to its endpoint; a body that is refused becomes a dead letter."""
        await self._delivery.until_listening()
        body = await read_body(request, endpoint.limit)
        identity = replace(identity, request_key=request.headers.get("Idempotency-Key", ""))
        RECORDS_IN.labels(STAGE, VENDOR).inc()
        try:
            if body.problem:
                raise InvalidRequest("", "invalid_encoding", body.problem)
            if body.too_large:
                detail = f"the body must not be longer than {endpoint.limit} bytes"
                raise InvalidRequest("", "too_large", detail, 413, "payload_too_large")
            return json_answer(await _post(endpoint, body.data, identity))
        except InvalidRequest as wrong:
            source = MessageSource(VENDOR, endpoint.message_type, utc_now(), identity.device_id)
            await self._keep(body, source, wrong)
            return error_answer(wrong.status, wrong.code, str(wrong))

    async def _keep(self, body: Body, source: MessageSource, wrong: InvalidRequest) -> None:
        """Keep a body that the device gives up: the whole body if it can be redacted, else its masked beginning."""
        clean = None if body.too_large else protocol.redacted(body.data)
        await self._delivery.dead_letter(
            dead_letter(
                body.data if clean is None else clean,
                source,
                Problem(path=wrong.path, reason=wrong.reason, detail=str(wrong)),
                digest=body.digest if clean is None else None,
                redacted=clean is not None,
            )
        )

    # Endpoints of our own.

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.json_response(self._document)

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        problem = self._delivery.publisher.problem or self._store.problem or self._keys.problem
        return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)


async def _post(endpoint: _BodyEndpoint, body: bytes, identity: Identity) -> BaseModel:
    """The endpoint's answer. InvalidRequest for whatever the body causes; the device would send it again for ever."""
    try:
        return await endpoint.post(body, identity)
    except DataError as error:
        raise InvalidRequest("", "not_storable", "the body holds what the database cannot store") from error
    except (InvalidRequest, RequestRefused, SQLAlchemyError, web.HTTPException):
        raise
    except Exception as error:
        raise InvalidRequest("", problem_of(error, endpoint.message_type).reason, "the body cannot be read") from error


@web.middleware
async def _errors_as_documented(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer unknown paths and methods in the documented form too."""
    try:
        return await handler(request)
    except web.HTTPException as refused:
        allowed = {"Allow": refused.headers["Allow"]} if "Allow" in refused.headers else None
        code = "not_found" if refused.status == 404 else "method_not_allowed" if refused.status == 405 else "error"
        return error_answer(refused.status, code, refused.reason, allowed)


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
