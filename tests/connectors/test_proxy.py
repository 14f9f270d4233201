"""Redirects and proxies: tokens go to the configured origin, through the proxy of the environment, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from connectors.common.connection_state import ConnectionState, Gap
from connectors.common.http_client import FixedHeaders, RestClient, VendorError
from connectors.common.websocket import SocketOptions, WebSocketReader
from runtime.checks import unreachable
from runtime.proxy import ProxySettingError, proxy_for
from simulators.net import serve
from tests.support.waiting import eventually

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "wss://localhost/x", "ws://[::1]:8/x", "https://a.localhost."])
def test_loopback_is_never_reached_through_a_proxy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES[:3]:
        monkeypatch.setenv(name, "http://proxy.example:3128")
    assert proxy_for(url) is None


@pytest.mark.parametrize("scheme", ["https", "wss"])
async def test_a_check_goes_the_way_of_the_requests(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{scheme}://cloud.invalid/x"
    assert await unreachable(url) is not None
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:3128")
    assert await unreachable(url) is None, "the proxy stands between"
    monkeypatch.setenv("ALL_PROXY", "socks5://name:secret@proxy.example")
    why = await unreachable(url)
    assert why is not None and "ALL_PROXY" in why and "secret" not in why


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://cloud.example/x", "http://secure.example:1"),
        ("wss://cloud.example/x", "http://secure.example:1"),
        ("ws://cloud.example/x", "http://plain.example:2"),
        ("http://cloud.example:8080", "http://plain.example:2"),
        ("https://inside.example", None),
        ("https://a.inside.example", None),
    ],
)
def test_one_policy_for_rest_and_sockets(url: str, expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "secure.example:1")
    monkeypatch.setenv("HTTP_PROXY", "http://plain.example:2")
    monkeypatch.setenv("NO_PROXY", "other.example,.inside.example,inside.example")
    assert proxy_for(url) == expected


@pytest.mark.parametrize("value", ["socks5://user:hidden@h:1", "http://", "http://h:hidden", "ftp://hidden@h:21"])
def test_a_bad_proxy_is_a_message_without_its_password(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ProxySettingError, match="HTTPS_PROXY") as error:
        proxy_for("https://cloud.example")
    assert "hidden" not in str(error.value)


class Silent:
    """A socket's handler that notes how handshakes were refused."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.messages: list[bytes] = []
        self.refused: list[int] = []

    async def url(self) -> str:
        return self._url

    async def on_message(self, payload: bytes) -> None:
        self.messages.append(payload)

    async def on_gap(self, gap: Gap) -> None:
        pass

    async def on_refused(self, status: int) -> None:
        self.refused.append(status)


@asynccontextmanager
async def reading(handler: Silent) -> AsyncIterator[ConnectionState]:
    connection = ConnectionState("karcher", "websocket", "x")
    options = SocketOptions({"Authorization": "Bearer secret"})
    reader = WebSocketReader(connection, handler, asyncio.Semaphore(1), options)
    task = asyncio.create_task(reader.run())
    try:
        yield connection
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirected_socket_takes_the_token_nowhere(status: int) -> None:
    visits: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        visits.append(request.headers.get("Authorization", ""))
        return web.Response()

    async def redirect(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": f"ws://127.0.0.1:{other}/stolen"})

    target, origin = web.Application(), web.Application()
    target.router.add_get("/stolen", elsewhere)
    origin.router.add_get("/x", redirect)
    async with serve(target, "127.0.0.1", 0) as other, serve(origin, "127.0.0.1", 0) as port:
        handler = Silent(f"ws://127.0.0.1:{port}/x")
        async with reading(handler):
            await eventually(lambda: handler.refused)
    assert handler.refused[0] == status
    assert visits == []


@asynccontextmanager
async def proxy_server() -> AsyncIterator[tuple[int, list[str]]]:
    """A proxy that notes each request line, and lets nobody through."""
    lines: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines.append(head.split(b"\r\n")[0].decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], lines


async def test_rest_and_sockets_go_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy_server() as (port, lines), aiohttp.ClientSession() as http:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        assert await RestClient(http, "http://cloud.example", FixedHeaders()).get("/x") == b"{}"
        async with reading(Silent("ws://cloud.example/socket")):
            await eventually(lambda: len(lines) > 1)
    assert lines[0] == "GET http://cloud.example/x HTTP/1.1"
    assert lines[1] == "CONNECT cloud.example:80 HTTP/1.1"


async def test_sockets_on_loopback_connect_whatever_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def socket(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        await response.send_str("hello")
        await response.receive()
        return response

    app = web.Application()
    app.router.add_get("/x", socket)
    for name in VARIABLES[:3]:
        monkeypatch.setenv(name, "socks5://127.0.0.1:9")
    async with serve(app, "127.0.0.1", 0) as port:
        handler = Silent(f"ws://127.0.0.1:{port}/x")
        async with reading(handler):
            await eventually(lambda: handler.messages)
    assert handler.messages == [b"hello"]


async def test_a_bad_proxy_is_why_nothing_connects(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:hidden@127.0.0.1:9")
    async with aiohttp.ClientSession() as http:
        with pytest.raises(VendorError, match="HTTPS_PROXY: proxies of the kind socks5"):
            await RestClient(http, "https://cloud.example", FixedHeaders()).get("/x")
    async with reading(Silent("wss://cloud.example/socket")):
        await eventually(lambda: "HTTPS_PROXY" in caplog.text)
    assert "hidden" not in caplog.text
