"""Silence counts only while somebody listened: outages of ours, their alarms, and that a replay sees the same."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.common.span_log import SpanLog
from schemas import records, wire
from schemas.coverage import coverage_key
from schemas.timestamps import NEVER
from schemas.topics import COVERAGE, EVENTS, WATERMARKS
from streams.detect.listening_operator import ListeningOperator
from streams.detect.options import DetectOptions
from streams.normalise.coverage import CoverageMap, Receipt
from tests.support.detecting import DEVICE, Detecting, action, alert, at, clock, micros, record, report, rule, tick
from tests.support.records import ConsumedRecord

SILENT = {"rule_type": "offline", "auto_resolve": True, "cooldown_seconds": 0}
OFF = rule(0, -10, "off", **SILENT, config={"duration_seconds": 300})


def covered(*reports: ConsumedRecord) -> CoverageMap:
    known = CoverageMap()
    for each in reports:
        known.take((each.key or b"").decode(), wire.decode_coverage(each.value or b""))
    return known


# -- what is known of listeners


@pytest.mark.parametrize(
    ("reports", "due"),
    [
        ([], 300),
        ([report((0, None), until=500)], 300),
        ([report((0, 100), (150, None), until=500)], 350),
        ([report((0, 100), (150, 200), (600, None), until=700)], 750),
        ([report((0, 100), until=700)], None),
        ([report((350, None), until=700)], 300),  # from before the first report there is nothing on record
        ([report((0, 100), until=100), report((120, None), until=500, process="1")], 320),
        ([report((0, 100), until=100), report((50, None), until=500, process="1")], 300),
        ([report((0, 100), (200, None), until=500), report((0, 150), (220, None), until=500, channel="mqtt")], 420),
        ([report((0, None), until=500), report((0, 10), (60, None), until=60, device=DEVICE)], 350),
        ([report((0, None), until=500), report((0, 10), until=60, device=DEVICE)], None),
        ([report((0, None), until=500), report((0, 10), until=60, device="wayscloud:other")], 300),
        ([report((0, 10), until=500, vendor="ogmen")], 300),
    ],
)
def test_silence_lasts_as_long_as_somebody_listened(reports: list[ConsumedRecord], due: float | None) -> None:
    known = covered(*reports)
    expected = NEVER if due is None else micros(due)
    assert known.due(DEVICE, micros(0), 300_000_000) == expected
    assert known.due(DEVICE, micros(0), 300_000_000) == expected, "and so it stays"


def test_a_message_proves_that_somebody_listened() -> None:
    known = covered(report((0, 100), (200, None), until=500))
    assert known.due(DEVICE, micros(0), 110_000_000) == micros(210)
    sent, answered = Receipt(micros(106), is_sent=True), Receipt(micros(106), is_sent=False)
    assert known.due(DEVICE, micros(0), 105_000_000, sent) == micros(105)
    assert known.due(DEVICE, micros(0), 107_000_000, sent) == micros(201)
    assert known.due(DEVICE, micros(0), 105_000_000, answered) == micros(205)
    assert known.listened_within(DEVICE, micros(50), micros(250)) == 100_000_000
    assert known.listened_within(DEVICE, micros(0), micros(101)) == 100_000_000
    assert known.listened_within(DEVICE, micros(0), micros(101), sent) == 101_000_000


def test_a_message_long_after_the_last_report_proves_nothing_of_the_time_between() -> None:
    known = covered(report((0, 100), (200, None), until=500))
    assert known.due(DEVICE, micros(0), 110_000_000, Receipt(micros(199), is_sent=True)) == micros(210)
    first = covered(report((0, None), until=100))  # as the first run knows it, before the gap is reported
    assert first.due(DEVICE, micros(0), 105_000_000, Receipt(micros(106), is_sent=True)) == micros(105)
    assert first.due(DEVICE, micros(0), 105_000_000, Receipt(micros(107), is_sent=True)) == micros(112)
    assert first.listened_within(DEVICE, micros(0), micros(107), Receipt(micros(107), is_sent=False)) == 100_000_000


def test_who_is_far_behind_the_newest_holds_nobody_back() -> None:
    assert covered().reported_until("wayscloud") is None
    known = covered(report((0, None), until=100), report((0, None), until=160, process="1"))
    assert known.reported_until("wayscloud") == micros(100)
    known = covered(report((0, None), until=100), report((0, None), until=161, process="1"))
    assert known.reported_until("wayscloud") == micros(161)


def test_an_old_report_once_more_changes_nothing() -> None:
    known = covered(report((0, 100), (200, None), until=300), report((0, None), until=100))
    assert known.reported_until("wayscloud") == micros(300)
    assert known.due(DEVICE, micros(0), 110_000_000) == micros(210)


@pytest.mark.parametrize("device", ["", DEVICE])
def test_who_ends_at_the_moment_of_its_last_report_says_so(device: str) -> None:
    known = covered(report((0, None), until=100, device=device), report((0, 100), until=100, device=device))
    assert known.due(DEVICE, micros(0), 110_000_000) == NEVER


# -- rules about silence


def test_nobody_turns_silent_while_nobody_listens() -> None:
    fleet = Detecting(OFF, report((-100, None), until=0))
    fleet.feed(record(0, 0, {"t": 1}))
    assert fleet.follow(tick(10_000, 0)) == [], "nobody has reported that they listened"
    assert fleet.follow(report((-100, 1), (9_000, None), until=9_000)) == []
    assert fleet.follow(report((-100, 1), (9_000, None), until=9_299)) == []
    assert fleet.follow(report((-100, 1), (9_000, None), until=9_301)) == ["off:triggered"]
    assert fleet.alarm.triggered_at == at(9_299)


def test_an_open_alarm_stays_open_over_an_outage() -> None:
    fleet = Detecting(OFF, report((-100, None), until=0))
    fleet.feed(record(0, 0, {"t": 1}))
    assert fleet.follow(tick(400, 0), report((-100, None), until=350)) == ["off:triggered"]
    assert fleet.follow(report((-100, 350), (5_000, None), until=6_000), tick(6_000, 0)) == []
    assert fleet.feed(record(1, 6_001, {"t": 1})) == ["off:resolved"]


def test_no_device_is_silent_for_hours_that_a_connectors_clock_has_skipped() -> None:
    """Two hours ahead after 3 s, and set right again at 4 s; a device was heard at 1 s, and is offline after 300 s."""
    hours, key = 7200, coverage_key("wayscloud:fleetlake", "connector", "0")
    log, known = SpanLog(reported_until=micros(0)), CoverageMap()

    def reported(seconds: float) -> int:
        log.lapse(micros(seconds))
        known.take(key, wire.Coverage("wayscloud", "connector", [*log.spans], micros(seconds)))
        log.reported_until = micros(seconds)
        return known.due(DEVICE, micros(1), 300_000_000)

    log.begin(micros(0))
    assert reported(1) == reported(2) == reported(3) == micros(301)
    assert reported(3 + hours) == micros(301 + hours), "in these hours nobody listened, since there were none"
    assert reported(4) == reported(6) == micros(301 + hours), "noticed when time has caught up, and not before"
    assert reported(8 + hours) >= micros(301 + hours)


def test_a_message_after_an_outage_of_ours_finds_no_silence_before_it() -> None:
    fleet = Detecting(OFF, report((-100, None), until=0))
    fleet.feed(record(0, 0, {"t": 1}))
    again = record(1, 9_001, {"t": 1})
    assert fleet.step.needs_side_inputs([again]), "it matters who listened"
    fleet.follow(report((-100, 1), (9_000, None), until=9_000))
    assert fleet.feed(again) == []


def test_a_message_that_comes_before_the_report_of_who_took_it_finds_no_silence() -> None:
    """A connector that was away is heard of through its first message, and only then through its report."""
    fleet = Detecting(OFF, report((-100, None), until=1))
    told = fleet.feed(record(0, 0, {"t": 1}), record(1, 9_000, {"t": 1}))
    gap = report((-100, 1), (9_003, None), until=9_003)
    told += fleet.follow(gap)
    assert told + fleet.feed(record(2, 9_301, {"t": 1})) + fleet.follow(tick(9_302, 2)) == []
    assert Detecting(OFF, gap).feed(*(record(n, s, {"t": 1}) for n, s in enumerate((0, 9_000, 9_301)))) == []


def test_an_answer_that_comes_before_the_report_of_who_asked_finds_no_silence() -> None:
    fleet = Detecting(OFF, report((-100, None), until=1))
    assert fleet.feed(record(0, 0, {"t": 1}), record(1, 9_000, {"h": 1}, polled=True)) == []


def test_the_same_alarms_come_of_a_replay_that_knows_the_outage_from_the_beginning() -> None:
    """The connector was killed at 400; it had reported until 385, and a message came in between."""
    messages = [record(0, 0, {"t": 1}), record(1, 390, {"t": 1}), record(2, 2_000, {"t": 1})]
    live = Detecting(OFF, report((-100, None), until=385))
    told = live.feed(messages[0]) + live.follow(tick(299, 0)) + live.feed(messages[1])
    assert told == ["off:triggered", "off:resolved"]
    gap = report((-100, 385), (1_500, None), until=3_000)
    told += live.follow(gap, tick(1_900, 1)) + live.feed(messages[2]) + live.follow(tick(2_500, 2))
    assert told == [*["off:triggered", "off:resolved"] * 2, "off:triggered"]
    replayed = Detecting(OFF, gap)
    replayed.feed(*messages)
    replayed.follow(tick(2_500, 2))
    assert replayed.events == live.events
    assert [event.created_at for event in live.events if event.event_type == "triggered"] == [
        at(300), at(390 + 300 + 1_110), at(2_300),
    ]  # fmt: skip


def test_a_poll_during_an_outage_proves_nothing() -> None:
    fleet = Detecting(OFF, report((-100, 10), (900, None), until=2_000))
    fleet.feed(record(0, 0, {"t": 1}))
    polls = [record(n, 60 * n, {"h": 1}, polled=True) for n in range(1, 15)]
    assert fleet.feed(*polls) == []
    assert fleet.follow(tick(1_191, 14)) == ["off:triggered"]
    assert fleet.alarm.triggered_at == at(1_190)


def test_one_devices_socket_is_down_and_the_others_are_heard() -> None:
    fleet = Detecting(OFF, report((-100, None), until=5_000), report((-100, 5), until=5, device=DEVICE))
    fleet.feed(record(0, 0, {"t": 1}), record(1, 0, {"t": 1}, "wayscloud:b"))
    assert fleet.follow(tick(1_000, 1)) == ["off:triggered"]
    assert fleet.alarm.device_id == "wayscloud:b"
    assert fleet.follow(report((-100, 5), (1_000, None), until=1_000, device=DEVICE), tick(1_296, 1)) == [
        "off:triggered"
    ]
    assert (fleet.alarm.device_id, fleet.alarm.triggered_at) == (DEVICE, at(1_295))


def test_missing_data_and_rates_count_no_time_of_ours() -> None:
    missing = rule(
        1, -10, "missing", **SILENT | {"rule_type": "missing_data"}, config={"metric": "t", "duration_seconds": 300}
    )
    few = {"operator": "lt", "value": 1, "window_seconds": 60}
    rate = rule(2, -10, "few", rule_type="message_rate", config=few, auto_resolve=True, cooldown_seconds=0)
    fleet = Detecting(missing, rate, report((-100, 59), (900, None), until=2_000))
    fleet.feed(record(0, 0, {"t": 1}))
    assert fleet.follow(tick(899, 0)) == []
    assert fleet.follow(tick(1_500, 0)) == ["few:triggered", "missing:triggered"]
    assert [event.created_at for event in fleet.events] == [at(960), at(1_141)]


@pytest.mark.parametrize(
    ("gap", "operator", "value", "told"),
    [
        (30, "lt", 3, ["triggered"]),  # a stall of ours: two would be too few for the rest of the hour, too
        (30, "lt", 2.01, []),
        (60, "lt", 3, []),
        (30, "lte", 2, []),
        (600, "gt", 1, ["triggered"]),
        (600, "gt", 2, []),
        (600, "eq", 2, []),
    ],
)
def test_a_window_is_evaluated_by_what_is_known_of_it(gap: float, operator: str, value: float, told: list[str]) -> None:
    config = {"operator": operator, "value": value, "window_seconds": 3600}
    rate = rule(0, -10, "rate", rule_type="message_rate", config=config, auto_resolve=True, cooldown_seconds=0)
    fleet = Detecting(rate, report((-100, 5_000), (5_000 + gap, None), until=9_000))
    fleet.feed(
        *(record(n, at, {"t": 1}) for n, at in enumerate((100, 3_700, 6_000)))
    )  # the first window does not count
    assert fleet.follow(tick(7_201, 2)) == [f"rate:{kind}" for kind in told]


def test_enough_in_a_part_of_the_window_ends_an_alarm_about_too_little() -> None:
    few = {"operator": "lt", "value": 2, "window_seconds": 3600}
    rate = rule(0, -10, "few", rule_type="message_rate", config=few, auto_resolve=True, cooldown_seconds=0)
    fleet = Detecting(rate, report((-100, 8_000), (9_000, None), until=11_000))
    fleet.feed(record(0, 100, {"t": 1}), record(1, 3_700, {"t": 1}))
    assert fleet.follow(tick(7_201, 1)) == ["few:triggered"]
    fleet.feed(record(2, 9_600, {"t": 1}), record(3, 9_601, {"t": 1}))
    assert fleet.follow(tick(10_801, 3)) == ["few:resolved"]


def test_an_alert_is_not_quiet_while_nobody_listens() -> None:
    ogmen = Detecting(topic=EVENTS, options=DetectOptions(quiet={"ogmen": 3_600_000_000}))
    ogmen.follow(report((-10, 100), (50_000, None), until=60_000, vendor="ogmen"))
    ogmen.feed(alert(0, 0))
    assert ogmen.follow(tick(53_500, 0, "ogmen")) == []
    assert ogmen.follow(tick(53_501, 0, "ogmen")) == ["ogmen:alert:navigation:Stuck:resolved"]
    assert ogmen.last.created_at == at(53_500)


def test_a_vendor_that_nobody_listens_to_holds_up_no_inhibitors_of_others() -> None:
    fleet = Detecting(OFF, report((-100, None), until=0, vendor="ogmen"))
    marks = fleet.step._watermarks
    for vendor in marks.vendors:
        made = wire.Watermark(vendor, at(0 if vendor == "ogmen" else 50), -1, -1, at(50))
        fleet.step.process_side_input(ConsumedRecord(WATERMARKS, 0, None, wire.encode(made)))
    assert marks.all_reached == micros(0), "it may just be late"
    for vendor in marks.vendors:
        made = wire.Watermark(vendor, at(0 if vendor == "ogmen" else 61), -1, -1, at(61))
        fleet.step.process_side_input(ConsumedRecord(WATERMARKS, 0, None, wire.encode(made)))
    assert marks.all_reached == micros(61), "nothing can happen to its devices before it is back"


# -- that we do not listen


def listening(*reports: ConsumedRecord) -> Detecting:
    return Detecting(*reports, topic=COVERAGE)


def numbered(offset: int, made: ConsumedRecord) -> ConsumedRecord:
    return ConsumedRecord(COVERAGE, offset, made.key, made.value, made.timestamp)


def test_that_nobody_listens_is_one_alarm_of_the_vendor_and_ends() -> None:
    ours = listening()
    assert ours.feed(numbered(0, report((0, None), until=100))) == []
    assert ours.follow(clock(160, 0)) == []
    assert ours.follow(clock(161, 0)) == ["pipeline-not-listening:triggered"]
    assert (ours.alarm.device_id, ours.alarm.triggered_at) == ("wayscloud:fleetlake", at(160))
    assert (ours.last.actor, (ours.last.metadata or {})["source"]) == ("pipeline", "pipeline")
    records.AlarmEvent.model_validate_json(wire.encode(ours.last))
    assert ours.follow(clock(500, 0)) == []
    assert ours.feed(numbered(1, report((0, 100), (501, None), until=501))) == []
    assert ours.follow(clock(501.5, 1)) == [], "it has only begun"
    made = numbered(2, report((0, 100), (501, None), until=502))
    assert ours.feed(made) == ["pipeline-not-listening:resolved"]
    assert ours.alarm.resolved_at == at(501)
    in_hindsight = listening(report((0, 100), (501, None), until=502))
    in_hindsight.follow(clock(502))
    assert in_hindsight.events == ours.events
    ours.restart()
    assert ours.follow(clock(561)) == [], "noticed once"


def test_a_short_outage_is_no_alarm_and_a_lag_of_ours_neither() -> None:
    ours = listening()
    ours.feed(numbered(0, report((0, None), until=100)))
    assert ours.follow(clock(1_000, 7)) == [], "the report before that time has not been read"
    assert ours.feed(numbered(7, report((0, 100), (159, None), until=999))) == []


def test_an_outage_that_lasts_exactly_as_long_as_the_alarm_waits_is_one_that_begins_and_ends_then() -> None:
    ours = listening()
    ours.feed(numbered(0, report((0, 100), (160, None), until=999)))
    assert ours.follow(clock(999, 0)) == ["pipeline-not-listening:triggered", "pipeline-not-listening:resolved"]
    assert (ours.alarm.triggered_at, ours.alarm.resolved_at) == (at(160), at(160))


def test_a_devices_socket_alone_is_an_alarm_of_the_device() -> None:
    ours = listening(report((0, None), until=500), report((0, 10), until=10, device=DEVICE))
    assert ours.follow(clock(400)) == ["pipeline-not-listening:triggered"]
    assert (ours.alarm.device_id, ours.alarm.triggered_at) == (DEVICE, at(70))


def test_operators_act_on_it() -> None:
    ours = listening(report((0, None), until=100))
    ours.follow(clock(161))
    ours.follow(action(0, 170, "acknowledge", ours.alarm.alarm_id, device="wayscloud:fleetlake"))
    assert ours.follow(clock(171)) == ["pipeline-not-listening:acknowledged"]
    ours.restart()
    assert ours.follow(report((0, 100), (300, None), until=301), clock(301)) == ["pipeline-not-listening:resolved"]


def test_of_several_actions_each_is_carried_out_in_order() -> None:
    ours = listening(report((0, None), until=100))
    ours.follow(clock(161))
    kinds = ["acknowledge", "resolve", "reopen", "acknowledge"]
    made = [action(n, 170 + n, kind, ours.alarm.alarm_id, "wayscloud:fleetlake") for n, kind in enumerate(kinds)]
    ours.follow(*made)
    done = ["acknowledged", "resolved", "reopened", "acknowledged"]
    assert ours.follow(clock(180)) == [f"pipeline-not-listening:{kind}" for kind in done]


def test_its_snooze_ends() -> None:
    ours = listening(report((0, None), until=100))
    ours.follow(clock(161))
    snoozed = action(0, 170, "snooze", ours.alarm.alarm_id, device="wayscloud:fleetlake", until=at(400))
    ours.follow(snoozed)
    assert ours.follow(clock(400)) == ["pipeline-not-listening:snoozed"]
    ours.restart()
    assert ours.follow(clock(401)) == ["pipeline-not-listening:snooze_ended"]
    assert ours.last.created_at == at(400)


def test_what_is_no_report_is_left_out() -> None:
    ours = listening()
    bad: list[Any] = [b"rubbish", None, b"{}"]
    for value in bad:
        ours.feed(ConsumedRecord(COVERAGE, 0, b"wayscloud:fleetlake#connector#0", value))
        ours.step.process_side_input(ConsumedRecord(COVERAGE, 0, b"wayscloud:fleetlake#connector#0", value))
    assert isinstance(ours.step, ListeningOperator) and ours.follow(clock(10_000)) == []
