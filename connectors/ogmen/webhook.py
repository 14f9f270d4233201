"""The webhook that robots post their alerts to."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web

from connectors.common import STAGE
from connectors.common.clock import utc_now
from connectors.common.context import Context
from connectors.common.dead_letters import MessageSource
from connectors.common.entrance import problem_of
from connectors.common.http_server import Body, in_time, read_body, seconds
from connectors.common.rate_limits import RateWindow
from connectors.ogmen.account_data import unusable
from connectors.ogmen.protocol import ALERT, VENDOR, InvalidAlert, alert
from connectors.ogmen.settings import OgmenSettings
from runtime.metrics import LEFT_OUT, RECORDS_IN
from schemas.device import device_id
from schemas.envelope import Envelope
from schemas.wire import Problem

WEBHOOK_NAME = "ogmen webhook"
"""What errors and checks call it."""


class AlertWebhook:
    """`POST /alerts/{device_id}` (Ogmen's API document, «This webhook is triggered when a robot generates an alert»).

    Delivery: an alert is acknowledged as documented, but only after Kafka has it. A redelivery is acknowledged again
    and has the same envelope id.

    Errors: 401 without the shared secret, or with a wrong or old signature (whatever is configured of the two must be
    right; with neither, every alert is refused); 413 and 429 beyond the limits; 400 with the name of the wrong field;
    503 while Kafka is away. `is_private` says whether a robot's privacy mode is on.
    """

    def __init__(self, settings: OgmenSettings, context: Context, is_private: Callable[[str], bool]) -> None:
        self._settings = settings
        self._is_private = is_private
        self._signature = settings.signature
        self._publisher = context.publisher
        self._limit = RateWindow(settings.alerts_per_minute, 60.0)
        self._secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else ""

    def app(self) -> web.Application:
        """The web application."""
        app = web.Application()
        app.add_routes([web.post(self._settings.webhook_path, self._alert), web.get("/livez", self._livez)])
        return app

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _alert(self, request: web.Request) -> web.Response:
        if not self._knows_secret(request):
            return _unauthorized("Invalid or missing secret")
        native_id = request.match_info["device_id"]
        body = await read_body(request, self._settings.max_alert_bytes)
        if self._signature is not None:
            if body.too_large:  # only its beginning is here, so its signature cannot be checked
                LEFT_OUT.labels(STAGE, VENDOR, "too_large").inc()
                return _error(
                    413, "too_large", f"the body must not be longer than {self._settings.max_alert_bytes} bytes"
                )
            if problem := self._signature.problem(request.headers, body.data, time.time()):
                return _unauthorized(f"The signature is {problem}")
        wait = self._limit.check(native_id, time.monotonic())
        if wait:
            LEFT_OUT.labels(STAGE, VENDOR, "rate_limited").inc()
            return _error(429, "rate_limited", "Too many alerts", seconds(wait))
        RECORDS_IN.labels(STAGE, VENDOR).inc()
        try:
            if body.problem:
                raise InvalidAlert("", "invalid_encoding", body.problem)
            if body.too_large:
                limit = f"the body must not be longer than {self._settings.max_alert_bytes} bytes"
                raise InvalidAlert("", "too_large", limit)
            envelope = self._read(body.data, native_id)
        except InvalidAlert as error:
            return await self._refuse(body, native_id, error)
        if not await self._in_time(partial(self._publisher.publish, envelope)):
            return _unavailable()
        return web.json_response({"message": "Alert sent successfully.", "acknowledged": True})

    def _read(self, body: bytes, native_id: str) -> Envelope:
        """The alert; InvalidAlert for whatever is wrong with it."""
        try:
            return alert(body, native_id, utc_now(), self._is_private(native_id))
        except InvalidAlert:
            raise
        except Exception as error:
            problem = problem_of(error, ALERT)
            raise InvalidAlert("", problem.reason, "the body cannot be read") from error

    def _knows_secret(self, request: web.Request) -> bool:
        """Whether the shared secret is right, or none is configured but a signature is."""
        if not self._secret:
            return self._signature is not None
        given = request.headers.get(self._settings.webhook_header, "")
        return hmac.compare_digest(given.encode(errors="surrogateescape"), self._secret.encode())

    async def _refuse(self, body: Body, native_id: str, error: InvalidAlert) -> web.Response:
        """Publish the dead letter before the answer: the robot may discard the alert then."""
        source = MessageSource(VENDOR, ALERT, utc_now(), device_id(VENDOR, native_id))
        problem = Problem(path=error.path, reason=error.reason, detail=str(error))
        letter = unusable(body.data, source, problem, digest=body.digest)
        if not await self._in_time(partial(self._publisher.dead_letter, letter)):
            return _unavailable()
        return _error(413 if body.too_large else 400, error.reason, str(error))

    async def _in_time(self, publish: Callable[[], Awaitable[None]]) -> bool:
        return await in_time(self._publisher, publish, self._settings.ack_timeout_seconds)


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    content: dict[str, Any] = {"error": code, "message": message, "acknowledged": False}
    return web.json_response(content, status=status, headers=headers)


def _unauthorized(message: str) -> web.Response:
    LEFT_OUT.labels(STAGE, VENDOR, "unauthorized").inc()
    return _error(401, "unauthorized", message)


def _unavailable() -> web.Response:
    return _error(503, "unavailable", "Try again later", seconds(5))
