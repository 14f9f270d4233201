"""What a vendor's REST answers come to: retries, renewed authorization, limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from connectors.common.clock import utc_now
from connectors.common.http_client import FixedHeaders, RestClient, VendorError, retry_after_seconds
from connectors.common.rate_limits import SharedLimiter
from simulators.net import serve


class Renewing:
    """An authorization whose headers are another one after each refusal."""

    def __init__(self) -> None:
        self.refusals = 0

    async def headers(self) -> dict[str, str]:
        return {"Authorization": f"token {self.refusals}"}

    def refused(self, headers: Mapping[str, str]) -> None:
        assert headers["Authorization"] == f"token {self.refusals}"
        self.refusals += 1


class Answers:
    """Answers one request after the other with a status and headers; the last one again and again."""

    def __init__(self, *answers: tuple[int, dict[str, str]] | int) -> None:
        self._answers = [answer if isinstance(answer, tuple) else (answer, {}) for answer in answers]
        self.requests: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request.headers.get("Authorization", ""))
        status, headers = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return web.Response(status=status, headers=headers, text='{"message": "Not entitled", "name": "A Person"}')


@asynccontextmanager
async def client(answers: Answers, authorization: Renewing | FixedHeaders | None = None) -> AsyncIterator[RestClient]:
    app = web.Application()
    app.router.add_get("/x", answers.answer)
    async with serve(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        rest = RestClient(http, f"http://127.0.0.1:{port}", authorization or FixedHeaders())
        rest._backoff_base = 0.001
        yield rest


async def test_a_refused_token_is_renewed_once() -> None:
    answers, authorization = Answers(401, 200), Renewing()
    async with client(answers, authorization) as rest:
        assert await rest.get("/x")
    assert answers.requests == ["token 0", "token 1"]
    answers, authorization = Answers(401), Renewing()
    async with client(answers, authorization) as rest:
        with pytest.raises(VendorError) as error:
            await rest.get("/x", endpoint="things")
    assert error.value.status == 401 and len(answers.requests) == 2 and authorization.refusals == 1


@pytest.mark.parametrize("status", [500, 503])
async def test_a_broken_server_is_asked_four_times_in_all(status: int) -> None:
    answers = Answers(status, status, status, 200)
    async with client(answers) as rest:
        assert await rest.get("/x")
    answers = Answers(status)
    async with client(answers) as rest:
        with pytest.raises(VendorError, match=f"things: HTTP {status}"):
            await rest.get("/x", endpoint="things")
    assert len(answers.requests) == 4


@pytest.mark.parametrize("status", [400, 403, 404, 301])
async def test_any_other_status_is_an_error_at_once_without_the_vendors_personal_words(status: int) -> None:
    answers = Answers((status, {"Location": "/elsewhere"}))
    async with client(answers) as rest:
        with pytest.raises(VendorError) as error:
            await rest.get("/x")
    assert error.value.status == status and len(answers.requests) == 1
    assert str(error.value).startswith(f"/x: HTTP {status}, Not entitled") and "Person" not in str(error.value)


async def test_too_many_requests_hold_all_users_of_the_limiter(tmp_path: Path) -> None:
    now, waits = [1000.0], []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    limiter = SharedLimiter(tmp_path / "limit.json", 5, 60.0, lambda: now[0], sleep)
    answers = Answers((429, {"Retry-After": "0"}), (429, {"Retry-After": "0"}), 200)
    async with client(answers) as rest:
        rest.limiter = lambda endpoint: limiter
        assert await rest.get("/x")
    assert len(answers.requests) == 3
    limiter.hold(30.0)
    await limiter.acquire()
    assert waits[-1] == pytest.approx(30.0, abs=0.01)


async def test_no_answer_is_a_vendor_error_without_a_status(unused_port: Callable[[], int]) -> None:
    async with aiohttp.ClientSession() as http:
        rest = RestClient(http, f"http://127.0.0.1:{unused_port()}", FixedHeaders(), attempts=1)
        with pytest.raises(VendorError, match="/x: no answer") as error:
            await rest.get("/x")
    assert error.value.status is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("", 1.5), ("soon", 1.5), ("-3", 1.5), ("999999", 3600.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
)
def test_retry_after(text: str, seconds: float) -> None:
    assert retry_after_seconds({"Retry-After": text}, default=1.5) == seconds


def test_retry_after_as_a_date() -> None:
    date = format_datetime(utc_now() + timedelta(seconds=100), usegmt=True)
    assert 98 <= retry_after_seconds({"Retry-After": date}, default=1.0) <= 100


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
