"""Our HTTP servers over TLS: real sockets and certificates; what is wrong is refused, limits count from the start."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import web

import runtime.http_tls
from runtime.errors import StageError
from runtime.http_limits import ServerLimits
from runtime.http_server import check_port, serving
from tests.support.certificates import Certificates
from tests.support.waiting import eventually


@asynccontextmanager
async def served(certificates: Certificates, **limits: Any) -> AsyncIterator[int]:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read(), headers={"X-Scheme": request.scheme})

    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/", echo)
    options = ServerLimits.model_validate({"certificate_file": certificates.server, **limits})
    async with serving(app, "127.0.0.1", 0, "test", options) as port:
        yield port


async def post(port: int, authority: Path | None, host: str = "localhost", body: bytes = b"x") -> str:
    """What the client makes of the answer: `scheme length`, or its error."""
    context = ssl.create_default_context(cafile=str(authority) if authority else None)
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
            session.post(f"https://{host}:{port}/", data=body, ssl=context) as answer,
        ):
            return f"{answer.headers['X-Scheme']} {len(await answer.read())}"
    except aiohttp.ClientError as error:
        return str(error)


@pytest.fixture
def own(tmp_path: Path) -> Certificates:
    return Certificates.issue(tmp_path / "own")


async def test_a_client_that_trusts_the_authority_is_served_and_no_other(own: Certificates, tmp_path: Path) -> None:
    foreign = Certificates.issue(tmp_path / "foreign")
    async with served(own) as port:
        assert await post(port, own.authority) == "https 1"
        assert await post(port, own.authority, body=b"y" * (4 << 20)) == f"https {4 << 20}"
        assert "certificate verify failed: unable to get local issuer" in await post(port, foreign.authority)
        assert "certificate verify failed" in await post(port, None)
        assert "IP address mismatch" in await post(port, own.authority, "127.0.0.1")
        assert await post(port, own.authority) == "https 1"


def test_the_same_under_uvloop(own: Certificates) -> None:
    async def run() -> str:
        async with served(own) as port:
            return await post(port, own.authority, body=b"y" * 100_000)

    assert uvloop.run(run()) == "https 100000"


async def test_plain_http_and_noise_are_refused_and_logged_once(
    own: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(own) as port:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
            answer = await asyncio.wait_for(asyncio.gather(reader.read(), return_exceptions=True), 30)
            assert isinstance(answer[0], ConnectionError) or b"200" not in answer[0]
            writer.close()
        assert await post(port, own.authority) == "https 1"
    assert caplog.text.count("TLS handshake failed") == 1


async def test_clients_that_never_begin_a_handshake_are_counted_and_cut_off(own: Certificates) -> None:
    async with served(own, max_connections_per_address=2, header_seconds=1) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        assert "https" not in await post(port, own.authority)  # beyond the limit
        for reader, writer in silent:
            assert await asyncio.wait_for(asyncio.gather(reader.read(), return_exceptions=True), 30)
            writer.close()
        await eventually(lambda: _is(post(port, own.authority), "https 1"))


async def _is(made: Any, expected: str) -> bool:
    return bool(await made == expected)


async def test_a_renewed_certificate_is_used_without_a_restart(
    own: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime.http_tls, "_LOOK_SECONDS", 0.0)
    renewed = Certificates.issue(tmp_path / "renewed")
    async with served(own) as port:
        assert await post(port, own.authority) == "https 1"
        own.server.write_bytes(b"half written")
        assert await post(port, own.authority) == "https 1"
        assert "the certificate before stays in use: test: certificate_file: " in caplog.text
        os.replace(renewed.server, own.server)
        assert await post(port, renewed.authority) == "https 1"


async def test_a_certificate_that_cannot_be_used_is_named(own: Certificates, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"test: certificate_file: .*absent.pem: no such file"):
        async with served(own, certificate_file=tmp_path / "absent.pem"):
            pass


async def test_the_check_knows_its_own_server_over_tls(own: Certificates) -> None:
    async with served(own) as port:
        result = await check_port("a port", "127.0.0.1", port, "test")
        assert (result.ok, result.detail) == (True, f"127.0.0.1:{port}: test serves there")
