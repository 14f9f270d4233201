"""Dead letters of REST answers, and of entries of lists, that cannot be used: once each, however often they come."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from connectors.common.clock import utc_now
from connectors.common.dead_letters import MessageSource, dead_letter
from connectors.common.entrance import Refusal
from connectors.common.publisher import Publisher
from schemas.wire import Problem

_MOST_ENTRIES = 1000
"""Entries that are remembered; one that was forgotten is published once more."""


class UnusableAnswers:
    """Publishes the dead letters of one vendor's answers. Without a publisher, nothing is published.

    An answer is published once per request, until the same request is answered usably again; an entry once per content.
    `refuse` makes the dead letters.
    """

    def __init__(self, vendor: str, publisher: Publisher | None, refuse: Refusal = dead_letter) -> None:
        self._vendor = vendor
        self._publisher = publisher
        self._refuse = refuse
        self._requests: set[str] = set()
        self._entries: OrderedDict[str, None] = OrderedDict()

    async def answer(self, endpoint: str, request: str, body: bytes, error: Exception) -> None:
        """The whole answer to a request cannot be used."""
        if request not in self._requests:
            self._requests.add(request)
            await self._publish(endpoint, body, Problem("", "bad_answer", str(error)))

    def usable(self, request: str) -> None:
        """The answer to a request can be used."""
        self._requests.discard(request)

    async def entry(self, endpoint: str, entry: bytes, problem: Problem) -> None:
        """An entry of an endpoint's list cannot be used."""
        digest = f"{endpoint} {hashlib.sha256(entry).hexdigest()}"
        is_known = digest in self._entries
        self._entries[digest] = None
        self._entries.move_to_end(digest)
        while len(self._entries) > _MOST_ENTRIES:
            self._entries.popitem(last=False)
        if not is_known:
            await self._publish(endpoint, entry, problem)

    async def _publish(self, endpoint: str, payload: bytes, problem: Problem) -> None:
        if self._publisher is not None:
            source = MessageSource(self._vendor, f"{self._vendor}.{endpoint}", utc_now())
            await self._publisher.dead_letter_soon(self._refuse(payload, source, problem))
