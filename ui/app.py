"""The web application: routes, who may, where requests come from, headers and errors."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import duckdb
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from schemas.words import KeyRole
from ui.answers import RequestRefused, refusal_response
from ui.backend import Backend
from ui.endpoints.alarms import VIEWER, AlarmEndpoints
from ui.endpoints.ask import AskEndpoints
from ui.endpoints.device import DeviceEndpoints
from ui.endpoints.fleet import FleetEndpoints
from ui.endpoints.pipeline import PipelineEndpoints
from ui.endpoints.session import SessionEndpoints
from ui.files import StaticFiles
from ui.live.stream import LiveStream
from ui.sessions import COOKIE, Sessions, Viewer
from ui.settings import UiSettings
from ui.tables import NothingPublished, TooSlow

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PAGES = ("/", "/fleet", "/map", "/device", "/alarms", "/pipeline", "/ask")
"""The addresses of the page. What they show stands behind the question mark."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ANYBODY = Viewer("viewer", KeyRole.OPERATE)
_OPEN = ("/api/sign-in", "/livez")
_MAX_BODY_BYTES = 256 * 1024


@dataclass(frozen=True)
class Gate:
    """Decides which requests are served: by session, by origin, and by the host that they name."""

    settings: UiSettings
    sessions: Sessions

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve files to everybody, and the rest to those who may."""
        self._check_host(request)
        if request.method not in ("GET", "HEAD"):
            self._check_origin(request)
        if not request.path.startswith("/api/") or request.path in _OPEN:
            return await handler(request)
        viewer = await self._viewer(request)
        needed = KeyRole.OPERATE if request.path == "/api/alarms/act" else KeyRole.READ
        if not viewer.role.may(needed):
            raise RequestRefused(403, "forbidden", f"This takes a key of role {needed}; this key may {viewer.role}")
        request[VIEWER] = viewer
        return await handler(request)

    async def _viewer(self, request: web.Request) -> Viewer:
        if not self.settings.sign_in:
            return _ANYBODY
        viewer = await self.sessions.viewer(request.cookies.get(COOKIE, ""))
        if viewer is None:
            raise RequestRefused(401, "unauthorized", "Sign in with a key of the alarm service")
        return viewer

    def _check_host(self, request: web.Request) -> None:
        """Without sign-in, a name that another site has pointed at this machine must not open the page."""
        if not self.settings.sign_in and urlsplit(f"//{request.host}").hostname not in LOOPBACK:
            raise RequestRefused(403, "forbidden", "This page is served on the loopback address only")

    def _check_origin(self, request: web.Request) -> None:
        """An action comes from this page: browsers say where a request comes from."""
        origin = urlsplit(request.headers.get("Origin", ""))  # "null", and none at all, have no host
        allowed = {request.host, urlsplit(self.settings.public_url).netloc} - {""}
        if origin.scheme not in ("http", "https") or origin.netloc not in allowed:
            raise RequestRefused(403, "forbidden", "This request does not come from the page itself")


class Headers:
    """The headers of every answer: what a browser may load, and that nobody may frame the page."""

    def __init__(self, settings: UiSettings) -> None:
        tiles = urlsplit(settings.tile_url)
        pictures = f" {tiles.scheme}://{tiles.netloc.replace('{s}', '*')}" if settings.tile_url else ""
        self._headers = {
            "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
            f"img-src 'self' data:{pictures}; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
            "frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
        }

    async def add(self, _: web.Request, response: web.StreamResponse) -> None:
        """Add them to an answer."""
        response.headers.update(self._headers)


def make_app(backend: Backend, sessions: Sessions, stream: LiveStream) -> web.Application:
    """The application."""
    gate = Gate(backend.settings, sessions)
    app = web.Application(middlewares=[_errors, gate.admit], client_max_size=_MAX_BODY_BYTES)
    app.on_response_prepare.append(Headers(backend.settings).add)
    app.on_shutdown.append(stream.stop)
    session, alarms = SessionEndpoints(backend.settings, sessions), AlarmEndpoints(backend)
    fleet, device, ask = FleetEndpoints(backend), DeviceEndpoints(backend), AskEndpoints(backend)
    pipeline = PipelineEndpoints(backend, stream)
    for path, handler in {
        "/api/session": session.session,
        "/api/fleet": fleet.fleet,
        "/api/trails": fleet.trails,
        "/api/device": device.device,
        "/api/series": device.series,
        "/api/timeline": device.timeline,
        "/api/raw": device.raw,
        "/api/dead-letters": device.dead_letters,
        "/api/download": device.download,
        "/api/alarms": alarms.alarms,
        "/api/alarm": alarms.alarm,
        "/api/pipeline": pipeline.pipeline,
        "/api/doctor": pipeline.doctor,
        "/api/schema": ask.schema,
        "/api/live": stream.serve,
        "/livez": _livez,
    }.items():
        app.router.add_get(path, handler, allow_head=False)
    for path, handler in {
        "/api/sign-in": session.sign_in,
        "/api/sign-out": session.sign_out,
        "/api/alarms/act": alarms.act,
        "/api/rules/try": alarms.try_rule,
        "/api/ask": ask.ask,
        "/api/ask/cancel": ask.cancel,
    }.items():
        app.router.add_post(path, handler)
    _add_files(app, StaticFiles())
    return app


def _add_files(app: web.Application, files: StaticFiles) -> None:
    async def page(request: web.Request) -> web.Response:
        return files.page(request)

    async def file(request: web.Request) -> web.Response:
        return files.file(request)

    for path in PAGES:
        app.router.add_get(path, page)
    app.router.add_get("/static/{path:.+}", file)


async def _livez(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer all errors in one form."""
    try:
        return await handler(request)
    except RequestRefused as refused:
        return refusal_response(refused)
    except NothingPublished:
        return _error(503, "nothing_published", "Nothing has been published yet: the pipeline writes its first tables")
    except TooSlow:
        return _error(503, "too_slow", "The tables took too long to answer; choose a shorter range")
    except SQLAlchemyError:
        return _error(503, "unavailable", "The database of keys does not answer; try again later")
    except duckdb.Error as error:
        _log.warning("ui: %s failed: %s", request.path, error)
        return _error(503, "unavailable", "The tables could not be read; try again in a moment")
    except web.HTTPException as refused:
        return _error(refused.status, "error", refused.reason)
    except ConnectionError:
        raise
    except Exception:
        _log.exception("ui: %s %s failed", request.method, request.path)
        return _error(500, "internal", "Internal error; the log of the stage `ui` has the details")


def _error(status: int, code: str, message: str) -> web.Response:
    return refusal_response(RequestRefused(status, code, message))
