"""Raising settings of existing topics, leaving all others as their operator has them. Written against aiokafka 0.14.0.

Reason: aiokafka lacks the request IncrementalAlterConfigs, and its `alter_configs` resets what it does not name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

from schemas.topics import TopicSpec

log = logging.getLogger(__name__)

_TOPIC = 2
_SET = 0
_UNLIMITED = -1


class _Response(Response):  # type: ignore[misc]  # aiokafka is untyped
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "responses",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class _RequestV0(RequestStruct):  # type: ignore[misc]  # aiokafka is untyped
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                (
                    "configs",
                    Array(("name", String("utf-8")), ("config_operation", Int8), ("value", String("utf-8"))),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class _IncrementalAlterConfigs(Request[_RequestV0]):  # type: ignore[misc]  # aiokafka is untyped
    """Kafka's IncrementalAlterConfigs, which aiokafka lacks: its own `alter_configs` resets what it does not name."""

    API_KEY = 44

    def __init__(self, raised: Mapping[str, Mapping[str, int]]) -> None:
        self._resources = [
            (_TOPIC, topic, [(name, _SET, str(value)) for name, value in sorted(values.items())])
            for topic, values in sorted(raised.items())
        ]

    def build(self, request_struct_class: type[_RequestV0]) -> _RequestV0:
        return request_struct_class(self._resources, False)


def too_low(spec: TopicSpec, current: Mapping[str, str | None]) -> dict[str, int]:
    """Which settings of an existing topic are below what the specification asks for, with the values to set (pure).

    A setting that the broker does not know, or that is unlimited, is left alone.
    """
    values = {name: current.get(name) for name in spec.at_least}
    return {
        name: least
        for name, least in spec.at_least.items()
        if (value := values[name]) is not None and _UNLIMITED != int(value) < least
    }


async def raise_configs(admin: AIOKafkaAdminClient, client: Mapping[str, Any], specs: Sequence[TopicSpec]) -> None:
    """Raise the settings of existing topics to what the specifications ask for at least.

    Where the broker does not let us, one line of the log says which topics stay as they are.
    """
    try:
        current = await _current(admin, specs)
        raised = {spec.name: values for spec in specs if (values := too_low(spec, current.get(spec.name, {})))}
        if raised:
            await _alter(client, raised)
    except (KafkaError, IncompatibleBrokerVersion, OSError) as error:
        log.warning("settings of topics cannot be checked or raised: %s", str(error) or type(error).__name__)


async def _current(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> dict[str, dict[str, str | None]]:
    asked = [
        ConfigResource(ConfigResourceType.TOPIC, spec.name, dict.fromkeys(spec.at_least, ""))
        for spec in specs
        if spec.at_least
    ]
    found: dict[str, dict[str, str | None]] = {}
    for response in await admin.describe_configs(asked):
        for code, message, _, topic, entries in response.resources:
            if code:
                raise for_code(code)(f"topic {topic}: {message}")
            found[topic] = {name: value for name, value, *_ in entries}
    return found


async def _alter(client: Mapping[str, Any], raised: Mapping[str, Mapping[str, int]]) -> None:
    connection = AIOKafkaClient(**client)
    await connection.bootstrap()
    try:
        response = await connection.send(connection.get_random_node(), _IncrementalAlterConfigs(raised))
    finally:
        await connection.close()
    refused = {topic: for_code(code).__name__ for code, _, _, topic in response.responses if code}
    for topic, values in sorted(raised.items()):
        listed = ", ".join(f"{name} = {value}" for name, value in sorted(values.items()))
        if topic in refused:
            log.warning("topic %s should have %s, but Kafka refuses to set it (%s)", topic, listed, refused[topic])
        else:
            log.info("topic %s: %s", topic, listed)
