"""Kafka as commands use it: the options of a client, and errors where no broker answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from fleetlake.errors import UserError

if TYPE_CHECKING:
    from fleetlake.config import Settings

T = TypeVar("T")


def kafka_client(settings: Settings) -> Mapping[str, Any]:
    """Options of a client of the configured Kafka. UserError where none is configured and none runs."""
    from fleetlake.local.stages import resolve_kafka
    from runtime.kafka import client_options

    return client_options(resolve_kafka(settings))


def run_on_kafka(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result. UserError where Kafka does not answer."""
    from aiokafka.errors import KafkaError

    try:
        return asyncio.run(coroutine)
    except (KafkaError, OSError) as error:
        raise UserError(f"Kafka does not answer: {error or type(error).__name__}") from error
