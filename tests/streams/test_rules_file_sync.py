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


def seed(
    file: list[AlarmRule], seeded: dict[str, str], topic: dict[str, AlarmRule], refused: set[str] | None = None
) -> dict[str, AlarmRule | None]:
    """Seed as a worker does, and remember it; what was written."""
    changes, digests = plan(file, refused or set(), seeded, topic)
    for name, changed in changes.items():
        topic.pop(name, None)
        if changed is not None:
            topic[name] = changed
    for name, digest in digests.items():
        seeded.pop(name, None)
        if digest is not None:
            seeded[name] = digest
    return changes


def test_a_file_is_put_once_and_again_when_it_changes() -> None:
    seeded: dict[str, str] = {}
    topic: dict[str, AlarmRule] = {}
    assert seed([rule("a"), rule("b")], seeded, topic).keys() == {"a", "b"}
    assert topic["a"].source == "file"
    assert seed([rule("a"), rule("b")], seeded, topic) == {}
    assert seed([rule("a", 2), rule("b")], seeded, topic).keys() == {"a"}


def test_what_an_operator_changed_or_deleted_stays_until_the_file_says_something_new() -> None:
    seeded: dict[str, str] = {}
    topic: dict[str, AlarmRule] = {}
    seed([rule("a"), rule("b")], seeded, topic)
    changed = merge_rule(topic["a"], {"config": {"value": 5}, "source": "api"})
    assert isinstance(changed, AlarmRule)
    topic["a"] = changed
    del topic["b"]
    assert seed([rule("a"), rule("b")], seeded, topic) == {}
    assert seed([rule("a", 7), rule("b")], seeded, topic).keys() == {"a"}
    assert topic["a"].config["value"] == 7


def test_a_rule_that_left_the_file_is_deleted_unless_somebody_made_it_his_own() -> None:
    seeded: dict[str, str] = {}
    topic: dict[str, AlarmRule] = {}
    seed([rule("a"), rule("b"), rule("c")], seeded, topic)
    topic["b"] = topic["b"].model_copy(update={"source": "cli", "is_enabled": False})
    assert seed([rule("c")], seeded, topic) == {"a": None}
    assert topic.keys() == {"b", "c"}
    assert seed([], seeded, topic, refused={"c"}) == {}, "a rule that became bad stays as it was"
