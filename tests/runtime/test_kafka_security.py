"""Kafka over TLS and SASL against a real broker: what is right works, what is wrong is refused in words."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from fleetlake.config import Settings
from fleetlake.ops.checks import run_checks
from runtime.errors import StageError
from runtime.kafka import KafkaSettings, client_options, declare_topics, wait_for_kafka
from runtime.kafka_problem import connection_problem
from schemas.topics import TopicSpec
from tests.support.certificates import Certificates
from tests.support.secure_kafka import USERS, SecureKafka
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Broker:
    kafka: SecureKafka
    own: Certificates
    foreign: Certificates

    def settings(self, listener: str, host: str = "localhost", **more: Any) -> KafkaSettings:
        """Settings that are right, but for what `more` says."""
        protocol = {"TLS": "SSL", "MTLS": "SSL", "SASL": "SASL_SSL"}.get(listener, "PLAINTEXT")
        address = self.kafka.address(listener, host) if listener != "PLAIN" else self.kafka.bootstrap
        right = {"bootstrap_servers": address, "security_protocol": protocol, "ssl_ca_file": self.own.authority}
        if listener == "MTLS":
            right["ssl_certificate_file"] = self.own.client
        if listener == "SASL":
            right |= {"sasl_username": "alice", "sasl_password": USERS["alice"]}
        return KafkaSettings.model_validate(right | more)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("secure")
    own, foreign = Certificates.issue(folder / "own"), Certificates.issue(folder / "foreign")
    with SecureKafka(folder / "data", own) as kafka:
        yield Broker(kafka, own, foreign)


@pytest.mark.parametrize(
    ("listener", "more"),
    [
        ("TLS", {}),
        ("MTLS", {}),
        ("SASL", {"sasl_mechanism": "PLAIN"}),
        ("SASL", {"sasl_mechanism": "SCRAM-SHA-256"}),
        ("SASL", {"sasl_mechanism": "SCRAM-SHA-512"}),
    ],
)
async def test_records_travel(broker: Broker, listener: str, more: dict[str, Any]) -> None:
    settings = broker.settings(listener, **more)
    topic = f"travels-{uuid.uuid4().hex}"
    assert await wait_for_kafka(client_options(settings), asyncio.Event())
    await declare_topics(settings, [TopicSpec(topic, "of this test")])
    async with AIOKafkaProducer(**client_options(settings), acks="all") as producer:
        await producer.send_and_wait(topic, b"value", b"key", partition=0)
    async with AIOKafkaConsumer(**client_options(settings), auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        record = await asyncio.wait_for(consumer.getone(), 30)
    assert (record.key, record.value) == (b"key", b"value")


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("TLS", {"ssl_ca_file": "foreign.authority"}, "the server's certificate is not trusted: unable to get local"),
    ("TLS", {"ssl_ca_file": None}, "the server's certificate is not trusted"),
    ("TLS", {"host": "127.0.0.1"}, "the server's certificate is for another host: IP address mismatch"),
    ("TLS", {"security_protocol": "PLAINTEXT"}, "the broker hung up; does it expect TLS"),
    ("TLS", {"security_protocol": "SASL_SSL", "sasl_username": "a"}, "the broker takes no SASL on this port"),
    ("PLAIN", {"security_protocol": "SSL"}, "the broker does not speak TLS on this port"),
    ("MTLS", {"ssl_certificate_file": None}, "the server asks for a client certificate"),
    ("MTLS", {"ssl_certificate_file": "foreign.client"}, "the server does not trust our client certificate"),
    ("SASL", {"sasl_password": "wrong"}, "sign-in refused: Authentication failed: Invalid username or password"),
    ("SASL", {"sasl_username": "nobody"}, "sign-in refused: Authentication failed: Invalid username or password"),
    *(
        ("SASL", {"sasl_mechanism": name, **wrong}, "sign-in refused: Authentication failed .* invalid credentials")
        for name in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        for wrong in ({"sasl_password": "wrong"}, {"sasl_username": "nobody"})
    ),
    ("SASL", {"host": "127.0.0.1"}, "the server's certificate is for another host"),
    ("SASL", {"security_protocol": "SASL_PLAINTEXT"}, "the broker hung up; does it expect TLS"),
]


@pytest.mark.parametrize(("listener", "wrong", "why"), WRONG)
async def test_what_is_wrong_is_refused_in_words(
    broker: Broker, listener: str, wrong: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    files = {"foreign.authority": broker.foreign.authority, "foreign.client": broker.foreign.client}
    settings = broker.settings(listener, **{name: files.get(value, value) for name, value in wrong.items()})
    problem = await connection_problem(client_options(settings))
    assert problem is not None and re.match(why, problem), problem
    assert USERS["alice"] not in caplog.text and "wrong" not in caplog.text


async def test_check_and_a_waiting_stage_say_why(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    kafka = broker.settings("SASL", sasl_password="wrong")
    results = await run_checks(Settings(kafka=kafka), [], lambda: kafka, idle=None, send=False)
    [result] = [result for result in results if result.name == "Kafka"]
    assert not result.ok and "sign-in refused: Authentication failed" in result.detail
    stop = asyncio.Event()
    waiting = asyncio.create_task(wait_for_kafka(client_options(kafka), stop))
    await eventually(lambda: "sign-in refused" in caplog.text)
    stop.set()
    assert await waiting is False


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"ssl_ca_file": "absent.pem"}, r"\[kafka\] ssl_ca_file: .*absent.pem: no such file"),
        ({"ssl_ca_file": "empty.pem"}, r"\[kafka\] ssl_ca_file: .*empty.pem: holds no certificate"),
        ({"ssl_certificate_file": "absent.pem"}, r"\[kafka\] ssl_certificate_file: .*absent.pem: no such file"),
        ({"ssl_certificate_file": "client", "ssl_key_file": "server"}, "the key is not that of the certificate"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, wrong: dict[str, str], why: str) -> None:
    made = Certificates.issue(tmp_path / "made")
    (tmp_path / "empty.pem").write_text("")
    known = {"client": made.client, "server": made.server}
    files = {name: known.get(value, tmp_path / value) for name, value in wrong.items()}
    with pytest.raises(StageError, match=why):
        client_options(KafkaSettings.model_validate({"security_protocol": "SSL", **files}))
