"""When a running process counts as broken: so many failed probes in a row, more of them before its first answer."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from fleetlake.local.liveness import LivenessLimits, LivenessRecord, probe_liveness
from runtime.http_server import serving

LIMITS = LivenessLimits(failures=3, start_failures=5)


def test_failures_in_a_row_count_and_an_answer_starts_anew() -> None:
    record = LivenessRecord(LIMITS)
    outcomes = [None, "x", "x", None, "x", "x", "x"]
    assert [record.observe(problem) for problem in outcomes] == [False] * 6 + [True]


def test_a_process_that_has_not_answered_yet_may_take_longer() -> None:
    record = LivenessRecord(LIMITS)
    assert [record.observe("x") for _ in range(5)] == [False] * 4 + [True]


async def test_probe_gives_the_reason_of_a_503_and_of_a_closed_port(unused_port: Callable[[], int]) -> None:
    answers = {"text": "ok\n", "status": 200}

    async def livez(_: web.Request) -> web.Response:
        return web.Response(**answers)

    app = web.Application()
    app.router.add_get("/livez", livez)
    async with serving(app, "127.0.0.2", 0, "test") as port:
        base = f"http://127.0.0.2:{port}"
        assert await probe_liveness(base, 5) is None
        answers = {"text": "the fetcher is dead\n", "status": 503}
        assert await probe_liveness(base, 5) == "the fetcher is dead"
    assert "does not answer" in str(await probe_liveness(f"http://127.0.0.1:{unused_port()}", 5))
