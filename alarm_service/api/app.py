"""The web application: routes, admission by API key, errors in one form, health and the OpenAPI document."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from alarm_service.action_publisher import KafkaAway
from alarm_service.api.alarms import AlarmEndpoints
from alarm_service.api.backend import Backend
from alarm_service.api.requests import ACTOR, ROLE, Handler, RequestRefused, error_response, unavailable
from alarm_service.api.rules import RuleEndpoints
from alarm_service.topic_ingest import STAGE
from runtime.metrics import LEFT_OUT
from schemas import alarm_api as contract
from schemas.words import KeyRole

_log = logging.getLogger(__name__)

_ROLES = {endpoint.name: endpoint.role for endpoint in contract.ENDPOINTS}
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "payload_too_large"}


class AlarmApi:
    """All endpoints. `further` are handlers of other parts of the service, by endpoint name."""

    def __init__(self, backend: Backend, further: Mapping[str, Handler], max_body_bytes: int) -> None:
        self._backend = backend
        self._handlers = {
            **further,
            **AlarmEndpoints(backend).handlers(),
            **RuleEndpoints(backend).handlers(),
        }
        self._max_body_bytes = max_body_bytes
        self._document = contract.openapi()

    def app(self) -> web.Application:
        """The web application."""
        app = web.Application(middlewares=[_errors, self._admit], client_max_size=self._max_body_bytes)
        for endpoint in contract.ENDPOINTS:
            handler = self._handlers[endpoint.name]
            app.router.add_route(endpoint.method, endpoint.path, handler, name=endpoint.name)
        app.router.add_get("/openapi.json", self._openapi)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        return app

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Admit a request only with a key whose role suffices. The key's name is the actor of what is done."""
        if not request.path.startswith("/v1/"):
            return await handler(request)
        text = request.headers.get("X-API-Key") or _bearer(request.headers.get("Authorization", ""))
        key = await self._backend.query(self._backend.database.keys.find, text) if text else None
        if key is None:
            LEFT_OUT.labels(STAGE, "", "unauthorized").inc()
            raise RequestRefused(401, "unauthorized", "Invalid or missing API key")
        needed = _ROLES.get(request.match_info.route.name or "", KeyRole.READ)
        if not key.role.may(needed):
            LEFT_OUT.labels(STAGE, "", "forbidden").inc()
            raise RequestRefused(403, "forbidden", f"This takes a key of role {needed}; this key may {key.role}")
        request[ACTOR], request[ROLE] = key.name, key.role
        return await handler(request)

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.json_response(self._document)

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        problem = self._backend.ingest.problem()
        return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer all errors in one form, aiohttp's own too; 503 where Kafka or the database does not answer."""
    try:
        return await handler(request)
    except RequestRefused as refused:
        return refused.answer
    except KafkaAway:
        return unavailable().answer
    except SQLAlchemyError:
        return unavailable("The database").answer
    except web.HTTPException as refused:
        allowed = {"Allow": refused.headers["Allow"]} if "Allow" in refused.headers else None
        return error_response(refused.status, _CODES.get(refused.status, "error"), refused.reason, allowed)
    except (ConnectionError, web.RequestPayloadError):  # the client's doing: no line in the log
        raise
    except Exception:
        _log.exception("alarms: %s %s failed", request.method, request.path)
        return error_response(500, "internal", "Internal error; the service's log has the details")


def _bearer(header: str) -> str:
    scheme, _, key = header.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
