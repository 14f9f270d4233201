"""A prefix before every name on the wire: topics, consumer groups, transactional ids. Written against aiokafka 0.14.0.

Reason: in a cluster that is shared or managed, a team may use names that begin with a prefix of its own. Inside the
process the names stay those of the contract, whoever writes them: operators, tables (`origin_topic`), rules, tests. So
the prefix is added where a request leaves for a broker, and taken off where its response arrives. No caller can forget
it, and records look the same in every cluster.

The prefix travels on the option `security_protocol`, which every client of aiokafka hands on to its connections
unchanged: `with_prefix` makes one. `AIOKafkaConnection.send`, through which all requests go, is replaced once; a
connection without a prefix behaves as before. A request that this module does not know is refused where there is a
prefix, rather than sent under wrong names.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from aiokafka.conn import AIOKafkaConnection
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.protocol.api import Request
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import Array, Schema

_NAME, _SUBSCRIPTION, _ASSIGNMENT, _RESOURCE = range(4)
_TOPIC_RESOURCE = 2

_REQUESTS: Mapping[int, Mapping[str, int]] = {
    0: {"topics[].topic": _NAME, "transactional_id": _NAME},
    1: {"topics[].topic": _NAME, "forgotten_topics_data[].topic": _NAME},
    2: {"topics[].topic": _NAME},
    3: {"topics[]": _NAME, "topics[].name": _NAME},
    8: {"consumer_group": _NAME, "topics[].topic": _NAME},
    9: {"consumer_group": _NAME, "topics[].topic": _NAME},
    10: {"consumer_group": _NAME, "coordinator_key": _NAME},
    11: {"group": _NAME, "group_protocols[].protocol_metadata": _SUBSCRIPTION},
    12: {"group": _NAME},
    13: {"group": _NAME},
    14: {"group": _NAME, "group_assignment[].member_metadata": _ASSIGNMENT},
    15: {"groups[]": _NAME},
    16: {},
    17: {},
    18: {},
    19: {"create_topic_requests[].topic": _NAME},
    20: {"topics[]": _NAME},
    21: {"topics[].name": _NAME},
    22: {"transactional_id": _NAME},
    24: {"transactional_id": _NAME, "topics[].topic": _NAME},
    25: {"transactional_id": _NAME, "group_id": _NAME},
    26: {"transactional_id": _NAME},
    28: {"transactional_id": _NAME, "group_id": _NAME, "topics[].topic": _NAME},
    32: {"resources[].resource_name": _RESOURCE},
    33: {"resources[].resource_name": _RESOURCE},
    36: {},
    37: {"topic_partitions[].topic": _NAME},
    42: {"groups_names[]": _NAME},
    44: {"resources[].resource_name": _RESOURCE},
}
"""What is a name in the requests that we send, by API key and path."""

_RESPONSES: Mapping[int, Mapping[str, int]] = {
    0: {"topics[].topic": _NAME},
    1: {"topics[].topics": _NAME},
    2: {"topics[].topic": _NAME},
    3: {"topics[].topic": _NAME, "topics[].name": _NAME},
    8: {"topics[].topic": _NAME},
    9: {"topics[].topic": _NAME},
    11: {"members[].member_metadata": _SUBSCRIPTION},
    14: {"member_assignment": _ASSIGNMENT},
    15: {
        "groups[].group": _NAME,
        "groups[].members[].member_metadata": _SUBSCRIPTION,
        "groups[].members[].member_assignment": _ASSIGNMENT,
    },
    16: {"groups[].group": _NAME},
    19: {"topic_errors[].topic": _NAME},
    20: {"topic_error_codes[].topic": _NAME},
    21: {"topics[].name": _NAME},
    24: {"errors[].topic": _NAME},
    28: {"errors[].topic": _NAME},
    32: {"resources[].resource_name": _RESOURCE},
    33: {"resources[].resource_name": _RESOURCE},
    37: {"topic_errors[].topic": _NAME},
    42: {"results[].group_id": _NAME},
    44: {"responses[].resource_name": _RESOURCE},
}
"""What is a name in their responses."""

_FOREIGN = object()
"""In place of a name without our prefix: whatever holds it is left out of its list."""

Rename = Callable[[str], Any]
Translate = Callable[[Any, Rename], Any]


class PrefixedProtocol(str):
    """A security protocol, such as `SASL_SSL`, that carries a prefix to each connection."""

    topic_prefix: str

    __slots__ = ("topic_prefix",)


def with_prefix(security_protocol: str, prefix: str) -> str:
    """The protocol with a prefix for aiokafka's option `security_protocol`; unchanged without one."""
    if not prefix:
        return security_protocol
    _install()
    protocol = PrefixedProtocol(security_protocol)
    protocol.topic_prefix = prefix
    return protocol


@functools.cache
def _install() -> None:
    send = AIOKafkaConnection.send

    @functools.wraps(send)
    def send_with_prefix(self: Any, request: Any, expect_response: bool = True) -> Any:
        prefix = getattr(self._security_protocol, "topic_prefix", "")
        if not prefix:
            return send(self, request, expect_response)
        answer = send(self, _PrefixedRequest(request, prefix), expect_response)
        return _without_prefix(answer, prefix) if expect_response else answer

    AIOKafkaConnection.send = send_with_prefix


class _PrefixedRequest:
    """A request whose names get a prefix when it is prepared for the version that the broker speaks."""

    def __init__(self, request: Request[Any], prefix: str) -> None:
        self._request = request
        self._prefix = prefix

    def prepare(self, versions: Any) -> Struct:
        return translated(self._request.prepare(versions), _REQUESTS, lambda name: self._prefix + name)


async def _without_prefix(answer: Awaitable[Struct], prefix: str) -> Struct:
    def rename(name: str) -> Any:
        return name[len(prefix) :] if name.startswith(prefix) else _FOREIGN

    return translated(await answer, _RESPONSES, rename)


def translated(struct: Struct, tables: Mapping[int, Mapping[str, int]], rename: Rename) -> Struct:
    """The request or response with other names. LookupError for one whose names are not known here."""
    kind = type(struct)
    names = tables.get(kind.API_KEY)
    if names is None:
        if tables is _RESPONSES and kind.API_KEY in _REQUESTS:
            return struct
        raise LookupError(f"[kafka] topic_prefix: {kind.__name__} is not known to {__name__}")
    parts = _parts(kind.SCHEMA, kind.API_KEY, tables is _RESPONSES)
    if not parts:
        return struct
    values = [struct.__dict__[name] for name in kind.SCHEMA.names]
    for index, translate in parts:
        values[index] = translate(values[index], rename)
    return kind(*values)


@functools.cache
def _parts(schema: Schema, api_key: int, is_response: bool) -> tuple[tuple[int, Translate], ...]:
    names = (_RESPONSES if is_response else _REQUESTS)[api_key]
    return tuple(_fields(schema, "", names))


def _fields(schema: Schema, path: str, names: Mapping[str, int]) -> list[tuple[int, Translate]]:
    """The fields that hold names, by their index, each with what translates it."""
    fields = []
    for index, (name, field) in enumerate(zip(schema.names, schema.fields, strict=True)):
        if (translate := _field(field, path + name, names)) is not None:
            fields.append((index, translate))
    return fields


def _field(field: Any, path: str, names: Mapping[str, int]) -> Translate | None:
    if isinstance(field, Array):
        inner = _item(field.array_of, f"{path}[]", names)
        return None if inner is None else functools.partial(_each, inner)
    kind = names.get(path)
    return None if kind is None else _LEAVES[kind]


def _item(field: Any, path: str, names: Mapping[str, int]) -> Translate | None:
    if not isinstance(field, Schema):
        return _field(field, path, names)
    if names.get(f"{path}.resource_name") == _RESOURCE:
        fields = [(field.names.index("resource_name"), _LEAVES[_NAME])]
        return functools.partial(_topic_resource, fields, field.names.index("resource_type"))
    fields = _fields(field, f"{path}.", names)
    return functools.partial(_tuple, fields) if fields else None


def _each(inner: Translate, values: Any, rename: Rename) -> Any:
    return None if values is None else [v for value in values if (v := inner(value, rename)) is not _FOREIGN]


def _tuple(fields: list[tuple[int, Translate]], values: Any, rename: Rename) -> Any:
    out = list(values)
    for index, translate in fields:
        out[index] = translate(out[index], rename)
        if out[index] is _FOREIGN:
            return _FOREIGN
    return tuple(out)


def _topic_resource(fields: list[tuple[int, Translate]], kind: int, values: Any, rename: Rename) -> Any:
    return _tuple(fields, values, rename) if values[kind] == _TOPIC_RESOURCE else values


def _name(value: Any, rename: Rename) -> Any:
    return value if value is None else rename(value)


def _subscription(value: Any, rename: Rename) -> Any:
    if not value:
        return value
    known = ConsumerProtocol.METADATA.decode(bytes(value))
    topics = [name for topic in known.subscription if (name := rename(topic)) is not _FOREIGN]
    return cast(bytes, ConsumerProtocol.METADATA(known.version, topics, known.user_data).encode())


def _assignment(value: Any, rename: Rename) -> Any:
    if not value:
        return value
    known = ConsumerProtocol.ASSIGNMENT.decode(bytes(value))
    pairs = [(name, p) for topic, p in known.assignment if (name := rename(topic)) is not _FOREIGN]
    return cast(bytes, ConsumerProtocol.ASSIGNMENT(known.version, pairs, known.user_data).encode())


_LEAVES: Mapping[int, Translate] = {_NAME: _name, _SUBSCRIPTION: _subscription, _ASSIGNMENT: _assignment}
