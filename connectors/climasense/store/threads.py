"""The store, called from the event loop in threads, so that a slow disk delays only the request that waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from connectors.climasense.store.store import Store
from runtime.database import reason

_log = logging.getLogger(__name__)
_THREADS = 4

P = ParamSpec("P")
T = TypeVar("T")


class StoreThreads:
    """Runs the store's methods in a few threads, and logs once when the database goes away or comes back."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.problem: str | None = None
        self._threads = ThreadPoolExecutor(_THREADS, "climasense-db")

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of `call`. SQLAlchemyError where the database is away; other errors as the method says."""
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))
        except SQLAlchemyError as error:
            if self.problem is None:
                _log.warning(
                    "climasense: the database is away (%s); devices are asked to try again later", reason(error)
                )
            self.problem = f"climasense: the database is away: {reason(error)}"
            raise
        if self.problem is not None:
            _log.info("climasense: the database is back")
            self.problem = None
        return result

    def close(self) -> None:
        """Wait for running calls and close the connections."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.store.close()
