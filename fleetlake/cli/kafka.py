"""Kafka as commands use it: the options of a client, and errors where no broker answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from fleetlake.errors import UserError

if TYPE_CHECKING:
    from fleetlake.config import Settings

T = TypeVar("T")


def run_on_kafka(settings: Settings, work: Callable[[Mapping[str, Any]], Coroutine[Any, Any, T]]) -> T:
    """Run `work` with the options of a client of the configured Kafka, and return its result.

    UserError where no Kafka is configured and none runs, and where it does not let us in, with the reason.
    """
    from aiokafka.errors import KafkaError

    from fleetlake.stages import resolve_kafka
    from runtime.kafka import client_options
    from runtime.kafka_problem import connection_problem

    client = client_options(resolve_kafka(settings))
    try:
        return asyncio.run(work(client))
    except (KafkaError, OSError) as error:
        why = asyncio.run(connection_problem(client)) or str(error) or type(error).__name__
        raise UserError(f"Kafka at {client['bootstrap_servers']}: {why}") from error
