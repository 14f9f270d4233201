"""Synchronising the rules file with the rules topic at the start of a worker.

The rules in force are those of the topic. A rule of the file is written to the topic when it has changed in the file: a
private topic keeps the digest of each rule as the file last had it. So what operators changed or deleted since stays so
until that rule changes in the file. A rule that has left the file is deleted, unless somebody else has changed it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from runtime.kafka import KafkaSettings, client_options
from schemas.records import AlarmRule
from schemas.rules import encode_rule, parse_rules, unknown_metrics
from schemas.topics import RULES_FILE_STATE
from streams.detect.rules_topic import read_compacted, read_rules, write_compacted, write_rules

log = logging.getLogger(__name__)

SOURCE = "file"


async def sync_rules_file(rules_file: Path | None, kafka: KafkaSettings, defined_metrics: Collection[str] = ()) -> None:
    """Write changed rules of the file to the topic.

    Raise OSError if the file cannot be read, ValueError if it lists no rules. Several workers may do this at once: they
    write the same. Refused rules are logged and skipped. A metric that is neither in the catalogue nor among
    `defined_metrics`, those of the user's datapoints, is logged.
    """
    if rules_file is None:
        log.info("no rules_file in [stream]: the rules are those of the rules topic")
        return
    rules, refused = parse_rules(rules_file.read_text(encoding="utf-8-sig"))
    for rule in refused:  # one bad rule never stops the others
        log.error("%s: refused: %s", rules_file, rule)
    for rule in unknown_metrics(rules, defined_metrics):
        log.warning("%s: unknown metric: %s", rules_file, rule)
    client = client_options(kafka)
    synced = {name: value.decode() for name, value in (await read_compacted(client, RULES_FILE_STATE)).items()}
    known, _ = await read_rules(client)
    changes, digests = plan(rules, {rule.rule_id for rule in refused}, synced, known)
    await write_rules(client, changes)
    await write_compacted(client, RULES_FILE_STATE, {n: None if d is None else d.encode() for n, d in digests.items()})
    for name, changed in sorted(changes.items()):
        log.info("rule %s: %s as in %s", name, "deleted" if changed is None else "put in force", rules_file)


def plan(
    rules: Sequence[AlarmRule], refused: set[str], synced: Mapping[str, str], known: Mapping[str, AlarmRule]
) -> tuple[dict[str, AlarmRule | None], dict[str, str | None]]:
    """Rules and digests to be written, by id; None deletes. A refused rule's old version stays in force.

    `synced` are the digests of the rules as the file last had them, `known` the rules of the topic.
    """
    changes: dict[str, AlarmRule | None] = {}
    digests: dict[str, str | None] = {}
    for rule in rules:
        if synced.get(rule.id) != (digest := _digest(rule)):
            changes[rule.id] = rule.model_copy(update={"source": SOURCE})
            digests[rule.id] = digest
    for name in synced.keys() - {rule.id for rule in rules} - refused:
        digests[name] = None
        if name in known and known[name].source == SOURCE and _digest(known[name]) == synced[name]:
            changes[name] = None
    return changes, digests


def _digest(rule: AlarmRule) -> str:
    plain = json.loads(encode_rule(rule.model_copy(update={"source": None})))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
