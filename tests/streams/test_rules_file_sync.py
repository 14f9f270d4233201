"""What the rules file puts on the rules topic: its changes, and nothing that operators changed since."""

from __future__ import annotations

from typing import Any

from schemas.records import AlarmRule
from schemas.rules import merge_rule, parse_rule
from streams.detect.rules_file_sync import plan


def rule(name: str, value: float = 1, **fields: Any) -> AlarmRule:
    config = {"metric": "m", "operator": "gt", "value": value}
    made = parse_rule({"id": name, "name": name, "rule_type": "threshold", "config": config, **fields})
    assert isinstance(made, AlarmRule)
    return made


def sync(
    file: list[AlarmRule], synced: dict[str, str], topic: dict[str, AlarmRule], refused: set[str] | None = None
) -> dict[str, AlarmRule | None]:
    """Synchronise as a worker does, and keep the digests; what was written."""
    changes, digests = plan(file, refused or set(), synced, topic)
    for name, changed in changes.items():
        topic.pop(name, None)
        if changed is not None:
            topic[name] = changed
    for name, digest in digests.items():
        synced.pop(name, None)
        if digest is not None:
            synced[name] = digest
    return changes


def test_a_file_is_put_once_and_again_when_it_changes() -> None:
    synced: dict[str, str] = {}
    topic: dict[str, AlarmRule] = {}
    assert sync([rule("a"), rule("b")], synced, topic).keys() == {"a", "b"}
    assert topic["a"].source == "file"
    assert sync([rule("a"), rule("b")], synced, topic) == {}
    assert sync([rule("a", 2), rule("b")], synced, topic).keys() == {"a"}


def test_what_an_operator_changed_or_deleted_stays_until_the_file_says_something_new() -> None:
    synced: dict[str, str] = {}
    topic: dict[str, AlarmRule] = {}
    sync([rule("a"), rule("b")], synced, topic)
    changed = merge_rule(topic["a"], {"config": {"value": 5}, "source": "api"})
    assert isinstance(changed, AlarmRule)
    topic["a"] = changed
    del topic["b"]
    assert sync([rule("a"), rule("b")], synced, topic) == {}
    assert sync([rule("a", 7), rule("b")], synced, topic).keys() == {"a"}
    assert topic["a"].config["value"] == 7


def test_a_rule_that_left_the_file_is_deleted_unless_somebody_made_it_his_own() -> None:
    synced: dict[str, str] = {}
    topic: dict[str, AlarmRule] = {}
    sync([rule("a"), rule("b"), rule("c")], synced, topic)
    topic["b"] = topic["b"].model_copy(update={"source": "cli", "is_enabled": False})
    assert sync([rule("c")], synced, topic) == {"a": None}
    assert topic.keys() == {"b", "c"}
    assert sync([], synced, topic, refused={"c"}) == {}, "a rule that became bad stays as it was"
