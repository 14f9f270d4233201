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
from schemas.timestamps import NEVER
from streams.detect.device import MOST_DEFERRED
from streams.detect.inhibitors import Inhibitors
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
from tests.support.detecting import action, at, device, millis, rule
from tests.support.records import ConsumedRecord


def test_a_gateway_that_is_offline_hides_that_its_devices_are() -> None:
    played = fleet()
    played.feed(heard(0, 0, GATEWAY), heard(0, 0, SENSOR), heard(1, 0, OTHER))
    played.pass_to(600)
    assert played.of_device(GATEWAY) == [("triggered", 60)]
    assert played.of_device(SENSOR) == []
    assert played.of_device(OTHER) == [("triggered", 62)], "its gateway is another"


def test_what_still_holds_when_the_inhibitor_ends_triggers_then() -> None:
    played = fleet()
    played.feed(heard(0, 0, GATEWAY), heard(0, 0, SENSOR))
    played.pass_to(200)
    played.feed(heard(1, 205, GATEWAY))
    played.pass_to(250)
    assert played.of_device(SENSOR) == [("triggered", 205)]
    played.feed(heard(1, 260, SENSOR))
    played.pass_to(270)
    assert played.of_device(SENSOR)[1:] == [("resolved", 260)]
    assert played.states[1] and b"retried" not in b"".join(played.states[1].values())


def test_what_is_over_before_the_inhibitor_ends_triggers_nothing() -> None:
    played = fleet()
    played.feed(heard(0, 0, GATEWAY), heard(0, 0, SENSOR))
    played.pass_to(200)
    played.feed(heard(1, 210, SENSOR), heard(1, 220, GATEWAY))
    played.pass_to(230)
    assert played.of_device(SENSOR) == []


def test_nothing_is_evaluated_before_the_other_partition_has_reported() -> None:
    played = fleet()
    played.feed(heard(0, 0, GATEWAY), heard(0, 0, OTHER))
    played.tick(1, 300)
    played.hear(1)
    assert played.emitted == [], "partition 0 may still report an inhibitor"
    played.tick(0, 66.9)
    played.hear(1)
    assert played.of_device(OTHER) == []
    played.tick(0, 67.1)
    played.hear(1)
    assert played.of_device(OTHER) == [("triggered", 62)]


@pytest.mark.parametrize(("seconds", "kinds"), [(66.9, []), (67.1, ["triggered"])])
def test_an_inhibitor_that_opens_within_the_wait_inhibits(seconds: float, kinds: list[str]) -> None:
    played = fleet(offline(0, "gateway-offline", seconds, scope_type="model", scope_model="gateway"), SENSOR_OFFLINE)
    played.feed(heard(0, 0, GATEWAY), heard(0, 0, SENSOR))
    played.pass_to(600)
    assert [kind for kind, _ in played.of_device(SENSOR)] == kinds


def test_without_reports_of_inhibitors_it_is_evaluated_after_all() -> None:
    played = fleet()
    played.feed(heard(0, 0, SENSOR))
    for second in range(100, 1100, 100):
        played.now = second
        played.tick(1, second)
        assert played.of_device(SENSOR) == ([("triggered", 62)] if second > 900 else [])


def test_a_restart_before_any_report_of_inhibitors_waits_as_long() -> None:
    played = fleet()
    played.now = 10**9
    played.feed(heard(0, 0, SENSOR))
    played.tick(1, 100)
    played.restart(1)
    played.tick(1, 200)
    assert played.of_device(SENSOR) == []


def test_when_too_much_is_deferred_the_oldest_is_evaluated() -> None:
    hot = {"rule_type": "threshold", "config": {"metric": "t", "operator": "gt", "value": 40}, "auto_resolve": True}
    played = fleet(GATEWAY_OFFLINE, rule(1, 0, "hot", inhibited_by=BY_DEVICE, cooldown_seconds=0, **hot))
    for number in range(MOST_DEFERRED + 3):
        played.feed(heard(number, number, SENSOR, t=20.0 if number % 2 else 50.0))
    assert played.of_device(SENSOR) == [("triggered", 0), ("resolved", 1), ("triggered", 2)]


def test_devices_of_a_site_and_levels_of_inhibitors() -> None:
    """A site hides its gateway, and both hide the sensor; the gateway's alarm hides only while it is open."""
    same = {"rule": "site-offline", "same": "site_id"}
    site = device(3, "wayscloud:site", model="site", attributes={"site_id": "7"})
    played = Partitions(
        {"wayscloud:site": 0, GATEWAY: 1, SENSOR: 2, OTHER: 2},
        *REGISTRY,
        site,
        offline(0, "site-offline", 50, scope_type="model", scope_model="site"),
        offline(1, "gateway-offline", 50, scope_type="model", scope_model="gateway", inhibited_by=[same]),
        offline(2, "offline", 50, scope_type="model", scope_model="sensor", inhibited_by=[*BY_DEVICE, same]),
    )
    for name in played.of:
        played.feed(heard(0, 0, name))
    played.pass_to(100)
    played.pass_to(101)
    emitted = [(name, kind) for name, _, kind, _ in played.emitted]
    assert emitted == [("wayscloud:site", "triggered")] or played.of_device(OTHER) == [("triggered", 50)]
    played.feed(heard(1, 110, "wayscloud:site"))
    for seconds in (130, 131, 132):
        played.pass_to(seconds)
    assert played.of_device(GATEWAY) == [("triggered", 110)]
    assert played.of_device(SENSOR) == [], "its gateway inhibits now"
    assert played.of_device(OTHER) == [("triggered", 50)]


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
    played = fleet(GATEWAY_OFFLINE, hot)
    played.feed(heard(0, 0, GATEWAY), heard(0, 10, SENSOR, t=50.0))
    played.pass_to(16)
    assert played.of_device(SENSOR) == [("triggered", 10)]
    name = played.events[-1].alarm.alarm_id
    played.feed(heard(1, 20, SENSOR, t=30.0), heard(2, 21, SENSOR, t=50.0))
    played.feed(action(0, 22, "acknowledge", name, SENSOR))
    assert played.of_device(SENSOR) == [("triggered", 10)], "what came before is not evaluated"
    played.pass_to(30)
    assert played.of_device(SENSOR)[1:] == [("resolved", 20), ("triggered", 21)], "it was of the resolved one"
    name = played.events[-1].alarm.alarm_id
    played.feed(action(1, 32, "acknowledge", name, SENSOR))
    played.pass_to(40)
    assert played.of_device(SENSOR)[3:] == [("acknowledged", 32)]


@pytest.mark.parametrize("resolved_at", [35, 45])
def test_the_end_of_a_snooze_takes_its_place_among_what_is_deferred(resolved_at: int) -> None:
    """It ends at 40 s, whether the inhibitors are known then or much later."""
    config = {"metric": "t", "operator": "gt", "value": 40}
    hot = rule(1, -10, "hot", rule_type="threshold", config=config, auto_resolve=True, cooldown_seconds=0,
               inhibited_by=[{"rule": "gateway-offline", "device": "gateway_id"}])  # fmt: skip
    ends = [("snooze_ended", 40)] if resolved_at > 40 else []
    for known_at in (41, 100):
        played = fleet(GATEWAY_OFFLINE, hot)
        played.feed(heard(0, 0, GATEWAY), heard(0, 10, SENSOR, t=50.0))
        played.pass_to(20)
        name = played.events[-1].alarm.alarm_id
        played.feed(action(0, 25, "snooze", name, SENSOR, until=at(40)))
        if known_at == 41:
            played.pass_to(41)
        played.feed(heard(1, resolved_at, SENSOR, t=30.0))
        played.restart(1)
        played.pass_to(known_at + 10)
        expected = [("triggered", 10), ("snoozed", 25), *ends, ("resolved", resolved_at)]
        assert played.of_device(SENSOR) == expected


def test_a_rule_that_goes_takes_what_waits_with_it() -> None:
    played = fleet()
    played.feed(heard(0, 0, OTHER))
    played.tick(1, 63)
    gone = ConsumedRecord(played.followed[-1].topic, 9, b"offline", None, millis(80))
    played.followed = (*played.followed, gone)
    played.steps[1].process_side_input(gone)
    played.pass_to(100)
    assert played.of_device(OTHER) == [("triggered", 62), ("resolved", 80)]


def test_a_rule_that_goes_when_nothing_waits_any_more_ends_its_alarm() -> None:
    played = fleet()
    played.feed(heard(0, 0, OTHER))
    played.pass_to(75)
    assert played.of_device(OTHER) == [("triggered", 62)]
    gone = ConsumedRecord(played.followed[-1].topic, 9, b"offline", None, millis(80))
    played.followed = (*played.followed, gone)
    played.steps[1].process_side_input(gone)
    played.pass_to(100)
    assert played.of_device(OTHER)[1:] == [("resolved", 80)]
    assert decode_state(played.states[1][b"telemetry.readings.v1/" + OTHER.encode()]).rules == {}


def test_an_action_on_an_alarm_that_is_gone_changes_nothing_while_another_flaps() -> None:
    sensor = offline(
        1, "offline", 5, scope_type="model", scope_model="sensor", inhibited_by=BY_DEVICE,
        flapping={"count": 2, "seconds": 600, "suppress": True},
    )  # fmt: skip
    played = fleet(GATEWAY_OFFLINE, sensor)
    for number in range(6):
        played.feed(heard(number, 10 * number, SENSOR))
        played.pass_to(10 * number + 1)
    for seconds in (90, 91):
        played.pass_to(seconds)
    before = len(played.events)
    played.feed(action(0, 95, "acknowledge", "00000000-0000-0000-0000-000000000000", SENSOR))
    played.pass_to(100)
    assert len(played.events) == before


def test_what_waits_costs_nothing_where_no_rule_asks_for_it() -> None:
    played = fleet(GATEWAY_OFFLINE, offline(1, "offline", 62, inhibited_by=["gateway-offline"]))
    played.feed(heard(0, 0, GATEWAY), heard(0, 0, SENSOR))
    played.pass_to(100)
    assert played.log == []
    assert played.of_device(SENSOR) == [("triggered", 62)], "the inhibitor is on another device"


# -- rules


def parsed(name: str, *causes: object) -> dict[str, Any]:
    config = {"duration_seconds": 60}
    return {"id": name, "name": name, "rule_type": "offline", "config": config, "inhibited_by": list(causes)}


@pytest.mark.parametrize(
    ("cause", "field", "reason"),
    [
        ({"rule": "a"}, "inhibited_by.0", "either device or same"),
        ({"rule": "a", "device": "x", "same": "y"}, "inhibited_by.0", "either device or same"),
        ({"device": "x"}, "inhibited_by.0.rule", "missing"),
        ({"rule": "a", "device": "x", "other": 1}, "inhibited_by.0.other", "is unknown"),
        ({"rule": "r", "same": "site_id"}, "inhibited_by", "a rule of their own"),
    ],
)
def test_what_is_refused_as_an_inhibitor(cause: dict[str, Any], field: str, reason: str) -> None:
    refused = parse_rule(parsed("r", cause))
    assert isinstance(refused, RefusedRule)
    assert refused.field == field
    assert reason in refused.reason


def test_inhibitors_that_go_round_are_refused_and_unknown_ones_named() -> None:
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
    assert [str(each) for each in warned] == ["rule c: inhibited_by.1: there is no rule 'nobody'; it inhibits nothing"]


def test_a_circle_on_the_topic_is_left_out_and_said() -> None:
    played = fleet(
        offline(0, "gateway-offline", 60, inhibited_by=[{"rule": "offline", "same": "site_id"}]),
        offline(1, "offline", 62, inhibited_by=BY_DEVICE),
    )
    played.feed(heard(0, 0, GATEWAY))
    played.pass_to(100)
    assert {kind for kind, _ in played.of_device(GATEWAY)} == {"triggered"}
    assert [rule.rule_id for rule in played.steps[0].refused] == ["gateway-offline", "offline"]


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
def test_it_makes_no_difference_when_partitions_learn_of_inhibitors(
    steps: list[tuple[int, str, float]], seed: int
) -> None:
    one = _play(steps, None)
    other = _play(steps, seed)
    assert sorted(e.event_id for e in one.events) == sorted(e.event_id for e in other.events)
    assert sorted(wire.encode(e) for e in one.events) == sorted(wire.encode(e) for e in other.events)


def _play(steps: list[tuple[int, str, float]], seed: int | None) -> Partitions:
    """The same records per partition: in step with each other, or (with a seed) as partitions come to read them."""
    played = fleet(*_rules())
    timed, now = [], 0.0
    for gap, name, value in steps:
        now += gap
        timed.append((now, name, value))
    made = [heard(number, now, name, t=value) for number, (now, name, value) in enumerate(timed)]
    end = now + 200
    if seed is None:
        for each in made:
            for _ in played.numbers:  # reports travel from level to level
                played.pass_to(each.timestamp / 1000 - millis(0) / 1000)
            played.feed(each)
    else:
        chance = random.Random(seed)
        queues = {n: [each for each in made if played.of[(each.key or b"").decode()] == n] for n in played.numbers}
        while any(queues.values()):
            number = chance.choice([n for n, queue in queues.items() if queue])
            each = queues[number].pop(0)
            played.feed(each)
            if chance.random() < 0.4:
                played.tick(number, each.timestamp / 1000 - millis(0) / 1000)
            if chance.random() < 0.4:
                played.hear(chance.choice(played.numbers), chance.randint(1, 4))
            if chance.random() < 0.2:
                played.restart(chance.choice(played.numbers))
    for more in range(4):
        played.pass_to(end + more)
    assert NEVER > played.steps[0]._exchange.inhibitors.known_until(0) > 0
    return played


def test_rules_are_all_good() -> None:
    import json

    for each in _rules():
        assert isinstance(parse_rule(json.loads(each.value or b"")), AlarmRule)
