"""An hour of refusals in a moment: real requests to a simulated cloud, on a clock that is moved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from connectors.common.http_client import RestClient, VendorError
from connectors.common.oauth2 import BearerAuthorization, ClientCredentials, CredentialsError, TokenSource
from connectors.common.rate_limits import SharedLimiter
from simulators.faults import FaultSettings
from simulators.karcher import KarcherCloud
from simulators.net import serve
from simulators.settings import KarcherSimulator, SimulatorSettings

NAME = "fleetlake_token_requests_total"
START = 1_800_000_000.0


class HandClock:
    """Time that passes when somebody sleeps, or says so."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Account:
    """A connector's token and REST, with the times of the token requests."""

    def __init__(self, clock: HandClock, karcher: KarcherCloud, rest: RestClient, tokens: TokenSource) -> None:
        self.clock, self.karcher, self.rest, self.tokens = clock, karcher, rest, tokens
        self.asked: list[float] = []

    def most_in_10_minutes(self) -> int:
        return max((sum(1 for t in self.asked if at <= t < at + 600) for at in self.asked), default=0)


@asynccontextmanager
async def account(folder: Path, secret: str = "karcher-demo-secret") -> AsyncIterator[Account]:
    clock = HandClock()
    settings = SimulatorSettings(faults=FaultSettings.none(), karcher=KarcherSimulator(devices=1, rest_limit=10_000))
    karcher = KarcherCloud(settings, clock, lambda line: None)
    async with serve(karcher.app(), "127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        urls = karcher.endpoints("127.0.0.1", port)
        limiter = SharedLimiter(folder / "limit.json", 10, 601, clock, clock.sleep)
        credentials = ClientCredentials(urls["karcher.token_url"], "fleetlake-demo", SecretStr(secret))
        tokens = TokenSource(http, credentials, limiter, "karcher", clock)
        rest = RestClient(http, urls["karcher.rest_url"], BearerAuthorization(tokens))
        found = Account(clock, karcher, rest, tokens)
        allowed = karcher.tokens.limit.wait

        def count(key: str, now: float) -> float:
            found.asked.append(now)
            return allowed(key, now)

        karcher.tokens.limit.wait = count  # type: ignore[method-assign]
        yield found


async def poll_for_an_hour(account: Account) -> list[VendorError]:
    """Ask for the registry every five seconds; the errors."""
    errors = []
    while account.clock.now < START + 3600:
        try:
            await account.rest.get("/machines/specifications")
        except VendorError as error:
            errors.append(error)
        account.clock.now += 5
    return errors


async def test_an_hour_of_401_costs_few_tokens(tmp_path: Path) -> None:
    """Tokens are issued, and every request with them is refused."""
    async with account(tmp_path) as mine:
        mine.karcher.misbehaviour.refuse_tokens = True
        errors = await poll_for_an_hour(mine)
        assert len(errors) == 720 and {error.status for error in errors} == {401}
        assert mine.most_in_10_minutes() <= 10
        assert 2 <= len(mine.asked) <= 12
        mine.karcher.misbehaviour.refuse_tokens = False
        await mine.rest.get("/machines/specifications")  # works again at once: the tokens were good


def token_requests(outcome: str) -> float:
    return REGISTRY.get_sample_value(NAME, {"vendor": "karcher", "outcome": outcome}) or 0.0


async def test_an_hour_of_wrong_credentials_costs_few_requests(tmp_path: Path) -> None:
    before = token_requests("refused")
    async with account(tmp_path, secret="wrong") as mine:
        errors = await poll_for_an_hour(mine)
        assert all(isinstance(error, CredentialsError) for error in errors)
        assert mine.most_in_10_minutes() <= 10
        assert 2 <= len(mine.asked) <= 30
        assert mine.karcher.requests["token", 401] == len(mine.asked)
        assert token_requests("refused") - before == len(mine.asked)


@pytest.mark.parametrize("status", [429, 500])
async def test_an_hour_without_a_token_endpoint_costs_few_requests(tmp_path: Path, status: int) -> None:
    before = {outcome: token_requests(outcome) for outcome in ("limited", "failed", "granted")}
    async with account(tmp_path) as mine:
        mine.karcher.misbehaviour.answers["token"] = status
        errors = await poll_for_an_hour(mine)
        asked = sum(count for (what, _), count in mine.karcher.requests.items() if what == "token")
        assert errors and 2 <= asked <= 30
        outcome = "limited" if status == 429 else "failed"
        assert token_requests(outcome) - before[outcome] == asked
        mine.karcher.misbehaviour.answers.clear()
        mine.clock.now += 600
        await mine.rest.get("/machines/specifications")
        assert token_requests("granted") - before["granted"] == 1


async def test_a_thousand_callers_make_one_request(tmp_path: Path) -> None:
    async with account(tmp_path) as mine:
        tokens = await asyncio.gather(*(mine.tokens.token() for _ in range(1000)))
        assert len(set(tokens)) == 1 and len(mine.asked) == 1
    async with account(tmp_path / "wrong", secret="wrong") as mine:
        results = await asyncio.gather(*(mine.tokens.token() for _ in range(1000)), return_exceptions=True)
        assert all(isinstance(result, CredentialsError) for result in results) and len(mine.asked) == 1


async def test_a_token_is_renewed_before_it_ends(tmp_path: Path) -> None:
    async with account(tmp_path) as mine:
        errors = []
        while mine.clock.now < START + 3 * 3600:
            try:
                await mine.rest.get("/machines/specifications")
            except VendorError as error:
                errors.append(error)
            mine.clock.now += 20
        assert not errors and mine.karcher.requests["/machines/specifications", 401] == 0
        assert len(mine.asked) == 4
