"""Signing in and out, and what a browser has to know of this page."""

from __future__ import annotations

import msgspec
from aiohttp import web

from schemas.words import KeyRole
from ui.answers import RequestRefused, json_response, read_body
from ui.endpoints.alarms import VIEWER
from ui.sessions import COOKIE, Sessions
from ui.settings import UiSettings


class SignIn(msgspec.Struct, forbid_unknown_fields=True):
    """A key of the alarm service."""

    key: str


class SessionEndpoints:
    """Sign-in by a key, which becomes a cookie that scripts cannot read and other sites cannot send."""

    def __init__(self, settings: UiSettings, sessions: Sessions) -> None:
        self._settings, self._sessions = settings, sessions

    async def session(self, request: web.Request) -> web.Response:
        """Who has signed in, and the settings that the page needs."""
        viewer = request[VIEWER]
        content = {
            "name": viewer.name,
            "role": viewer.role,
            "may_act": viewer.role.may(KeyRole.OPERATE),
            "sign_in": self._settings.sign_in,
            "tile_url": self._settings.tile_url,
            "tile_attribution": self._settings.tile_attribution,
            "query_rows": self._settings.query_rows,
            "query_seconds": self._settings.query_seconds,
        }
        return await json_response(request, content)

    async def sign_in(self, request: web.Request) -> web.Response:
        """Begin a session. 401 where the key is not in force."""
        body = await read_body(request, SignIn)
        begun = await self._sessions.begin(body.key.strip())
        if begun is None:
            raise RequestRefused(401, "unauthorized", "This key is not in force")
        secret, viewer = begun
        response = await json_response(request, {"name": viewer.name, "role": viewer.role})
        response.set_cookie(
            COOKIE,
            secret,
            max_age=int(self._settings.session_hours * 3600),
            httponly=True,
            samesite="Strict",
            secure=request.secure or self._settings.public_url.startswith("https:"),
            path="/",
        )
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        """End the session."""
        self._sessions.end(request.cookies.get(COOKIE, ""))
        response = await json_response(request, {})
        response.del_cookie(COOKIE, path="/")
        return response
