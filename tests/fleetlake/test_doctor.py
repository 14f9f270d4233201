"""What the doctor says of what it has seen, at the edges of each judgement."""

from __future__ import annotations

import pytest

from fleetlake.ops.doctor.findings import (
    Finding,
    Group,
    Span,
    Verdict,
    clock_finding,
    count_finding,
    descriptor_finding,
    disk_finding,
    foreign_findings,
    group_findings,
    privacy_finding,
    published_finding,
    stale_finding,
    topic_findings,
)

A, B = ("a", 0), ("a", 1)
SPANS = {A: Span(0, 100), B: Span(50, 200)}
WELL = Group("app", {A: 100, B: 190}, frozenset({A, B}), 2, ("10.0.0.1", "10.0.0.2"))


def wrong(findings: list[Finding]) -> list[str]:
    assert all(finding.advice for finding in findings if finding.verdict is not Verdict.OK), "it says what to do"
    return [finding.what for finding in findings if finding.verdict is Verdict.WRONG]


def test_a_group_that_reads_everything_is_well() -> None:
    findings = group_findings("stream", WELL, SPANS)
    assert not wrong(findings)
    assert [finding.what for finding in findings] == [
        "2 processes read 2 partitions (10.0.0.1, 10.0.0.2)",
        "up to 10 records wait",
    ]


def test_a_group_without_members_does_not_run() -> None:
    assert wrong(group_findings("stream", Group("app"), SPANS)) == ["nobody reads (group app has no member)"]


def test_a_partition_that_exists_and_is_assigned_to_nobody_is_named() -> None:
    group = Group("app", WELL.committed, frozenset({A}), 1, ("h",))
    expected = ["1 partitions are assigned to no process, among them a/1"]
    assert wrong(group_findings("stream", group, SPANS)) == expected


def test_records_that_expired_before_they_were_read_are_counted() -> None:
    group = Group("app", {A: 100, B: 20}, WELL.assigned, 1, ("h",))
    expected = ["up to 30 records expired in Kafka before they were read"]
    assert wrong(group_findings("delta", group, SPANS)) == expected


@pytest.mark.parametrize(("at", "begin", "soon"), [(1_500, 1_000, True), (90_000, 1_000, False), (500, 0, False)])
def test_records_that_will_expire_unread_are_warned_of(at: int, begin: int, soon: bool) -> None:
    group = Group("app", {A: at}, frozenset({A}), 1, ("h",))
    said = wrong(group_findings("delta", group, {A: Span(begin, 100_000)}))
    assert any("will expire soon" in what for what in said) is soon


def test_lag_counts_partitions_that_were_never_committed() -> None:
    group = Group("app", {}, frozenset({A}), 1, ("h",))
    assert wrong(group_findings("delta", group, {A: Span(5, 10_006)})) == ["up to 10,001 records wait"]
    assert not wrong(group_findings("delta", group, {A: Span(5, 10_005)}))


def test_topics_must_exist_and_have_one_number_of_partitions() -> None:
    assert wrong(topic_findings({"a": 4}, ["a", "b"])) == ["1 are missing, among them b"]
    assert wrong(topic_findings({"a": 4, "b": 5}, ["a", "b"])) == ["different numbers of partitions: a has 4, b has 5"]
    assert not wrong(topic_findings({"a": 4, "b": 4, "other": 1}, ["a", "b"]))


def test_another_lakes_group_is_a_note_as_long_as_it_has_members() -> None:
    others = [
        Group("app-delta-1", members=1, hosts=("h",)),
        Group("app-delta-2", members=1, hosts=("x",)),
        Group("dead"),
    ]
    (finding,) = foreign_findings("app-delta-1", others)
    assert finding.verdict is Verdict.NOTE
    assert "app-delta-2" in finding.what


@pytest.mark.parametrize(("newest", "is_wrong"), [(1000.0, False), (900.0, False), (1060.0, False), (1061.0, True)])
def test_a_record_from_the_future_means_that_a_clock_is_wrong(newest: float, is_wrong: bool) -> None:
    assert bool(wrong([clock_finding(newest, 1000.0)])) is is_wrong


def test_machine() -> None:
    gib = 1024**3
    assert not wrong([disk_finding(10 * gib, 100 * gib), descriptor_finding(4096), privacy_finding([], "077")])
    assert wrong([disk_finding(4 * gib, 100 * gib)]) == ["4.0 of 100.0 GiB are free"]
    assert wrong([disk_finding(1 * gib, 10 * gib)])
    assert wrong([descriptor_finding(1024)]) == ["a process may open 1024 files only"]
    assert wrong([privacy_finding(["data/logs"], "077")]) == ["others can read data/logs"]


def test_tables_that_do_not_follow_are_wrong_only_while_the_sink_should_run() -> None:
    assert wrong([published_finding(121, True)]) == ["fleet.duckdb was published 121 s ago"]
    assert not wrong([published_finding(121, False), published_finding(119, True)])


def test_counts_and_silent_devices_are_notes() -> None:
    assert count_finding("gaps", {}, "x").verdict is Verdict.OK
    letters = count_finding("dead letters", {"a": 1, "b": 5, "c": 2, "d": 3}, "look")
    assert (letters.verdict, letters.what) == (Verdict.NOTE, "11 in the last 24 hours: b 5, d 3, c 2")
    assert stale_finding([], 4).verdict is Verdict.OK
    assert stale_finding(["x:2", "x:1"], 4).what == (
        "2 of 4 registered devices were not heard of for 24 hours: x:1, x:2"
    )
