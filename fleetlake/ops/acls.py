"""The access that each stage needs in Kafka, and no more (pure): for clusters whose operator grants it.

The names are those in the cluster: with `[kafka] topic_prefix`. A stage is a user of its own, or several share one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtime.kafka import KafkaSettings
from schemas import topics
from schemas.topics import raw_topic, topic_specs

LITERAL, PREFIXED = "literal", "prefixed"
_LOOK = ("Describe", "DescribeConfigs")


@dataclass(frozen=True)
class Acl:
    """One grant: what a stage may do with one topic, group or transactional id."""

    stage: str
    resource: str
    """`topic`, `group` or `transactional-id`, as `kafka-acls.sh` calls them."""
    name: str
    pattern: str
    """Whether `name` is the whole name (`literal`) or its beginning (`prefixed`)."""
    operations: tuple[str, ...]


def acls(kafka: KafkaSettings, vendors: Sequence[str]) -> list[Acl]:
    """The grants of all stages, with the raw topics and groups of these vendors."""
    raw = [raw_topic(vendor) for vendor in vendors]
    names = [spec.name for spec in topic_specs(vendors)]
    grants: list[Acl] = [Acl("topics", "topic", name, LITERAL, (*_SETUP, *_LOOK)) for name in names]
    for stage, (reads, writes) in _stages(raw).items():
        for name in names:
            may = (*(("Read",) if name in reads else ()), *(("Write",) if name in writes else ()), *_LOOK)
            grants.append(Acl(stage, "topic", name, LITERAL, may))
    own = kafka.application_id
    grants += [Acl("connect", "group", f"{own}-connect-{vendor}", LITERAL, ("Read",)) for vendor in vendors]
    grants.append(Acl("stream", "group", own, LITERAL, ("Read",)))
    grants.append(Acl("stream", "transactional-id", f"{own}-", PREFIXED, ("Describe", "Write")))
    grants.append(Acl("delta", "group", f"{own}-delta-", PREFIXED, ("Read",)))
    grants.append(Acl("operator", "group", own, PREFIXED, ("Describe",)))
    return [_prefixed(grant, kafka.topic_prefix) for grant in grants]


_SETUP = ("Create", "AlterConfigs")


def _stages(raw: Sequence[str]) -> dict[str, tuple[set[str], set[str]]]:
    """The topics that each stage reads and writes. `duckdb` and `sql` read tables only.

    `operator` is no stage, but whoever uses the commands that ask or change Kafka.
    """
    t = topics
    states = {t.NORMALISE_STATE, t.POLLED_STATE, t.ALARM_STATE, t.RULES_FILE_STATE}
    own = {*states, t.WATERMARKS, t.INHIBITORS}
    normalised = {t.READINGS, t.EVENTS, t.ALARMS, t.DEAD_LETTER}
    return {
        "connect": ({t.DEVICES, t.COVERAGE}, {*raw, t.DEVICES, t.RULES, t.COVERAGE, t.DEAD_LETTER}),
        "stream": (
            {*raw, t.READINGS, t.EVENTS, t.DEVICES, t.RULES, t.MAINTENANCE, t.ALARM_ACTIONS, t.COVERAGE, *own},
            {*normalised, t.RULES, *own},
        ),
        "delta": ({*raw, *normalised, t.DEVICES}, set()),
        "alarms": ({t.ALARMS, t.RULES}, {t.ALARM_ACTIONS, t.RULES}),
        "operator": ({spec.name for spec in topic_specs()}, {*raw, t.DEVICES, t.RULES, t.MAINTENANCE, t.ALARM_ACTIONS}),
        "ui": ({*raw, t.READINGS, t.EVENTS, t.ALARMS, t.RULES}, {t.ALARM_ACTIONS}),
    }


def _prefixed(grant: Acl, prefix: str) -> Acl:
    return Acl(grant.stage, grant.resource, prefix + grant.name, grant.pattern, grant.operations)


def commands(grants: Sequence[Acl], bootstrap: str) -> Iterator[str]:
    """The calls of `kafka-acls.sh` that make the grants, for one user per stage, named after it."""
    for grant in grants:
        operations = " ".join(f"--operation {each}" for each in grant.operations)
        yield (
            f"kafka-acls.sh --bootstrap-server {bootstrap} --add --allow-principal User:{grant.stage} {operations} "
            f"--{grant.resource} '{grant.name}' --resource-pattern-type {grant.pattern}"
        )
