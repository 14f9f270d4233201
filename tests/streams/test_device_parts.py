"""The parts of one device's alarms, each on its own: evaluation, deferral, silences, rates, thresholds, agenda."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import wire
from schemas.records import AlarmRule
from schemas.rules import parse_rule
from schemas.timestamps import from_micros
from schemas.topics import INHIBITORS, READINGS
from streams.detect.agenda import Agenda, Happening
from streams.detect.device import EvaluationContext, Profile, TrackedDevice
from streams.detect.device_alarms import DeviceAlarms
from streams.detect.evaluation_gate import EvaluationGate
from streams.detect.held_states import HeldStates
from streams.detect.inhibitor_exchange import GIVE_UP_AFTER, InhibitorExchange
from streams.detect.inhibitor_log import InhibitorLog
from streams.detect.inhibitors import Inhibitors
from streams.detect.lifecycle import REOPENABLE, Evaluation
from streams.detect.rates import RateRules
from streams.detect.rule_book import RuleBook
from streams.detect.rule_compiler import compile_rule
from streams.detect.rules import CompiledRule, RuleSet
from streams.detect.schedules import CompiledWindow
from streams.detect.silence_retries import after_cooldown
from streams.detect.silences import SilenceRules
from streams.detect.state import AlarmFacts, Deferred, DeferredSilence, DeviceState, HeldAction, HeldReading, RuleState
from streams.detect.thresholds import ThresholdRules
from tests.support.detecting import at, reading
from tests.support.records import ConsumedRecord

SECOND = 1_000_000
START = 1_000_000 * SECOND
"""A multiple of the windows' lengths."""
DEVICE = "wayscloud:s"
SCOPES = (("vendor", "wayscloud"), ("device", DEVICE))
BY_SITE = [{"rule": "gateway", "same": "site"}]


def rule(name: str = "hot", **fields: Any) -> CompiledRule:
    default = {"metric": "t", "operator": "gt", "value": 40}
    given = {"rule_type": "threshold", "config": default, "auto_resolve": True, "cooldown_seconds": 0}
    parsed = parse_rule({"id": name, "name": name, **given, **fields})
    assert isinstance(parsed, AlarmRule)
    return compile_rule(parsed)


def offline(name: str = "offline", seconds: float = 60, **fields: Any) -> CompiledRule:
    return rule(name, rule_type="offline", config={"duration_seconds": seconds}, **fields)


class Parts:
    """One device, at a moment, with all parts that share it."""

    def __init__(self, *rules: CompiledRule, wait: int = 0, **options: Any) -> None:
        self.rules = RuleSet(rules)
        self.inhibitors = Inhibitors(wait)
        self.context = EvaluationContext(RuleBook(rules), inhibitors=self.inhibitors, **options)
        profile = Profile(DEVICE, "wayscloud", SCOPES, {"site": 7})
        self.device = TrackedDevice(DeviceState(offset=5, processed_until=START), profile, READINGS, due=1 << 62)
        self.log = InhibitorLog(self.device, self.context)
        self.gate = EvaluationGate(self.device, self.context, self.log)
        self.silences = SilenceRules(self.device, self.gate)
        self.rates = RateRules(self.device, self.gate)
        self.thresholds = ThresholdRules(self.device, self.context, self.gate)
        held_states = HeldStates(self.device, self.context, self.gate)
        self.agenda = Agenda(self.device, self.rates, self.silences, held_states)

    def of(self, name: str) -> CompiledRule:
        return self.rules.by_id[name]

    def at(self, seconds: float) -> int:
        self.device.state.processed_until = START + round(seconds * SECOND)
        return self.device.state.processed_until

    def evaluate(self, name: str, holds: bool, seconds: float) -> list[str]:
        evaluation = Evaluation(self.of(name), holds, self.at(seconds), {"value": 1}, self.device.last_subject)
        return [event.event_type for event in self.gate.evaluate(evaluation)]

    def state(self, name: str) -> RuleState:
        return self.device.state.rules[name]


# -- evaluation


def test_what_is_false_from_the_beginning_leaves_no_state() -> None:
    parts = Parts(rule())
    assert parts.evaluate("hot", False, 0) == []
    assert parts.device.state.rules == {}


@pytest.mark.parametrize(("later", "kept"), [(REOPENABLE, True), (REOPENABLE + 1, False)])
def test_a_resolved_alarm_is_forgotten_after_the_time_in_which_it_may_be_reopened(later: int, kept: bool) -> None:
    parts = Parts(rule())
    parts.evaluate("hot", True, 0)
    parts.evaluate("hot", False, 1)
    parts.evaluate("hot", False, 1 + later / SECOND)
    assert ("hot" in parts.device.state.rules) is kept


def test_an_open_alarm_of_the_same_device_inhibits() -> None:
    parts = Parts(rule("cause"), rule("effect", inhibited_by=["cause"]))
    parts.evaluate("cause", True, 0)
    assert parts.evaluate("effect", True, 1) == []
    parts.evaluate("cause", False, 2)
    assert parts.evaluate("effect", True, 3) == ["triggered"]


def test_a_crossing_that_begins_in_maintenance_begins_when_that_ends() -> None:
    parts = Parts(rule(config={"metric": "t", "operator": "gt", "value": 40, "duration_seconds": 5}))
    window = CompiledWindow(("device", DEVICE), START, START + 10 * SECOND)
    parts.device.profile = Profile(DEVICE, "wayscloud", SCOPES, maintenance=(window,))
    assert parts.evaluate("hot", True, 8) == []
    assert parts.state("hot").crossing_since is None
    assert parts.evaluate("hot", True, 10) == []
    assert parts.evaluate("hot", True, 15) == ["triggered"]


def test_a_rule_that_is_removed_resolves_its_alarm_and_is_forgotten() -> None:
    parts = Parts(rule())
    parts.evaluate("hot", True, 0)
    (event,) = parts.gate.remove_rule("hot")
    assert (event.event_type, event.actor) == ("resolved", "rule_engine")
    assert parts.device.state.rules == {}


def test_a_calm_timer_is_moved_by_each_begin_and_end_of_a_crossing() -> None:
    parts = Parts(rule(flapping={"count": 2, "seconds": 60, "suppress": True}))
    for number in range(3):
        parts.evaluate("hot", number % 2 == 0, number)
    assert parts.device.state.calm_timers["hot"].at == START + 62 * SECOND
    parts.evaluate("hot", True, 3)
    assert parts.device.state.calm_timers["hot"].at == START + 62 * SECOND, "the same crossing"
    parts.evaluate("hot", False, 4)
    assert parts.device.state.calm_timers["hot"].at == START + 64 * SECOND
    assert parts.device.due == START + 62 * SECOND
    (event,) = parts.gate.end_flapping("hot", START + 64 * SECOND)
    assert event.event_type == "resolved"
    assert parts.device.state.calm_timers == {}


# -- deferral


def test_a_rule_with_inhibitors_elsewhere_is_evaluated_when_they_are_known() -> None:
    parts = Parts(rule(inhibited_by=BY_SITE), rule("gateway"), wait=5 * SECOND)
    assert parts.evaluate("hot", True, 0) == []
    assert parts.device.state.awaits_inhibitors and parts.state("hot").holds_as_received
    parts.inhibitors.report(0, [START + 5 * SECOND])
    assert parts.gate.run(START) == [], "an inhibitor may open within the wait"
    parts.inhibitors.report(0, [START + 5 * SECOND + 1])
    (event,) = parts.gate.run(START)
    assert event.event_type == "triggered"
    assert not parts.device.state.awaits_inhibitors
    assert parts.device.state.deferred_until == START


def test_an_inhibitor_elsewhere_that_is_open_inhibits_and_one_of_another_site_does_not() -> None:
    for site, kinds in (("7", []), ("8", ["triggered"])):
        parts = Parts(rule(inhibited_by=BY_SITE), rule("gateway"))
        parts.inhibitors.add(wire.InhibitorHistory("gateway", "wayscloud:g", [(START, None)], {"site": site}))
        parts.inhibitors.report(0, [START + SECOND])
        parts.evaluate("hot", True, 0)
        assert [event.event_type for event in parts.gate.run(START)] == kinds


def test_what_can_have_no_effect_is_not_deferred() -> None:
    parts = Parts(rule(inhibited_by=BY_SITE), rule("gateway"))
    parts.evaluate("hot", False, 0)
    assert parts.device.state.rules == {}
    parts.evaluate("hot", True, 1)
    parts.inhibitors.report(0, [START + 9 * SECOND])
    parts.gate.run(START)
    parts.evaluate("hot", True, 2)
    assert parts.device.state.deferred == {}, "the crossing has had its effect"
    parts.evaluate("hot", False, 3)
    assert [item.holds for item in parts.device.state.deferred[1]] == [False]


def test_when_too_much_is_deferred_the_oldest_is_evaluated() -> None:
    parts = Parts(rule(inhibited_by=BY_SITE), rule("gateway"), most_deferred=2)
    for number in range(2):
        parts.evaluate("hot", number % 2 == 0, number)
    assert parts.gate.run(START) == []
    parts.evaluate("hot", True, 2)
    assert [event.event_type for event in parts.gate.run(START)] == ["triggered"]
    assert len(parts.device.state.deferred[1]) == 2


def test_a_removal_follows_what_is_deferred_of_the_rule() -> None:
    parts = Parts(rule(inhibited_by=BY_SITE), rule("gateway"))
    parts.evaluate("hot", True, 0)
    parts.at(1)
    assert parts.gate.remove_rule("hot") == []
    assert parts.device.state.is_removal_deferred("hot")
    parts.inhibitors.report(0, [START + 9 * SECOND])
    assert [event.event_type for event in parts.gate.run(START)] == ["triggered", "resolved"]
    assert parts.device.state.rules == {}


DEFERRED, SILENT = Deferred(START, "b", True, START), DeferredSilence(2, Deferred(START, "c", True, START))


@pytest.mark.parametrize(
    ("state", "levels"),
    [
        (DeviceState(), {"a": 0, "b": 0, "c": 0}),
        (DeviceState(deferred={1: [DEFERRED]}), {"a": 0, "b": 1, "c": 0}),
        (DeviceState(deferred_silences={"c": SILENT}), {"a": 0, "b": 0, "c": 2}),
        (DeviceState(deferred={3: [DEFERRED]}, deferred_silences={"c": SILENT}), {"a": 0, "b": 3, "c": 2}),
    ],
)
def test_a_rule_is_deferred_on_the_level_of_what_is_deferred_of_it_and_not_of_others(
    state: DeviceState, levels: dict[str, int]
) -> None:
    assert {rule_id: state.deferred_level(rule_id) for rule_id in levels} == levels


def test_a_silence_that_triggers_when_its_inhibitor_ends_does_so_at_that_moment() -> None:
    parts = Parts(
        offline(inhibited_by=BY_SITE), rule("gateway"), rule("far", inhibited_by=[{"rule": "offline", "same": "site"}])
    )
    free = START + 30 * SECOND
    parts.inhibitors.add(wire.InhibitorHistory("gateway", "wayscloud:g", [(START, free)], {"site": "7"}))
    parts.inhibitors.report(0, [START + 90 * SECOND])
    parts.evaluate("offline", True, 0)
    parts.at(60)
    (event,) = parts.gate.run(START + 60 * SECOND)
    assert (event.event_type, event.alarm.triggered_at, event.created_at) == (
        "triggered",
        from_micros(free),
        from_micros(free),
    )
    assert parts.device.state.deferred_until == free
    assert parts.log.unreported[-1].spans == [(free, None)]


# -- the passing of time


def test_a_device_of_which_nothing_was_heard_goes_to_the_moment_and_never_back() -> None:
    parts = Parts(rule())
    alarms = DeviceAlarms(parts.device, parts.context)
    for seconds, reached in ((5, 5), (3, 5), (9, 9)):
        assert alarms.advance(START + seconds * SECOND) == []
        assert parts.device.state.processed_until == START + reached * SECOND


def test_of_a_device_without_alarms_only_the_actions_before_the_moment_are_dropped() -> None:
    parts = Parts(rule())
    alarms = DeviceAlarms(parts.device, parts.context)
    action = wire.AlarmAction("a", "no alarm", DEVICE, "resolve", "ops", at(0))
    parts.device.state.held_actions = [HeldAction(START + n, n, 0, action) for n in range(3)]
    alarms.advance(START + 1)
    assert [held.offset for held in parts.device.state.held_actions] == [1, 2]
    assert parts.device.due == START + 1 and parts.device.changed


# -- inhibitors of other devices


def test_spans_are_noted_once_and_reported_with_the_devices_attributes() -> None:
    parts = Parts(rule("gateway"), rule("hot", inhibited_by=BY_SITE))
    parts.evaluate("gateway", True, 0)
    for _ in range(2):
        parts.log.note(START)
    parts.evaluate("gateway", False, 1)
    parts.log.note(START + SECOND)
    assert [history.spans for history in parts.log.unreported] == [
        [(START, None)],
        [(START, START + SECOND)],
    ]
    assert parts.log.unreported[0].attributes == {"site": "7"}


def test_an_alarm_that_was_open_before_it_inhibited_is_noted_when_a_rule_makes_it_an_inhibitor() -> None:
    parts = Parts(rule("gateway"))
    alarms = DeviceAlarms(parts.device, parts.context)
    parts.evaluate("gateway", True, 0)
    alarms.advance(START + SECOND)
    assert alarms.inhibitor_log.unreported == []
    parts.context.book.put("hot", rule("hot", inhibited_by=BY_SITE), START + 5 * SECOND)
    alarms.advance(START + 9 * SECOND)
    assert [(each.rule_id, each.spans) for each in alarms.inhibitor_log.unreported] == [
        ("gateway", [(START + 5 * SECOND, None)])
    ]


@given(st.lists(st.lists(st.integers(-1, 3), max_size=3), max_size=4))
def test_a_level_is_known_up_to_the_latest_report_of_it_and_else_not_at_all(reports: list[list[int]]) -> None:
    inhibitors = Inhibitors()
    for each in reports:
        inhibitors.report(0, each)
    for level in range(4):
        known = max((each[level] for each in reports if len(each) > level), default=-1)
        assert inhibitors.known_until(level) == known


def test_before_any_watermark_there_is_nothing_to_report() -> None:
    one = exchange()
    assert not one.is_pending(-1)
    assert one.reports(-1) == []


def exchange() -> InhibitorExchange:
    made = InhibitorExchange(Inhibitors())
    made.assign_partitions({INHIBITORS: {0, 1}})
    made.levels = 2
    return made


def test_a_partition_reports_its_inhibitors_before_up_to_when_they_are_complete() -> None:
    one, parts = exchange(), Parts(rule("gateway"), rule("hot", inhibited_by=BY_SITE))
    alarms = DeviceAlarms(parts.device, parts.context)
    alarms.inhibitor_log.unreported.append(wire.InhibitorHistory("gateway", DEVICE, [(1, None)]))
    one.track(alarms)
    assert alarms.inhibitor_log.unreported == []
    assert one.is_pending(100)
    first, second = one.reports(100)
    assert (first.topic, first.key, second.key) == (INHIBITORS, f"gateway/{DEVICE}".encode(), b"#told")
    assert wire.decode_inhibitor_progress(second.value or b"").reached == [100, -1]
    assert one.reports(100) == [], "it is reported once"
    assert not one.is_pending(100) and one.is_pending(101)


def test_all_partitions_have_to_report_before_more_is_known() -> None:
    one = exchange()
    one.waiting.add(DEVICE)
    assert one.is_news(0, -1)
    assert not one.is_news(0, -1)
    progress = wire.encode(wire.InhibitorProgress([50, 40]))
    one.take(ConsumedRecord(INHIBITORS, 0, b"#told", progress, partition=0))
    assert not one.is_news(0, -1)
    one.take(ConsumedRecord(INHIBITORS, 0, b"#told", progress, partition=1))
    assert one.is_news(0, -1)
    assert one.inhibitors.known_until(0) == 50


def test_waiting_is_given_up_when_nothing_new_was_reported_for_too_long() -> None:
    one = exchange()
    one.waiting.add(DEVICE)
    one.is_news(0, -1)
    assert not one.is_news(GIVE_UP_AFTER, -1)
    assert not one.inhibitors.given_up
    assert one.is_news(GIVE_UP_AFTER + 1, -1)
    assert one.inhibitors.given_up
    one.waiting.clear()
    one.is_news(GIVE_UP_AFTER + 2, -1)
    assert not one.inhibitors.given_up, "nobody waits"


def test_a_deleted_report_says_nothing() -> None:
    one = exchange()
    one.take(ConsumedRecord(INHIBITORS, 0, b"gateway/x", None))
    assert one.inhibitors.known_until(0) == -1


# -- silences


def test_a_silence_is_due_after_its_time_and_ends_with_a_record() -> None:
    parts = Parts(offline())
    parts.device.state.heard_at = START
    assert parts.silences.silent_at(parts.of("offline"), START) == START + 60 * SECOND
    due = parts.at(60)
    (event,) = parts.silences.fell_silent(parts.of("offline"), due)
    assert event.metadata["silent_seconds"] == 60
    assert parts.silences.silent_at(parts.of("offline"), START) is None, "it has triggered"
    (event,) = parts.silences.received(parts.of("offline"), parts.at(70), 6)
    assert (event.event_type, event.origin) == ("resolved", wire.Origin(READINGS, 0, 6))


def test_missed_intervals_need_an_interval() -> None:
    missed = rule("offline", rule_type="offline", config={"missed_intervals": 3})
    parts = Parts(missed)
    assert parts.silences.silent_at(parts.of("offline"), START) is None
    parts.device.profile = Profile(DEVICE, "wayscloud", SCOPES, {"reporting_interval_seconds": 10})
    assert parts.silences.silent_at(parts.of("offline"), START) == START + 30 * SECOND


def test_a_counted_silence_is_tried_after_the_cooldown_and_not_at_the_moment_of_the_trigger() -> None:
    alarm = AlarmFacts(START, START, "n", "major", "t", "m", None, resolved_at=START + 1)
    counted, fresh = RuleState(crossing_counted=True, alarm=alarm), RuleState(alarm=alarm)
    assert after_cooldown(counted, offline(cooldown_seconds=30), START + 5) == START + 30 * SECOND
    assert after_cooldown(counted, offline(), START) == START + 1
    assert after_cooldown(fresh, offline(cooldown_seconds=30), START - 5) == START
    alarm.resolved_at = None
    assert after_cooldown(counted, offline(cooldown_seconds=30), START + 5) == START + 5


# -- rates


def few() -> CompiledRule:
    config = {"operator": "lt", "value": 2, "window_seconds": 20}
    return rule("few", rule_type="message_rate", config=config)


def test_the_window_in_which_a_device_is_met_is_not_evaluated() -> None:
    for seconds, start in ((0, 0), (1, 20)):
        parts = Parts(few())
        parts.at(seconds)
        parts.rates.count_message(parts.of("few"), parts.device.state.processed_until)
        state = parts.state("few")
        assert (state.window_start, state.window_count) == (START + start * SECOND, 1 if seconds == 0 else 0)
        assert parts.device.due == START + (start + 20) * SECOND - 1


def test_a_window_counts_to_its_end_and_is_evaluated_there() -> None:
    parts = Parts(few())
    for seconds in (0, 19.999999):
        parts.at(seconds)
        parts.rates.count_message(parts.of("few"), parts.device.state.processed_until)
    assert parts.state("few").window_count == 2
    assert list(parts.rates.close_window(parts.of("few"))) == []
    (event,) = parts.rates.close_window(parts.of("few"))
    assert (event.event_type, event.metadata["count"]) == ("triggered", 0)
    assert parts.rates.ends_at(parts.of("few"), parts.state("few")) is None, "empty windows change nothing now"


@pytest.mark.parametrize(("before", "is_counted"), [(61, False), (60, False), (59.999999, True), (0, True)])
def test_a_message_counts_if_it_was_sent_within_the_last_window(before: float, is_counted: bool) -> None:
    config = {"value": 3, "operator": "lt", "window_seconds": 60}
    parts = Parts(rule("few", rule_type="message_rate", config=config))
    parts.rates.count_message(parts.of("few"), START - round(before * SECOND))
    assert ("few" in parts.device.state.rules) is is_counted


def test_a_device_reconnects_when_it_turns_connected_or_names_another_time() -> None:
    parts = Parts()
    connected = [parts.rates.has_reconnected("network.connected", value) for value in (True, False, True, True, "x")]
    assert connected == [False, False, True, False, False]
    assert parts.device.state.connected is True, "as earlier versions wrote it"
    named = [parts.rates.has_reconnected("connection.last_connected", value) for value in ("a", "a", "b", True)]
    assert named == [False, False, True, False]
    assert not parts.rates.has_reconnected("t", True)


@pytest.mark.parametrize("seconds", [0, 59, 60, 125, 3 * 60 + 59])
def test_a_window_begins_at_a_multiple_of_its_length_after_any_number_of_idle_ones(seconds: int) -> None:
    config = {"value": 3, "window_seconds": 60}
    parts = Parts(rule("flaky", rule_type="reconnect_rate", config=config))
    aligned = START - START % (60 * SECOND)
    parts.device.state.processed_until = aligned + 7 * SECOND
    parts.rates.count_reconnection(parts.of("flaky"))
    parts.device.state.processed_until = now = aligned + seconds * SECOND
    parts.rates.count_reconnection(parts.of("flaky"))
    state = parts.state("flaky")
    assert state.window_start == now - now % (60 * SECOND)
    assert parts.device.due == aligned + 60 * SECOND - 1, "the first of them is due"


# -- thresholds


def test_a_reading_is_held_back_for_the_allowance_and_applied_in_order_of_observation() -> None:
    parts = Parts(rule(), late_allowance=10 * SECOND)
    rules = [parts.of("hot")]
    for number, (value, observed) in enumerate(((39.0, 5.0), (41.0, 3.0))):
        parts.thresholds.receive(reading("t", value, observed), START + number * SECOND, rules, number)
    assert [held.release - START for held in parts.device.state.held_readings] == [10 * SECOND, 11 * SECOND]
    assert parts.device.due == START + 10 * SECOND
    events = parts.thresholds.release(parts.rules)
    assert [event.event_type for event in events] == ["triggered", "resolved"], "41 was observed before 39"
    assert parts.device.state.held_readings == []
    parts.thresholds.receive(reading("t", 41.0, 4.999999), START, rules, 9)
    assert parts.device.skipped.late == 1


def test_a_reading_of_the_same_time_is_not_late_and_one_without_a_value_is_none() -> None:
    parts = Parts(rule())
    rules = [parts.of("hot")]
    for value in (39.0, 41.0):
        events = parts.thresholds.receive(reading("t", value, 5.0), START, rules, 1)
    assert [event.event_type for event in events] == ["triggered"]
    assert parts.thresholds.receive(wire.Reading("t", at(6), value_json={"a": 1}), START, rules, 1) == ()
    assert parts.thresholds.receive(wire.Reading("t", at(6), time_quality="future"), START, rules, 1) == ()
    assert (parts.device.skipped.late, parts.device.skipped.suspect) == (0, 1)


# -- agenda


def test_at_one_moment_rules_go_then_readings_come_then_time_runs_out() -> None:
    parts = Parts(offline(seconds=10), rule())
    state = parts.device.state
    state.heard_at = START - 10 * SECOND
    state.held_readings = [HeldReading(START, START, "t", 41.0, None, 1)]
    state.rules["gone"] = RuleState()
    order = []
    for _ in range(3):
        due = parts.agenda.next(parts.rules)
        assert due is not None and due.at == START
        order.append(due.what)
        if due.what is Happening.RULE_GONE:
            del state.rules["gone"]
        else:
            state.held_readings.clear()
    assert order == [Happening.RULE_GONE, Happening.READING_RELEASED, Happening.FELL_SILENT]


@pytest.mark.parametrize("now", [rule("r"), offline("r"), rule("r", inhibited_by=BY_SITE)])
def test_a_window_that_is_under_way_never_ends_once_its_rule_counts_nothing_any_more(now: CompiledRule) -> None:
    parts = Parts(rule("r", rule_type="reconnect_rate", config={"value": 3, "window_seconds": 60}))
    parts.rates.count_reconnection(parts.of("r"))
    due = parts.agenda.next(parts.rules)
    assert due is not None and due.what is Happening.WINDOW_ENDED
    assert parts.agenda.next(RuleSet([now])) is None


def test_nothing_is_due_of_a_device_of_which_nothing_is_known() -> None:
    assert Parts(offline(), rule()).agenda.next(RuleSet([])) is None


# -- inhibitors


@pytest.mark.parametrize(("moment", "free"), [(4, 4), (5, 20), (19, 20), (20, 20), (94, 94), (95, 1 << 62)])
def test_a_rule_is_free_from_its_inhibitors_at_their_end_and_until_the_wait_before_them(moment: int, free: int) -> None:
    inhibitors = Inhibitors(wait=5)
    inhibitors.add(wire.InhibitorHistory("gateway", "wayscloud:g", [(10, 20), (100, None)], {"site": "7"}))
    hot = rule(inhibited_by=BY_SITE)
    assert inhibitors.free_from(hot, DEVICE, {"site": 7}, moment) == free
    assert inhibitors.free_from(hot, DEVICE, {"site": 8}, moment) == moment
    assert inhibitors.free_from(hot, "wayscloud:g", {"site": 7}, moment) == moment, (
        "a device does not inhibit itself so"
    )
