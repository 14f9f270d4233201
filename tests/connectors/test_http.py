"""Vendors' REST: what a body of any size comes to."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
from aiohttp import web

from connectors.common.http_client import FixedHeaders, RestClient


async def test_an_answer_is_read_whole_however_it_arrives(unused_port: Callable[[], int]) -> None:
    body = b"x" * 3_000_000

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(body), 500_000):
            await response.write(body[start : start + 500_000])
        await response.write_eof()
        return response

    app, port = web.Application(), unused_port()
    app.router.add_get("/big", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with aiohttp.ClientSession() as http:
            rest = RestClient(http, f"http://127.0.0.1:{port}", FixedHeaders())
            assert await rest.get("/big") == body
    finally:
        await runner.cleanup()
