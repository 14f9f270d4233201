"""`/livez`, `/readyz`, `/metrics` and `/details` of a stage, on a port of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from runtime.http_limits import DEFAULT_LIMITS
from runtime.http_server import LimitedServer

Probe = Callable[[], str | None]
"""Returns what is wrong, or None."""


@dataclass
class Health:
    """The health of a stage. Probes return at once; they never do I/O."""

    stage: str
    live: list[Probe] = field(default_factory=list)
    ready: list[Probe] = field(default_factory=list)
    details: dict[str, Callable[[], Any]] = field(default_factory=dict)
    """What `/details` shows beyond figures, by name: for the live page. No secrets, and nothing long."""

    def live_problems(self) -> list[str]:
        """Why the process should be restarted; empty if it should not."""
        return [problem for probe in self.live if (problem := probe())]

    def ready_problems(self) -> list[str]:
        """Why the stage does not work yet; empty if it does."""
        return self.live_problems() + [problem for probe in self.ready if (problem := probe())]


class HealthServer:
    """Serves a stage's health on `host:port`. Port 0 picks a free port, and -1 serves nothing."""

    def __init__(self, health: Health, host: str, port: int) -> None:
        self._health = health
        self._host = host
        self._port = port
        self._server: LimitedServer | None = None

    @property
    def url(self) -> str:
        """The base URL; empty while it does not serve."""
        if self._server is None:
            return ""
        host, port = self._server.address
        return f"http://{host}:{port}"

    async def start(self) -> None:
        """Bind and serve. OSError names the address if it is taken."""
        if self._port < 0:
            return
        app = web.Application()
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/details", self._details),
            ]
        )
        server = LimitedServer(app, DEFAULT_LIMITS, f"{self._health.stage} health")
        await server.start(self._host, self._port)
        self._server = server

    async def stop(self) -> None:
        """Stop serving. Harmless if it never did."""
        if self._server is not None:
            await self._server.stop()
            self._server = None

    async def _livez(self, _: web.Request) -> web.Response:
        return _answer(self._health.live_problems())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self._health.ready_problems())

    async def _details(self, _: web.Request) -> web.Response:
        return web.json_response({name: detail() for name, detail in self._health.details.items()})

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _answer(problems: list[str]) -> web.Response:
    return web.Response(text="\n".join(problems) + "\n", status=503) if problems else web.Response(text="ok\n")
