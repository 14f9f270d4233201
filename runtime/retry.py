"""Retrying with exponential, jittered, capped back-off: tenacity with the waiting times of `runtime.backoff`."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_never,
)
from tenacity.wait import wait_base

from runtime.backoff import backoff_seconds


class RetryAfter(Exception):
    """An attempt failed, and the other side says how many seconds to wait before the next one."""

    def __init__(self, message: str, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True)
class BackoffWait(wait_base):
    """Tenacity's waiting time by `backoff_seconds`; where the error is a RetryAfter with seconds, those instead."""

    base: float
    cap: float

    def __call__(self, retry_state: RetryCallState) -> float:
        """The seconds to wait before the next attempt."""
        outcome = retry_state.outcome
        error = outcome.exception() if outcome is not None else None
        if isinstance(error, RetryAfter) and error.seconds is not None:
            return error.seconds
        return backoff_seconds(retry_state.attempt_number, self.base, self.cap, random.random())


def retrying(
    *errors: type[Exception], base: float = 0.5, cap: float = 60.0, attempts: int | None = None
) -> AsyncRetrying:
    """The attempts of one operation until it succeeds, for `async for attempt in …: with attempt: …`.

    Retries the given errors only, `attempts` times in all (None: without end), then raises the last one. The waiting
    time doubles from `base` to `cap` seconds, less up to half of it as jitter.
    """
    return AsyncRetrying(
        retry=retry_if_exception_type(errors),
        wait=BackoffWait(base, cap),
        stop=stop_never if attempts is None else stop_after_attempt(attempts),
        reraise=True,
    )


def retrying_in_thread(
    *errors: type[Exception], pause: float, attempts: int, before_next: Callable[[], object]
) -> Retrying:
    """The attempts of one operation that blocks its thread, to be called with it.

    Retries the given errors only, `attempts` times in all, then raises the last one. Between two attempts it waits for
    about `pause` seconds, less up to half of it as jitter, and calls `before_next`.
    """

    def before(state: RetryCallState) -> None:
        if state.attempt_number > 1:
            before_next()

    return Retrying(
        retry=retry_if_exception_type(errors),
        wait=BackoffWait(pause, pause),
        stop=stop_after_attempt(attempts),
        before=before,
        reraise=True,
    )
