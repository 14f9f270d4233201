"""Whoever reaches a port can hold neither descriptors nor the event loop, nor fill the log. Real sockets."""

from __future__ import annotations

import asyncio
import gzip
import logging
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from runtime.http_body import read_whole
from runtime.http_limits import ServerLimits
from runtime.http_server import serving
from tests.support.waiting import eventually, passing

LIMIT = 100_000
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"


@dataclass
class Served:
    port: int
    bodies: list[bytes] = field(default_factory=list)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answer(self, sent: bytes) -> bytes:
        """What a connection answers until it is closed."""
        reader, writer = await self.connect()
        writer.write(sent)
        try:
            return await asyncio.wait_for(reader.read(), 30)
        except ConnectionResetError:
            return b"reset"
        finally:
            writer.close()


@asynccontextmanager
async def served(**limits: float) -> AsyncIterator[Served]:
    made = Served(0)

    async def take(request: web.Request) -> web.Response:
        if request.headers.get("X-Key") == "wrong":
            return web.Response(status=401)
        made.bodies.append(await read_whole(request, LIMIT))
        return web.Response(text="taken")

    app = web.Application()
    app.router.add_post("/", take)
    async with serving(app, "127.0.0.1", 0, "test", ServerLimits.model_validate(limits)) as made.port:
        yield made


async def post(server: Served, data: bytes, **headers: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{server.port}/", data=data, headers=headers) as answer,
    ):
        return answer.status


async def test_connections_beyond_the_limit_get_503_and_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    async with served(max_connections=5) as server, AsyncExitStack() as stack:
        idle = [await server.connect() for _ in range(5)]
        for _, writer in idle:
            stack.callback(writer.close)
        for _ in range(3):
            answer = await server.answer(b"")
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: 5" in answer
        idle[0][1].close()

        async def admitted() -> bool:
            return await post(server, b"x") == 200

        await eventually(admitted)
    assert len([r for r in caplog.records if "refusing further ones" in r.getMessage()]) == 1, "one line, not three"


async def test_one_address_cannot_take_all_connections() -> None:
    async with served(max_connections=50, max_connections_per_address=2) as server, AsyncExitStack() as stack:
        for _ in range(2):
            stack.callback((await server.connect())[1].close)
        assert (await server.answer(b"")).startswith(b"HTTP/1.1 503 ")
        _, other = await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.0.2", 0))
        stack.callback(other.close)
        reader, other = await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.0.2", 0))
        stack.callback(other.close)
        other.write(HEAD + b"Connection: close\r\n\r\n0123456789")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [b"", b"POST / HT", HEAD], ids=["nothing", "half a line", "half a head"])
async def test_a_head_that_never_ends_is_cut_off(sent: bytes) -> None:
    async with served(header_seconds=0.3, idle_seconds=600) as server:
        assert await server.answer(sent) in (b"", b"reset")


async def test_a_head_sent_byte_by_byte_is_cut_off_on_a_connection_that_was_used_before() -> None:
    async with served(header_seconds=0.5, idle_seconds=600) as server:
        reader, writer = await server.connect()
        writer.write(HEAD + b"\r\n0123456789")
        assert (await reader.readuntil(b"taken")).startswith(b"HTTP/1.1 200 ")

        async def drip() -> None:
            for byte in b"POST / HTTP/1.1\r\n" + b"x" * 10_000:
                writer.write(bytes([byte]))
                await passing(0.05, "the pace of a slow sender")

        dripping = asyncio.create_task(drip())
        try:
            assert await asyncio.wait_for(reader.read(), 20) == b""
        except ConnectionResetError:
            pass
        finally:
            dripping.cancel()
            writer.close()


async def test_a_body_that_never_ends_gets_408(caplog: pytest.LogCaptureFixture) -> None:
    async with served(body_seconds=0.3) as server:
        assert (await server.answer(HEAD + b"\r\n012")).startswith(b"HTTP/1.1 408 ")
        assert await post(server, b"x") == 200
    assert not server.bodies[1:]
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]


async def test_an_idle_connection_is_closed() -> None:
    async with served(idle_seconds=0.3, header_seconds=600) as server:
        assert (await server.answer(HEAD + b"\r\n0123456789")).endswith(b"taken")


async def test_garbage_is_one_line_of_log_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with served() as server:
        for sent in (
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"GET / HTTP/9.9\r\n\r\n",
            b"A" * 20_000,
            HEAD + b"B\0d: x\r\n\r\n",
        ):
            for _ in range(5):
                await server.answer(sent)
        reader, writer = await server.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
    assert len([record for record in caplog.records if "not HTTP" in record.getMessage()]) == 1
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_refused_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(200_000_000))
    async with served() as server:
        longest = 0.0

        async def measure() -> None:
            nonlocal longest
            loop = asyncio.get_running_loop()
            while True:
                before = loop.time()
                await passing(0.005, "how long this really takes is measured")
                longest = max(longest, loop.time() - before)

        measuring = asyncio.create_task(measure())
        assert await post(server, bomb, **{"X-Key": "wrong", "Content-Encoding": "gzip"}) == 401
        assert await post(server, bomb, **{"Content-Encoding": "gzip"}) == 413
        measuring.cancel()
        assert longest < 0.5
        assert not server.bodies


async def test_compressed_bodies_are_read_and_wrong_ones_refused() -> None:
    body = b'{"a": 1}' * 1000
    async with served() as server:
        assert await post(server, gzip.compress(body), **{"Content-Encoding": "gzip"}) == 200
        assert await post(server, zlib.compress(body), **{"Content-Encoding": "deflate"}) == 200
        assert server.bodies == [body, body]
        assert await post(server, body, **{"Content-Encoding": "gzip"}) == 400
        assert await post(server, gzip.compress(body)[:-9], **{"Content-Encoding": "gzip"}) == 400
        assert await post(server, body, **{"Content-Encoding": "br"}) == 400
        assert await post(server, gzip.compress(bytes(LIMIT + 1)), **{"Content-Encoding": "gzip"}) == 413


async def test_the_limit_of_connections_leaves_descriptors_for_the_rest_of_the_process() -> None:
    import resource

    from runtime.http_server import _within_descriptors

    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert _within_descriptors(ServerLimits(max_connections=10**9)).max_connections == descriptors // 4
    assert _within_descriptors(ServerLimits(max_connections=3)).max_connections == 3
