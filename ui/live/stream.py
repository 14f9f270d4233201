"""Server-sent events: one open answer per page."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiohttp import web

from ui.answers import json_bytes
from ui.live.hub import Hub, sse
from ui.live.reader import TopicReader
from ui.tables import PublishedTables

_TICK_SECONDS = 0.5
_STATE_SECONDS = 2.0
_WRITE_SECONDS = 20.0
MOST_VIEWERS = 500


class LiveStream:
    """Writes the hub's frames to browsers, and tells them how the pipeline is."""

    def __init__(self, hub: Hub, reader: TopicReader, tables: PublishedTables) -> None:
        self._hub, self._reader, self._tables = hub, reader, tables
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Pass on changes twice per second, and the state every two seconds, until cancelled."""
        announced = 0.0
        stamp = self._tables.stamp()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._hub.flush()
            now = time.monotonic()
            published = self._tables.stamp()
            if published != stamp or now - announced >= _STATE_SECONDS:
                stamp, announced = published, now
                self._hub.announce("state", self.state())

    def state(self) -> dict[str, Any]:
        """How the pipeline is, for the banner: the reader's problem, and how old things are."""
        stamp = self._tables.stamp()
        return {
            "now": int(time.time() * 1000),
            "problem": self._reader.problem,
            "published": stamp[1] // 1_000_000 if stamp else None,
            "newest": self._hub.newest_received or None,
            "viewers": len(self._hub.subscribers),
        }

    async def stop(self, _: web.Application) -> None:
        """End all open answers, so that the server can stop."""
        self._closing.set()
        for one in self._hub.subscribers:
            one.ready.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer with events until the browser leaves. 503 where too many pages are open."""
        if len(self._hub.subscribers) >= MOST_VIEWERS:
            raise web.HTTPServiceUnavailable
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        with self._hub.subscribed(request.query.get("device", "")) as subscriber:
            subscriber.offer(sse("state", json_bytes(self.state())))
            try:
                while not self._closing.is_set():
                    frames = await subscriber.take(_STATE_SECONDS * 5)
                    async with asyncio.timeout(_WRITE_SECONDS):  # a viewer that takes nothing loses the connection
                        await response.write(frames or b": still here\n\n")
            except (ConnectionError, TimeoutError):
                pass
        return response
