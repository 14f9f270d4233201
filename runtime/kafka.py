"""Connecting to Kafka: the settings every stage shares, and the declaration of topics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import InvalidConfigurationError, TopicAlreadyExistsError, for_code
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from runtime.aiokafka_internals.topic_configs import raise_configs
from runtime.aiokafka_internals.topic_prefix import with_prefix
from runtime.errors import StageError
from runtime.kafka_problem import connection_problem
from runtime.kafka_tokens import ClientCredentials, MskTokens, OAuthClient
from runtime.tls import client_context
from schemas.topics import TIMESTAMP_AHEAD, TopicSpec

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_SETTLE_SECONDS = 0.1
_SETTLE_TRIES = 100


class KafkaSettings(BaseModel):
    """Section `[kafka]` of the configuration."""

    model_config = ConfigDict(extra="forbid")

    bootstrap_servers: str = Field(
        default="",
        description="host:port of one or more brokers, separated by commas. Empty: the data folder's embedded broker.",
    )
    application_id: str = Field(
        default="fleetlake",
        min_length=1,
        description="Prefix of consumer groups and transactional ids; each pipeline needs its own.",
    )
    topic_prefix: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]{0,100}$",
        description="Begins the name of every topic, consumer group and transactional id in Kafka, such as `fleet.`, "
        "for clusters that are shared. Tables and messages keep the names without it.",
    )
    partitions: int = Field(default=4, ge=1, description="Partitions of each topic that `fleetlake topics` creates.")
    replication_factor: int = Field(
        default=1, ge=1, description="Replicas of each topic that `fleetlake topics` creates; 3 in production."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="SSL: over TLS; SASL: with a sign-in. Only SASL_SSL keeps passwords secret."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"] = Field(
        default="PLAIN",
        description="How to sign in, with SASL. AWS_MSK_IAM takes the credentials that AWS's libraries find, and needs "
        "the extra `msk`.",
    )
    sasl_username: str = Field(default="", description="User name, with SASL.")
    sasl_password: SecretStr = Field(default=SecretStr(""), description="Password, with SASL.")
    oauth_token_url: str = Field(
        default="", description="OAUTHBEARER: where tokens are asked for with client credentials (OAuth 2)."
    )
    oauth_client_id: str = Field(default="", description="OAUTHBEARER: our name at the token server.")
    oauth_client_secret: SecretStr = Field(default=SecretStr(""), description="OAUTHBEARER: our secret there.")
    oauth_scope: str = Field(default="", description="OAUTHBEARER: the scope to ask for, if any.")
    aws_region: str = Field(default="", description="AWS_MSK_IAM: the cluster's region, such as eu-central-1.")
    ssl_ca_file: Path | None = Field(default=None, description="CA bundle; default: the system's.")
    ssl_certificate_file: Path | None = Field(default=None, description="Client certificate for mutual TLS.")
    ssl_key_file: Path | None = Field(default=None, description="Key of the client certificate.")
    session_timeout_seconds: float = Field(
        default=10,
        gt=0,
        description="Seconds without a heartbeat after which a stream worker or sink loses its partitions.",
    )


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments for any aiokafka client: the brokers, and how to authenticate.

    StageError names the setting whose file cannot be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "security_protocol": with_prefix(settings.security_protocol, settings.topic_prefix),
    }
    if "SSL" in settings.security_protocol:
        files = settings.ssl_ca_file, settings.ssl_certificate_file, settings.ssl_key_file
        options["ssl_context"] = client_context(*files, section="kafka", prefix="ssl_")
    if settings.security_protocol.startswith("SASL"):
        options |= _sign_in(settings)
    return options


def _sign_in(settings: KafkaSettings) -> dict[str, Any]:
    mechanism = settings.sasl_mechanism
    if mechanism == "OAUTHBEARER":
        if not settings.oauth_token_url:
            raise StageError("[kafka] oauth_token_url: is needed for OAUTHBEARER")
        client = OAuthClient(
            settings.oauth_token_url, settings.oauth_client_id, settings.oauth_client_secret, settings.oauth_scope
        )
        return {"sasl_mechanism": mechanism, "sasl_oauth_token_provider": ClientCredentials(client)}
    if mechanism == "AWS_MSK_IAM":
        if not settings.aws_region:
            raise StageError("[kafka] aws_region: is needed for AWS_MSK_IAM")
        return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": MskTokens(settings.aws_region)}
    return {
        "sasl_mechanism": mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": settings.sasl_password.get_secret_value(),
    }


async def wait_for_kafka(client: Mapping[str, Any], stop: asyncio.Event) -> bool:
    """Wait until a broker answers; False if `stop` is set first. `client` is what `client_options` gives.

    Logs why it waits, once per reason, and when a broker answers.
    """
    waiting = ""
    while not stop.is_set():
        reason = await connection_problem(client)
        if reason is None:
            if waiting:
                log.info("Kafka at %s answers", client["bootstrap_servers"])
            return True
        if waiting != reason:
            log.warning("no Kafka broker answers at %s: %s; waiting for one", client["bootstrap_servers"], reason)
            waiting = reason
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _RETRY_SECONDS)
    return False


@dataclass(frozen=True)
class TopicState:
    """A topic as it should be, and as it is in the cluster."""

    spec: TopicSpec
    created: bool
    partitions: int


async def declare_topics(settings: KafkaSettings, specs: list[TopicSpec]) -> list[TopicState]:
    """Create the missing topics. Existing ones stay as they are, but for what has to be raised (`TopicSpec.at_least`).

    Raises RuntimeError when topics differ in their number of partitions: a device would then have different partition
    numbers on them, and order per device would be lost.
    """
    admin = AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=15000)
    await admin.start()
    try:
        created = await _create_missing(admin, settings, specs)
        counts = await _partition_counts(admin, [spec.name for spec in specs])
        await raise_configs(admin, client_options(settings), [spec for spec in specs if spec.name not in created])
    finally:
        await admin.close()
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in sorted(counts.items()))
        raise RuntimeError(
            f"all topics need the same number of partitions, but {listed}; add partitions to the smaller ones"
        )
    return [TopicState(spec, spec.name in created, counts[spec.name]) for spec in specs]


async def _create_missing(admin: AIOKafkaAdminClient, settings: KafkaSettings, specs: list[TopicSpec]) -> set[str]:
    existing = set(await admin.list_topics())
    missing = [spec for spec in specs if spec.name not in existing]
    if not missing:
        return set()
    existing_counts = await _partition_counts(admin, [spec.name for spec in specs if spec.name in existing])
    count = next(
        iter(existing_counts.values()), settings.partitions
    )  # a topic that a newer version adds gets as many as the existing ones
    unknown = await _create(admin, [_new(spec, spec.config, count, settings) for spec in missing])
    older = [spec for spec in missing if spec.name in unknown]  # before Kafka 3.6, which has no such limit
    configs = [{name: value for name, value in spec.config.items() if name != TIMESTAMP_AHEAD} for spec in older]
    if refused := await _create(admin, [_new(s, c, count, settings) for s, c in zip(older, configs, strict=True)]):
        raise RuntimeError(f"cannot create topics {', '.join(sorted(refused))}: Kafka refuses their settings")
    return {spec.name for spec in missing}


def _new(spec: TopicSpec, config: dict[str, str], count: int, settings: KafkaSettings) -> NewTopic:
    return NewTopic(spec.name, count, settings.replication_factor, topic_configs=config)


async def _create(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> set[str]:
    """Create topics; the names of those whose settings the broker does not know. RuntimeError for any other refusal."""
    unknown = set()
    for topic, code, *_ in (await admin.create_topics(topics)).topic_errors if topics else ():
        error = for_code(code)
        if error is InvalidConfigurationError:
            unknown.add(topic)
        elif code and error is not TopicAlreadyExistsError:  # two stages that start at once both declare
            raise RuntimeError(f"cannot create topic {topic}: {error.__name__}")
    return unknown


async def _partition_counts(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
    if not names:
        return {}
    for _ in range(_SETTLE_TRIES):
        counts = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics(names)}
        if all(counts.get(name) for name in names):
            return counts
        await asyncio.sleep(_SETTLE_SECONDS)  # a new topic has no partitions for a moment
    raise RuntimeError(f"Kafka created the topics but reports no partitions of them: {', '.join(sorted(names))}")
