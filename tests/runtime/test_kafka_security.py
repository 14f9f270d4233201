"""Kafka over TLS and SASL against a real broker: what is right works, what is wrong is refused in words."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import deltalake
import pytest
from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import SecretStr

from fleetlake.config import Settings, settings_class
from fleetlake.ops.acls import acls
from fleetlake.ops.checks import run_checks
from fleetlake.stages import alarms_stage, connect_stage, sink_stage, stream_stage
from runtime.api_keys import hash_key
from runtime.errors import StageError
from runtime.health import Health
from runtime.http_server import serving
from runtime.kafka import KafkaSettings, client_options, declare_topics, wait_for_kafka
from runtime.kafka_problem import connection_problem
from runtime.kafka_tokens import ClientCredentials, OAuthClient
from schemas.topics import TopicSpec, raw_topic, topic_specs
from schemas.vendors import vendor_names
from tests.support.certificates import Certificates
from tests.support.secure_kafka import USERS, SecureKafka, grant
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


# -- tokens


@asynccontextmanager
async def token_server(life: float = 600, expired: bool = False) -> AsyncIterator[tuple[str, list[str]]]:
    """An OAuth 2 server that knows one client, and its list of what was asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        form = await request.post()
        asked.append(f"{form['grant_type']} {form.get('scope', '')}")
        if request.headers["Authorization"] != aiohttp.encode_basic_auth("ship", "s3cret"):
            return web.json_response({"error": "invalid_client"}, status=401)
        issued = time.time() - (7200 if expired else 1)
        claims = {"sub": "alice", "iat": issued, "exp": issued + life}
        parts = [
            base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in ({"alg": "none"}, claims)
        ]
        return web.json_response({"access_token": ".".join([*parts, ""]), "expires_in": life, "token_type": "Bearer"})

    app = web.Application()
    app.router.add_post("/token", answer)
    async with serving(app, "127.0.0.1", 0, "tokens") as port:
        yield f"http://127.0.0.1:{port}/token", asked


async def test_signing_in_with_tokens_of_an_oauth_server(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    async with token_server() as (url, asked):
        right = {"sasl_mechanism": "OAUTHBEARER", "oauth_token_url": url, "oauth_client_id": "ship"}
        settings = broker.settings("SASL", **right, oauth_client_secret="s3cret", oauth_scope="kafka")
        client = client_options(settings)
        for _ in range(2):
            async with AIOKafkaProducer(**client) as producer:
                assert await producer.client.fetch_all_metadata()
        assert asked == ["client_credentials kafka"], "the token is remembered"
        for wrong, why in {
            "s3cret-not": f"sign-in refused: the token server {url} answers 401",
            "": f"sign-in refused: the token server {url} answers 401",
        }.items():
            settings = broker.settings("SASL", **right, oauth_client_secret=wrong)
            assert await connection_problem(client_options(settings)) == why
        down = broker.settings("SASL", **{**right, "oauth_token_url": "http://127.0.0.1:1/token"})
        assert "Cannot connect to host 127.0.0.1:1" in (await connection_problem(client_options(down)) or "")
    async with token_server(expired=True) as (url, _):
        settings = broker.settings("SASL", **{**right, "oauth_token_url": url}, oauth_client_secret="s3cret")
        assert "the broker does not take our token" in (await connection_problem(client_options(settings)) or "")
    assert "s3cret" not in caplog.text


async def test_a_token_is_asked_for_anew_before_it_ends() -> None:
    clock = [0.0]
    async with token_server(life=100) as (url, asked):
        provider = ClientCredentials(OAuthClient(url, "ship", SecretStr("s3cret")), lambda: clock[0])
        for clock[0], times in ((0.0, 1), (69.0, 1), (70.0, 2), (139.0, 2), (1000.0, 3)):
            assert await provider.token()
            assert len(asked) == times


async def test_signing_for_amazon_msk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    options = client_options(
        KafkaSettings(
            bootstrap_servers="b:9098",
            security_protocol="SASL_SSL",
            sasl_mechanism="AWS_MSK_IAM",
            aws_region="eu-central-1",
        )
    )
    assert options["sasl_mechanism"] == "OAUTHBEARER"
    token = await options["sasl_oauth_token_provider"].token()
    url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    assert url.startswith("https://kafka.eu-central-1.amazonaws.com/?Action=kafka-cluster%3AConnect")
    assert "X-Amz-Signature=" in url and "s3cret" not in url


@pytest.mark.parametrize(("mechanism", "missing"), [("OAUTHBEARER", "oauth_token_url"), ("AWS_MSK_IAM", "aws_region")])
def test_what_a_mechanism_needs_is_named(mechanism: Any, missing: str) -> None:
    with pytest.raises(StageError, match=rf"\[kafka\] {missing}: is needed for {mechanism}"):
        client_options(KafkaSettings(security_protocol="SASL_SSL", sasl_mechanism=mechanism))


# -- a shared cluster: a prefix, and for each stage's user the grants of `fleetlake topics --acls` and no more

PREFIX = "team-a."
KEY = "sk_device_0123456789"
READING = {"sensor_type": "temperature", "value": 23.5, "timestamp": "2026-03-29T12:00:00Z"}


async def test_every_stage_works_under_its_minimal_acls_and_all_names_have_the_prefix(
    broker: Broker, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"hub-1": hash_key(KEY)}))

    def settings(stage: str) -> Settings:
        kafka = broker.settings("SASL", sasl_username=stage, sasl_password=USERS[stage], topic_prefix=PREFIX)
        sections = {
            "kafka": kafka.model_copy(update={"partitions": 2, "sasl_mechanism": "SCRAM-SHA-256"}),
            "pipeline": {"data": tmp_path / "data", "vendors": ["climasense"]},
            "climasense": {"port": port, "keys_file": keys},
            "alarms": {"port": unused_port()},
            "sink": {"delta": {"flush_seconds": 0.2}},
        }
        return settings_class().model_validate(sections)

    port = unused_port()
    await grant(broker.kafka.bootstrap, acls(settings("topics").kafka, vendor_names()))
    await declare_topics(settings("topics").kafka, topic_specs())
    stop = asyncio.Event()
    stages = {
        "connect": connect_stage(settings("connect"), ["climasense"]),
        "stream": stream_stage(settings("stream")),
        "delta": sink_stage(settings("delta"), ["delta"]),
        "alarms": alarms_stage(settings("alarms")),
    }
    health = {name: Health(name) for name in stages}
    running = [asyncio.create_task(stage(stop, health[name]), name=name) for name, stage in stages.items()]
    try:
        await eventually(lambda: _posted(port), 60)
        await eventually(lambda: _stored(tmp_path / "data" / "lake" / "readings"), 60)
        await eventually(lambda: not any(each.ready_problems() for each in health.values()), 60)
        assert not [task for task in running if task.done()]
    finally:
        stop.set()
        await asyncio.gather(*running)
    assert _rows(tmp_path / "data" / "lake" / "readings")["origin_topic"].unique().to_pylist() == [
        raw_topic("climasense")
    ]
    await _all_names_have_the_prefix(broker)


async def _posted(port: int) -> bool:
    body = {"latitude": 1.0, "longitude": 2.0, "readings": [READING]}
    headers = {"Authorization": f"Bearer {KEY}"}
    try:
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session,
            session.post("/v1/telemetry", json=body) as answer,
        ):
            return answer.status < 300
    except aiohttp.ClientError:
        return False


def _rows(table: Path) -> Any:
    return deltalake.DeltaTable(str(table)).to_pyarrow_table(columns=["metric", "origin_topic"])


def _stored(table: Path) -> bool:
    return (
        deltalake.DeltaTable.is_deltatable(str(table))
        and "environment.temperature" in _rows(table)["metric"].to_pylist()
    )


async def _all_names_have_the_prefix(broker: Broker) -> None:
    """As somebody sees who has no prefix; and as one with the prefix sees it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.kafka.bootstrap)
    await admin.start()
    try:
        names = {name for name in await admin.list_topics() if "telemetry" in name or "fleetlake" in name}
        assert names == {PREFIX + spec.name for spec in topic_specs()}
        groups = {group for group, _ in await admin.list_consumer_groups()}
        ours = {group for group in groups if "fleetlake" in group}
        assert ours and all(group.startswith(f"{PREFIX}fleetlake") for group in ours)
    finally:
        await admin.close()
    ours_only = AIOKafkaAdminClient(**client_options(broker.settings("PLAIN", topic_prefix=PREFIX)))
    await ours_only.start()
    try:
        assert set(await ours_only.list_topics()) == {spec.name for spec in topic_specs()}
        [described] = await ours_only.describe_consumer_groups(["fleetlake"])
        assert described.groups[0][1] == "fleetlake"
    finally:
        await ours_only.close()


async def test_without_its_grant_a_stage_is_refused(broker: Broker) -> None:
    nobody = broker.settings("SASL", sasl_username="ui", sasl_password=USERS["ui"], topic_prefix="team-b.")
    with pytest.raises(RuntimeError, match=r"cannot create topic .*TopicAuthorizationFailed"):
        await declare_topics(nobody, topic_specs()[:1])
