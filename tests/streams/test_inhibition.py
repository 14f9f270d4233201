"""Alarms of one device inhibit those of others: levels, what is known when, and that delays make no difference."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import wire
from schemas.inhibition import levels_of
from schemas.records import AlarmRule
from schemas.rules import RefusedRule, parse_rule, parse_rules, unknown_inhibitors
from streams.detect.device import MOST_DEFERRED
from streams.detect.inhibitors import Inhibitors
from streams.detect.schedules import NEVER
from streams.detect.state import decode_state
from tests.streams.partitions import (
    BY_DEVICE,
    GATEWAY,
    GATEWAY_OFFLINE,
    OTHER,
    REGISTRY,
    SENSOR,
    SENSOR_OFFLINE,
    Partitions,
    fleet,
    heard,
    offline,
)
from tests.support.detecting import action, device, millis, rule
from tests.support.records import ConsumedRecord


def test_a_gateway_that_is_offline_hides_that_its_devices_are() -> None:
    found = fleet()
    found.feed(heard(0, 0, GATEWAY), heard(0, 0, SENSOR), heard(1, 0, OTHER))
    found.pass_to(600)
    assert found.of_device(GATEWAY) == [("triggered", 60)]
    assert found.of_device(SENSOR) == []
    assert found.of_device(OTHER) == [("triggered", 62)], "its gateway is another"


def test_what_still_holds_when_the_cause_is_over_triggers_then() -> None:
    found = fleet()
    found.feed(heard(0, 0, GATEWAY), heard(0, 0, SENSOR))
    found.pass_to(200)
    found.feed(heard(1, 205, GATEWAY))
    found.pass_to(250)
    assert found.of_device(SENSOR) == [("triggered", 205)]
    found.feed(heard(1, 260, SENSOR))
    found.pass_to(270)
    assert found.of_device(SENSOR)[1:] == [("resolved", 260)]
    assert found.states[1] and b"retried" not in b"".join(found.states[1].values())


def test_what_is_over_before_the_cause_is_triggers_nothing() -> None:
    found = fleet()
    found.feed(heard(0, 0, GATEWAY), heard(0, 0, SENSOR))
    found.pass_to(200)
    found.feed(heard(1, 210, SENSOR), heard(1, 220, GATEWAY))
    found.pass_to(230)
    assert found.of_device(SENSOR) == []


def test_nothing_is_judged_before_the_other_partition_has_told() -> None:
    found = fleet()
    found.feed(heard(0, 0, GATEWAY), heard(0, 0, OTHER))
    found.tick(1, 300)
    found.hear(1)
    assert found.told == [], "partition 0 may still tell a cause"
    found.tick(0, 66.9)
    found.hear(1)
    assert found.of_device(OTHER) == []
    found.tick(0, 67.1)
    found.hear(1)
    assert found.of_device(OTHER) == [("triggered", 62)]


@pytest.mark.parametrize(("seconds", "kinds"), [(66.9, []), (67.1, ["triggered"])])
def test_a_cause_that_comes_within_the_wait_inhibits(seconds: float, kinds: list[str]) -> None:
    found = fleet(offline(0, "gateway-offline", seconds, scope_type="model", scope_model="gateway"), SENSOR_OFFLINE)
    found.feed(heard(0, 0, GATEWAY), heard(0, 0, SENSOR))
    found.pass_to(600)
    assert [kind for kind, _ in found.of_device(SENSOR)] == kinds


def test_without_news_of_causes_it_is_judged_after_all() -> None:
    found = fleet()
    found.feed(heard(0, 0, SENSOR))
    for second in range(100, 1100, 100):
        found.now = second
        found.tick(1, second)
        assert found.of_device(SENSOR) == ([("triggered", 62)] if second > 900 else [])


def test_a_restart_before_anything_was_told_of_causes_waits_as_long() -> None:
    found = fleet()
    found.now = 10**9
    found.feed(heard(0, 0, SENSOR))
    found.tick(1, 100)
    found.restart(1)
    found.tick(1, 200)
    assert found.of_device(SENSOR) == []


def test_of_too_much_that_waits_the_oldest_is_judged() -> None:
    hot = {"rule_type": "threshold", "config": {"metric": "t", "operator": "gt", "value": 40}, "auto_resolve": True}
    found = fleet(GATEWAY_OFFLINE, rule(1, 0, "hot", inhibited_by=BY_DEVICE, cooldown_seconds=0, **hot))
    for number in range(MOST_DEFERRED + 3):
        found.feed(heard(number, number, SENSOR, t=20.0 if number % 2 else 50.0))
    assert found.of_device(SENSOR) == [("triggered", 0), ("resolved", 1), ("triggered", 2)]


def test_devices_of_a_site_and_levels_of_causes() -> None:
    """A site hides its gateway, and both hide the sensor; the gateway's alarm hides only while it is open."""
    same = {"rule": "site-offline", "same": "site_id"}
    site = device(3, "wayscloud:site", model="site", attributes={"site_id": "7"})
    found = Partitions(
        {"wayscloud:site": 0, GATEWAY: 1, SENSOR: 2, OTHER: 2},
        *REGISTRY,
        site,
        offline(0, "site-offline", 50, scope_type="model", scope_model="site"),
        offline(1, "gateway-offline", 50, scope_type="model", scope_model="gateway", inhibited_by=[same]),
        offline(2, "offline", 50, scope_type="model", scope_model="sensor", inhibited_by=[*BY_DEVICE, same]),
    )
    for name in found.of:
        found.feed(heard(0, 0, name))
    found.pass_to(100)
    found.pass_to(101)
    assert [(name, kind) for name, _, kind, _ in found.told] == [("wayscloud:site", "triggered")] or found.of_device(
        OTHER
    ) == [("triggered", 50)]
    found.feed(heard(1, 110, "wayscloud:site"))
    for seconds in (130, 131, 132):
        found.pass_to(seconds)
    assert found.of_device(GATEWAY) == [("triggered", 110)]
    assert found.of_device(SENSOR) == [], "its gateway is the cause now"
    assert found.of_device(OTHER) == [("triggered", 50)]


def test_values_wait_likewise_and_an_operator_acts_in_order() -> None:
    hot = rule(
        1,
        0,
        "hot",
        rule_type="threshold",
        config={"metric": "t", "operator": "gt", "value": 40},
        auto_resolve=True,
        cooldown_seconds=0,
        inhibited_by=BY_DEVICE,
    )
    found = fleet(GATEWAY_OFFLINE, hot)
    found.feed(heard(0, 0, GATEWAY), heard(0, 10, SENSOR, t=50.0))
    found.pass_to(16)
    assert found.of_device(SENSOR) == [("triggered", 10)]
    name = found.events[-1].alarm.alarm_id
    found.feed(heard(1, 20, SENSOR, t=30.0), heard(2, 21, SENSOR, t=50.0))
    found.feed(action(0, 22, "acknowledge", name, SENSOR))
    assert found.of_device(SENSOR) == [("triggered", 10)], "what came before is not judged"
    found.pass_to(30)
    assert found.of_device(SENSOR)[1:] == [("resolved", 20), ("triggered", 21)], "it was of the resolved one"
    name = found.events[-1].alarm.alarm_id
    found.feed(action(1, 32, "acknowledge", name, SENSOR))
    found.pass_to(40)
    assert found.of_device(SENSOR)[3:] == [("acknowledged", 32)]


def test_a_rule_that_goes_takes_what_waits_with_it() -> None:
    found = fleet()
    found.feed(heard(0, 0, OTHER))
    found.tick(1, 63)
    gone = ConsumedRecord(found.followed[-1].topic, 9, b"offline", None, millis(80))
    found.followed = (*found.followed, gone)
    found.steps[1].process_side_input(gone)
    found.pass_to(100)
    assert found.of_device(OTHER) == [("triggered", 62), ("resolved", 80)]


def test_a_rule_that_goes_when_nothing_waits_any_more_ends_its_alarm() -> None:
    found = fleet()
    found.feed(heard(0, 0, OTHER))
    found.pass_to(75)
    assert found.of_device(OTHER) == [("triggered", 62)]
    gone = ConsumedRecord(found.followed[-1].topic, 9, b"offline", None, millis(80))
    found.followed = (*found.followed, gone)
    found.steps[1].process_side_input(gone)
    found.pass_to(100)
    assert found.of_device(OTHER)[1:] == [("resolved", 80)]
    assert decode_state(found.states[1][b"telemetry.readings.v1/" + OTHER.encode()]).rules == {}


def test_an_action_on_an_alarm_that_is_gone_changes_nothing_while_another_flaps() -> None:
    sensor = offline(
        1, "offline", 5, scope_type="model", scope_model="sensor", inhibited_by=BY_DEVICE,
        flapping={"count": 2, "seconds": 600, "suppress": True},
    )  # fmt: skip
    found = fleet(GATEWAY_OFFLINE, sensor)
    for number in range(6):
        found.feed(heard(number, 10 * number, SENSOR))
        found.pass_to(10 * number + 1)
    for seconds in (90, 91):
        found.pass_to(seconds)
    before = len(found.events)
    found.feed(action(0, 95, "acknowledge", "00000000-0000-0000-0000-000000000000", SENSOR))
    found.pass_to(100)
    assert len(found.events) == before


def test_what_waits_costs_nothing_where_no_rule_asks_for_it() -> None:
    found = fleet(GATEWAY_OFFLINE, offline(1, "offline", 62, inhibited_by=["gateway-offline"]))
    found.feed(heard(0, 0, GATEWAY), heard(0, 0, SENSOR))
    found.pass_to(100)
    assert found.log == []
    assert found.of_device(SENSOR) == [("triggered", 62)], "the cause is on another device"


# -- rules


def parsed(name: str, *causes: object) -> dict[str, Any]:
    config = {"duration_seconds": 60}
    return {"id": name, "name": name, "rule_type": "offline", "config": config, "inhibited_by": list(causes)}


@pytest.mark.parametrize(
    ("cause", "field", "reason"),
    [
        ({"rule": "a"}, "inhibited_by.0", "either device or same"),
        ({"rule": "a", "device": "x", "same": "y"}, "inhibited_by.0", "either device or same"),
        ({"device": "x"}, "inhibited_by.0.rule", "required"),
        ({"rule": "a", "device": "x", "other": 1}, "inhibited_by.0.other", "not permitted"),
        ({"rule": "r", "same": "site_id"}, "inhibited_by", "a rule of their own"),
    ],
)
def test_what_is_refused_as_a_cause(cause: dict[str, Any], field: str, reason: str) -> None:
    refused = parse_rule(parsed("r", cause))
    assert isinstance(refused, RefusedRule)
    assert refused.field == field
    assert reason in refused.reason


def test_causes_that_go_round_are_refused_and_unknown_ones_named() -> None:
    import json

    rules = [
        parsed("a", {"rule": "b", "same": "s"}),
        parsed("b", {"rule": "a", "same": "s"}),
        parsed("c", {"rule": "a", "same": "s"}, "nobody"),
    ]
    accepted, refused = parse_rules(json.dumps(rules))
    assert [rule.id for rule in accepted] == ["c"]
    assert [(rule.rule_id, rule.field) for rule in refused] == [("a", "inhibited_by"), ("b", "inhibited_by")]
    warned = unknown_inhibitors(accepted, {"a", "c"})
    assert [str(found) for found in warned] == [
        "rule c: inhibited_by.1: there is no rule 'nobody'; it inhibits nothing"
    ]


def test_a_circle_on_the_topic_is_left_out_and_said() -> None:
    found = fleet(
        offline(0, "gateway-offline", 60, inhibited_by=[{"rule": "offline", "same": "site_id"}]),
        offline(1, "offline", 62, inhibited_by=BY_DEVICE),
    )
    found.feed(heard(0, 0, GATEWAY))
    found.pass_to(100)
    assert {kind for kind, _ in found.of_device(GATEWAY)} == {"triggered"}
    assert [rule.rule_id for rule in found.steps[0].refused] == ["gateway-offline", "offline"]


def test_levels() -> None:
    local = {"a": (), "b": ("c",), "c": (), "d": ()}
    assert levels_of(local, {"a": [], "b": ["a"], "c": [], "d": ["c"]}) == ({"a": 0, "b": 1, "c": 1, "d": 2}, set())
    assert levels_of(local, {"a": [], "b": ["d"], "c": [], "d": ["c"]})[1] == {"b", "d"}


# -- what is known


def test_what_is_known_of_inhibitors() -> None:
    inhibitors = Inhibitors(wait=5)
    inhibitors.assign_partitions(frozenset({0, 1}))
    inhibitors.report(0, [100, 90])
    assert inhibitors.evaluable_until(1) == -6
    inhibitors.report(1, [50])
    assert (inhibitors.evaluable_until(1), inhibitors.evaluable_until(2)) == (45, -6)
    inhibitors.report(0, [10])
    assert inhibitors.evaluable_until(1) == 45, "it never goes back"
    inhibitors.add(wire.InhibitorHistory("r", "d", [(1, 9)]))
    inhibitors.add(wire.InhibitorHistory("r", "d", [(1, None)]))
    assert inhibitors._spans["r"]["d"] == {1: 9}, "a known end stays known"


# -- delays make no difference

_STEPS = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from([GATEWAY, SENSOR, OTHER]), st.sampled_from([20.0, 50.0])),
    min_size=1,
    max_size=30,
)


def _rules() -> Sequence[ConsumedRecord]:
    hot = {"rule_type": "threshold", "config": {"metric": "t", "operator": "gt", "value": 40}, "auto_resolve": True}
    quiet = {"auto_resolve": True, "cooldown_seconds": 30}
    return (
        offline(0, "gateway-offline", 30, scope_type="model", scope_model="gateway"),
        offline(1, "offline", 31, scope_type="model", scope_model="sensor", inhibited_by=BY_DEVICE, cooldown_seconds=9),
        rule(2, 0, "hot", inhibited_by=[{"rule": "gateway-offline", "same": "site_id"}], cooldown_seconds=0, **hot),
        rule(3, 0, "warm", inhibited_by=["hot"], **{**hot, **quiet}),
        rule(4, 0, "late", inhibited_by=[{"rule": "offline", "same": "site_id"}], cooldown_seconds=0, **hot),
    )


@settings(max_examples=60, deadline=None)
@given(_STEPS, st.integers(0, 2**32))
def test_it_makes_no_difference_when_partitions_come_to_know_of_causes(
    steps: list[tuple[int, str, float]], seed: int
) -> None:
    one = _play(steps, None)
    other = _play(steps, seed)
    assert sorted(e.event_id for e in one.events) == sorted(e.event_id for e in other.events)
    assert sorted(wire.encode(e) for e in one.events) == sorted(wire.encode(e) for e in other.events)


def _play(steps: list[tuple[int, str, float]], seed: int | None) -> Partitions:
    """The same records per partition: in step with each other, or (with a seed) as partitions come to read them."""
    found = fleet(*_rules())
    timed, now = [], 0.0
    for gap, name, value in steps:
        now += gap
        timed.append((now, name, value))
    made = [heard(number, now, name, t=value) for number, (now, name, value) in enumerate(timed)]
    end = now + 200
    if seed is None:
        for each in made:
            for _ in found.numbers:  # news travels from level to level
                found.pass_to(each.timestamp / 1000 - millis(0) / 1000)
            found.feed(each)
    else:
        chance = random.Random(seed)
        queues = {n: [each for each in made if found.of[(each.key or b"").decode()] == n] for n in found.numbers}
        while any(queues.values()):
            number = chance.choice([n for n, queue in queues.items() if queue])
            each = queues[number].pop(0)
            found.feed(each)
            if chance.random() < 0.4:
                found.tick(number, each.timestamp / 1000 - millis(0) / 1000)
            if chance.random() < 0.4:
                found.hear(chance.choice(found.numbers), chance.randint(1, 4))
            if chance.random() < 0.2:
                found.restart(chance.choice(found.numbers))
    for more in range(4):
        found.pass_to(end + more)
    assert NEVER > found.steps[0]._exchange.inhibitors.known_until(0) > 0
    return found


def test_rules_are_all_good() -> None:
    import json

    for each in _rules():
        assert isinstance(parse_rule(json.loads(each.value or b"")), AlarmRule)
