"""Putting the rules file on the rules topic at the start of a worker.

The topic is what is in force. The file is put there as it changes: a private topic keeps the digest of each rule as the
file last said it, so that what operators changed or deleted since stays so until the file says something new about
that rule. A rule that left the file is deleted, unless it was changed by somebody else meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime.kafka import KafkaSettings, client_options
from schemas.records import AlarmRule
from schemas.rules import encode_rule, parse_rules
from schemas.topics import RULES_FILE_STATE
from streams.detect.rules_topic import read_compacted, read_rules, write_compacted, write_rules

log = logging.getLogger(__name__)

SOURCE = "file"


async def sync_rules_file(rules_file: Path | None, kafka: KafkaSettings) -> None:
    """Bring the rules file to the topic. OSError where it cannot be read, ValueError where it holds no rules.

    Several workers may do it at once: they write the same. Refused rules are logged and left out.
    """
    if rules_file is None:
        log.info("no rules_file in [stream]: the rules are those of the rules topic")
        return
    rules, refused = parse_rules(rules_file.read_text(encoding="utf-8"))
    for rule in refused:  # one bad rule never stops the others
        log.error("%s: refused: %s", rules_file, rule)
    client = client_options(kafka)
    seeded = {name: value.decode() for name, value in (await read_compacted(client, RULES_FILE_STATE)).items()}
    known, _ = await read_rules(client)
    changes, digests = plan(rules, {rule.rule_id for rule in refused}, seeded, known)
    await write_rules(client, changes)
    await write_compacted(client, RULES_FILE_STATE, {n: None if d is None else d.encode() for n, d in digests.items()})
    for name, changed in sorted(changes.items()):
        log.info("rule %s: %s, as %s says", name, "deleted" if changed is None else "put", rules_file)


def plan(
    rules: Sequence[AlarmRule], refused: set[str], seeded: Mapping[str, str], known: Mapping[str, AlarmRule]
) -> tuple[dict[str, AlarmRule | None], dict[str, str | None]]:
    """What is to be written: rules by id, and digests by id; None deletes. A refused rule's old version stays."""
    changes: dict[str, AlarmRule | None] = {}
    digests: dict[str, str | None] = {}
    for rule in rules:
        if seeded.get(rule.id) != (digest := _digest(rule)):
            changes[rule.id] = rule.model_copy(update={"source": SOURCE})
            digests[rule.id] = digest
    for name in seeded.keys() - {rule.id for rule in rules} - refused:
        digests[name] = None
        if name in known and known[name].source == SOURCE and _digest(known[name]) == seeded[name]:
            changes[name] = None
    return changes, digests


def _digest(rule: AlarmRule) -> str:
    plain = json.loads(encode_rule(rule.model_copy(update={"source": None})))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
