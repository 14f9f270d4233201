"""The REST API of a Kärcher account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from connectors.common.http_client import RestClient
from connectors.common.oauth2 import BearerAuthorization, ClientCredentials, TokenSource
from connectors.common.publisher import Publisher
from connectors.common.rate_limits import SharedLimiter, shared_limiter
from connectors.common.unusable_answers import UnusableAnswers
from connectors.karcher import protocol
from connectors.karcher.protocol import AnswerError, Machine, Page
from connectors.karcher.settings import KarcherSettings
from schemas.device import quote_id

PAGE_SIZE = "100"


@dataclass
class Cloud:
    """One account. Requests keep to the documented limits, which hold for all processes of the host together."""

    settings: KarcherSettings
    tokens: TokenSource
    rest: RestClient
    unusable: UnusableAnswers

    async def pages(self, path: str, params: dict[str, str], endpoint: str) -> AsyncIterator[Page]:
        """The pages of a list, one after the other. VendorError, AnswerError."""
        query = {"limit": PAGE_SIZE, **params}
        seen: set[str] = set()
        while True:
            page = await self._page(path, query, endpoint)
            yield page
            if page.next_cursor is None or page.next_cursor in seen:  # a repeated cursor would never end
                return
            seen.add(page.next_cursor)
            query["cursor"] = page.next_cursor

    async def statuses(self, machine_ids: list[str]) -> Page:
        """The statuses of at most ten machines, and errors for the machines without one."""
        params = {"machineIds": ",".join(machine_ids)}
        return await self._page(self.settings.statuses_path, params, "statuses")

    async def _page(self, path: str, params: dict[str, str], endpoint: str) -> Page:
        """One page. One that cannot be read is a dead letter, and raises AnswerError."""
        request = f"{path} {params.get('machineIds', '')}"
        body = await self.rest.get(path, params, endpoint)
        try:
            page = protocol.read_page(body)
        except AnswerError as error:
            await self.unusable.answer(endpoint, request, body, error)
            raise
        self.unusable.usable(request)
        return page

    def executions(self, machine: Machine) -> AsyncIterator[Page]:
        """A machine's history of commands, newest first."""
        path = self.settings.executions_path.format(
            material=quote_id(machine.material_number), serial=quote_id(machine.serial_number)
        )
        return self.pages(path, {"sort": "desc"}, "commands")

    async def execution(self, execution_id: str) -> bytes:
        """The details of one execution. All command endpoints together have one limit: 5 requests per second."""
        return await self.rest.get(
            self.settings.execution_path.format(execution=quote_id(execution_id)), endpoint="commands"
        )


def open_cloud(
    settings: KarcherSettings, http: aiohttp.ClientSession, state_dir: Path, publisher: Publisher | None = None
) -> Cloud:
    """The account of these settings. Requests nothing. Dead letters of its answers go to the publisher, if any."""
    urls = settings.urls
    limit = settings.token_requests_per_10_minutes
    # One second more than ten minutes, for the vendor's clock and the network's delay.
    limiter = shared_limiter(state_dir, f"karcher-token-{settings.client_id}", limit, 601)
    credentials = ClientCredentials(urls.token, settings.client_id, settings.client_secret, settings.scope)
    tokens = TokenSource(http, credentials, limiter, "karcher")
    limiters: dict[str, SharedLimiter] = {}

    def limiter_of(endpoint: str) -> SharedLimiter:
        if endpoint not in limiters:
            name = f"karcher-{endpoint}-{settings.client_id}"
            limiters[endpoint] = shared_limiter(state_dir, name, settings.requests_per_second, 1.1)
        return limiters[endpoint]

    rest = RestClient(http, urls.api, BearerAuthorization(tokens), limiter_of)
    return Cloud(settings, tokens, rest, UnusableAnswers(protocol.VENDOR, publisher))
