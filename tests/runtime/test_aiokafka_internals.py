"""aiokafka's private parts: reached in one package only, unchanged since it was written, and still doing what it needs.

When an upgrade of aiokafka makes a canary fail: read what changed in the named function, revise the named module of
`runtime/aiokafka_internals`, then renew the digest here (the failure shows it) and `WRITTEN_AGAINST`.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import importlib
import inspect
import uuid
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import aiokafka
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.consumer.fetcher import Fetcher, FetchError, FetchResult, PartitionRecords
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState, TopicPartitionState
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.producer.message_accumulator import BatchBuilder, MessageAccumulator, MessageBatch
from aiokafka.producer.producer import AIOKafkaProducer
from aiokafka.producer.sender import AddOffsetsToTxnHandler, BaseHandler, Sender
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.admin import DeleteAclsRequest_v0
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.group import JoinGroupRequest_v0
from aiokafka.protocol.types import Array, Bytes, Schema, String
from aiokafka.record.memory_records import _MemoryRecordsPy
from aiokafka.structs import OffsetAndMetadata

from runtime.aiokafka_internals import WRITTEN_AGAINST, consumers, producers, topic_prefix
from runtime.aiokafka_internals.fetch_buffers import fetch_idle_partitions_promptly, take
from runtime.aiokafka_internals.topic_metadata import topic_metadata
from tests.support.aiokafka_faults import kill_fetcher
from tests.support.kafka import MakeTopics, produce, producer
from tests.support.paths import ROOT
from tests.support.waiting import eventually

# -- what is relied on, unchanged

CANARIES: dict[str, dict[Any, str]] = {
    "connections": {create_conn: "673276cbddb4", collect_hosts: "de96a718373b"},
    "topic_prefix": {
        AIOKafkaConnection.send: "5909ea32f4ef",
        AIOKafkaClient.bootstrap: "198943b004e5",
        AIOKafkaClient._get_conn: "68ce5d839171",
    },
    "consumers": {
        AIOKafkaClient._wait_on_metadata: "52b0a5ee78ef",
        Fetcher._create_fetch_waiter: "61d840568746",
        GroupCoordinator.check_errors: "ba6ca51ad348",
        GroupCoordinator.fetch_committed_offsets: "6c049c737916",
        GroupCoordinator._maybe_leave_group: "016cd88a16e6",
        SubscriptionState.fetch_context: "ff2a654dca23",
        SubscriptionState.wait_for_assignment: "7f09ce46a80d",
        SubscriptionState.is_assigned: "cd2783df3bd5",
        TopicPartitionState: "2b83334afadf",
    },
    "fetch_buffers": {
        Fetcher.__init__: "bf21ecb7e0f2",
        Fetcher.fetched_records: "be4348896b9b",
        Fetcher._fetch_requests_routine: "2a8ec5932644",
        Fetcher._get_actions_per_node: "1dab2cf937d1",
        Fetcher._notify: "d3a30d94f34f",
        FetchResult: "d7db13f06de8",
        FetchError: "10966ad4c795",
        PartitionRecords: "94aa0da0dbec",
        Fetcher._proc_fetch_request: "59bf948fff47",
        _MemoryRecordsPy: "795a0314fbca",
    },
    "producers": {
        MessageAccumulator.__init__: "eb57f3c1d5c7",
        MessageAccumulator._append_batch: "4762abfc42cb",
        MessageBatch.expired: "3b28f15f56f2",
        Sender.close: "f60b3d023d25",
        AIOKafkaProducer.stop: "43ef97147111",
    },
    "topic_configs": {
        AIOKafkaClient.send: "246b277687d7",
        RequestStruct: "0c94b7d19018",
        Request: "1dc66f0574be",
        Response: "38b92a1dd3b1",
    },
    "topic_metadata": {
        AIOKafkaClient.send: "246b277687d7",
        AIOKafkaClient.get_random_node: "0e2daf38b78e",
        RequestStruct: "0c94b7d19018",
        Request: "1dc66f0574be",
        Response: "38b92a1dd3b1",
    },
    "transactions": {
        AIOKafkaProducer.__init__: "fd6f2966fb3d",
        AIOKafkaProducer.send_batch: "bf42b0f0c5c0",
        BatchBuilder: "8050802ca751",
        MessageAccumulator.add_batch: "5ed1c5b1367a",
        MessageAccumulator._pop_batch: "41cc98a298ef",
        MessageBatch: "36a7b1dac89d",
        AIOKafkaProducer.begin_transaction: "f5128199fc27",
        AIOKafkaProducer.commit_transaction: "c7f9677c8941",
        AIOKafkaProducer.send_offsets_to_transaction: "4b58002b4496",
        Sender.__init__: "dae60514401a",
        Sender._sender_routine: "2380dc5e333d",
        Sender._maybe_do_transactional_request: "71227a8a4d9c",
        Sender._do_add_offsets_to_txn: "c061788b7812",
        BaseHandler.do: "1106439a38fe",
        AddOffsetsToTxnHandler: "320ed303271e",
        TransactionManager: "d0932794d69a",
    },
}
"""By module of `runtime/aiokafka_internals`: what its functions rely on, and the digest of the source that was read."""


def _digest(part: Any) -> str:
    return hashlib.sha256(inspect.getsource(part).encode()).hexdigest()[:12]


@pytest.mark.parametrize(
    ("module", "part", "digest"),
    [
        pytest.param(module, part, digest, id=f"{module}-{part.__qualname__}")
        for module, parts in CANARIES.items()
        for part, digest in parts.items()
    ],
)
def test_what_the_internals_rely_on_is_as_it_was_read(module: str, part: Any, digest: str) -> None:
    assert _digest(part) == digest, (
        f"aiokafka {aiokafka.__version__} changed {part.__module__}.{part.__qualname__} since {WRITTEN_AGAINST}: "
        f"revise runtime/aiokafka_internals/{module}.py, then put {_digest(part)} here"
    )


# -- nobody else reaches for them

_PRODUCT = ("schemas", "runtime", "connectors", "streams", "sinks", "alarm_service", "fleetlake", "simulators", "bench")
_ALLOWED = (
    "runtime/aiokafka_internals/",
    "tests/runtime/test_aiokafka_internals.py",
    "tests/support/aiokafka_faults.py",
    "bench/peers/",
    "bench/.cache/",  # the peers' own packages
)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _is_own(node: ast.expr) -> bool:
    """`self`, `cls` or `super()`."""
    if isinstance(node, ast.Call):
        node = node.func
    return isinstance(node, ast.Name) and node.id in ("self", "cls", "super")


def _nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def _private_names(folder: Path) -> set[str]:
    """Private attributes and methods that the classes of a package have."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in _nodes(path):
            if isinstance(node, ast.Attribute) and _is_own(node.value):
                names.add(node.attr)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(node.name)
    return set(filter(_is_private, names))


@lru_cache
def _of_aiokafka() -> frozenset[str]:
    return frozenset(_private_names(Path(aiokafka.__file__).parent))


def _reaching(path: Path, names: Collection[str]) -> list[str]:
    """The places where a module has such a name of another object, or, in a subclass of aiokafka's, of its base."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "aiokafka"
        for alias in node.names
    }
    inheriting = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id in imported for b in node.bases)
    ]
    private = [each for each in _attributes(tree, names) if not _is_own(each.value)]
    for node in inheriting:
        defined = {each.attr for each in _attributes(node, names) if isinstance(each.ctx, ast.Store)}
        defined |= {each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        private += [each for each in _attributes(node, names) if _is_own(each.value) and each.attr not in defined]
    return [f"{path}:{each.lineno}: {ast.unparse(each)}" for each in private]


def _attributes(tree: ast.AST, names: Collection[str]) -> list[ast.Attribute]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in names]


def _modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.relative_to(ROOT).as_posix().startswith(_ALLOWED):
                yield path


def test_no_other_module_reaches_for_what_aiokafka_keeps_private() -> None:
    places = [place for path in _modules(*_PRODUCT) for place in _reaching(path, _of_aiokafka())]
    assert places == [], "put it into runtime/aiokafka_internals, with the reason and a canary"


def test_no_other_module_builds_requests_of_its_own() -> None:
    places = [
        f"{path}:{node.lineno}"
        for path in _modules(*_PRODUCT)
        for node in _nodes(path)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aiokafka.protocol")
    ]
    assert places == [], "put it into runtime/aiokafka_internals, with the reason and a canary"


def test_no_test_reaches_for_it_either() -> None:
    ours = {name for folder in _PRODUCT for name in _private_names(ROOT / folder)}
    places = [place for path in _modules("tests") for place in _reaching(path, _of_aiokafka() - ours)]
    assert places == [], "put it into tests/support/aiokafka_faults.py"


def test_who_reaches_for_it_is_seen(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "from aiokafka import AIOKafkaProducer\n"
        "consumer._coordinator.check_errors()\n"
        "class Mine(AIOKafkaProducer):\n"
        "    def end(self):\n"
        "        return self._sender\n"
        "class Other:\n"
        "    def end(self):\n"
        "        return self._sender\n"
    )
    places = _reaching(module, _of_aiokafka())
    assert places == [f"{module}:2: consumer._coordinator", f"{module}:5: self._sender"]


# -- and they do what is expected of them


@asynccontextmanager
async def consuming(kafka: str, topic: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka, isolation_level="read_committed", auto_offset_reset="earliest", **options
    )
    await consumer.start()
    try:
        if "group_id" not in options:
            consumer.assign([TopicPartition(topic, 0)])
        yield consumer
    finally:
        await consumer.stop()


async def test_the_partitions_of_a_topic_are_known_after_loading(kafka: str, make_topics: MakeTopics) -> None:
    (topic,) = await make_topics(["in"], partitions=3)
    async with consuming(kafka, topic, request_timeout_ms=2000) as consumer:
        assert await consumers.load_metadata(consumer, topic) == {0, 1, 2}
        with pytest.raises(UnknownTopicOrPartitionError):
            await consumers.load_metadata(consumer, f"no-{topic}")


async def test_topics_are_described_with_their_ids(kafka: str, make_topics: MakeTopics) -> None:
    (topic,) = await make_topics(["in"], partitions=3)
    client = AIOKafkaClient(bootstrap_servers=kafka)
    await client.bootstrap()
    try:
        described = await topic_metadata(client, [topic, f"no-{topic}"])
    finally:
        await client.close()
    assert described is not None
    by_name = {each.name: each for each in described}
    assert by_name[topic].id.int and (by_name[topic].partitions, by_name[topic].error) == (3, "")
    assert by_name[f"no-{topic}"].error == "UnknownTopicOrPartitionError"


async def test_take_gives_what_getmany_gives_and_moves_as_far(kafka: str, make_topics: MakeTopics) -> None:
    """Committed and aborted transactions, in small batches, and one marker after the last record."""
    (topic,) = await make_topics(["in"])
    async with producer(kafka, transactional_id=f"writer-{topic}") as writer, producer(kafka) as plain:
        for number, commit in enumerate([True, False, True, False, True]):
            await produce(plain, topic, 0, [(b"plain", b"%d" % number)])
            await writer.begin_transaction()
            await produce(writer, topic, 0, [(b"key", b"%d" % number)] * 3)
            await (writer.commit_transaction() if commit else writer.abort_transaction())
    partition = TopicPartition(topic, 0)
    async with consuming(kafka, topic) as consumer, consuming(kafka, topic) as theirs:
        end = (await consumer.end_offsets([partition]))[partition]
        expected: list[Any] = []
        async with asyncio.timeout(30):
            while await theirs.position(partition) < end:
                for records in (await theirs.getmany(timeout_ms=100)).values():
                    expected += records
            taken: list[Any] = []
            while (await consumer.position(partition)) < end:
                await consumers.wait_for_fetch(consumer, 1)
                taken += take(consumer, {partition}, 1).get(partition, [])
        fields = ("topic", "partition", "offset", "timestamp", "key", "value")
        assert [[getattr(r, name) for name in fields] for r in taken] == [
            [getattr(r, name) for name in fields] for r in expected
        ]
        assert len(taken) == 5 + 3 * 3
        assert consumers.fetch_position(consumer, partition) == (end, end)
        assert consumers.fetch_position(consumer, TopicPartition(topic, 1)) is None, "it is not assigned"


async def test_a_dead_fetcher_is_noticed(kafka: str, make_topics: MakeTopics) -> None:
    (topic,) = await make_topics(["in"])
    async with consuming(kafka, topic) as consumer:
        fetch_idle_partitions_promptly(consumer)
        consumers.check_fetcher(consumer)
        kill_fetcher(consumer)
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="the Kafka fetcher has died"):
            consumers.check_fetcher(consumer)


async def test_the_metadata_of_committed_offsets_is_read(kafka: str, make_topics: MakeTopics) -> None:
    (topic,) = await make_topics(["in"])
    partition = TopicPartition(topic, 0)
    async with consuming(kafka, topic, group_id=f"group-{topic}", enable_auto_commit=False) as consumer:
        consumer.subscribe([topic])
        await eventually(lambda: partition in consumer.assignment())
        consumers.check_group(consumer)
        await consumer.commit({partition: OffsetAndMetadata(0, "a mark")})
        assert await consumers.committed_with_metadata(consumer, [partition]) == {
            partition: OffsetAndMetadata(0, "a mark")
        }


async def test_a_static_member_leaves_the_group_when_it_is_to(kafka: str, make_topics: MakeTopics) -> None:
    """Else the next member would wait for the end of its session, which is longer than this test waits."""
    (topic,) = await make_topics(["in"])
    group = {"group_id": f"group-{topic}", "session_timeout_ms": 45_000}
    async with consuming(kafka, topic, group_instance_id=uuid.uuid4().hex, **group) as first:
        first.subscribe([topic])
        await eventually(lambda: bool(first.assignment()))
        consumers.leave_group_at_stop(first)
    async with consuming(kafka, topic, group_instance_id=uuid.uuid4().hex, **group) as second:
        second.subscribe([topic])
        await eventually(lambda: bool(second.assignment()), 20)


async def test_an_abandoned_producer_ends_at_once(kafka: str, make_topics: MakeTopics) -> None:
    (topic,) = await make_topics(["in"])
    client = AIOKafkaProducer(bootstrap_servers=kafka, enable_idempotence=True)
    producers.never_expire_batches(client)
    await client.start()
    await client.send_and_wait(topic, b"x")
    async with asyncio.timeout(5):
        await producers.abandon(client)
        await client.stop()


# -- the prefix: every name in every request that aiokafka has is known, and is put back as it was

NO_NAMES = {
    *("messages", "message_set", "rack", "rack_id", "host", "cluster_id", "metadata", "member_id", "leader_id"),
    *("consumer_id", "group_protocol", "group_instance_id", "protocol_type", "protocol_name", "protocol", "state"),
    *("client_id", "client_host", "mechanism", "enabled_mechanisms[]", "sasl_auth_bytes", "error_message"),
    *("resources[].configs[].name", "resources[].configs[].value"),
    *("batch_index_error_message", "config_key", "config_name", "config_value", "config_names", "config_names[]"),
}
"""Texts in requests and responses that are no names of topics, groups or transactions."""
_NEVER_SENT = {29, 30, 31, 45, 46, 48}
"""API keys that are not known to `topic_prefix` and refused by it: ACLs, reassignments, quotas."""


def _all_structs() -> Iterator[type[Any]]:
    for name in ("produce", "fetch", "offset", "metadata", "commit", "coordination", "group", "transaction", "admin"):
        importlib.import_module(f"aiokafka.protocol.{name}")
    waiting: list[type[Any]] = [RequestStruct, Response]
    while waiting:
        for each in waiting.pop().__subclasses__():
            waiting.append(each)
            yield each


def _texts(field: Any, path: str) -> Iterator[str]:
    if isinstance(field, Schema):
        for name, inner in zip(field.names, field.fields, strict=True):
            yield from _texts(inner, f"{path}.{name}" if path else name)
    elif isinstance(field, Array):
        yield from _texts(field.array_of, f"{path}[]")
    elif isinstance(field, String) or (isinstance(field, type) and issubclass(field, Bytes)):
        yield path


def test_every_name_that_aiokafka_sends_and_gets_is_known_to_the_prefix() -> None:
    seen = 0
    for struct in _all_structs():
        if struct.API_KEY in _NEVER_SENT:
            assert struct.API_KEY not in topic_prefix._REQUESTS
            continue
        table = topic_prefix._RESPONSES if issubclass(struct, Response) else topic_prefix._REQUESTS
        known = table.get(struct.API_KEY, {})
        for path in _texts(struct.SCHEMA, ""):
            assert path in known or {path, path.rpartition(".")[2]} & NO_NAMES, f"{struct.__name__}: {path}"
            seen += path in known
    assert seen > 100


def test_names_get_the_prefix_and_lose_it() -> None:
    sub = ConsumerProtocol.METADATA(0, ["a", "b"], b"u").encode()
    request = JoinGroupRequest_v0("g", 1000, "", "consumer", [("roundrobin", sub)])
    put = topic_prefix.translated(request, topic_prefix._REQUESTS, lambda name: f"p.{name}")
    assert put.group == "p.g"
    assert ConsumerProtocol.METADATA.decode(put.group_protocols[0][1]).subscription == ["p.a", "p.b"]
    with pytest.raises(LookupError, match="topic_prefix: DeleteAclsRequest_v0 is not known"):
        topic_prefix.translated(DeleteAclsRequest_v0([]), topic_prefix._REQUESTS, str)


def test_without_a_prefix_nothing_is_changed() -> None:
    assert type(topic_prefix.with_prefix("SSL", "")) is str
    assert topic_prefix.with_prefix("SSL", "p.") == "SSL"
