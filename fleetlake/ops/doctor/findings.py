"""What the doctor says of what it has seen. Pure: times and figures are arguments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

_SKEW_SECONDS = 60.0
_NEARLY_EXPIRED = 0.1
_LAG_RECORDS = 10_000
_FREE_SHARE, _FREE_BYTES = 0.05, 2 * 1024**3
_DESCRIPTORS = 4096
_PUBLISHED_SECONDS = 120.0

Partition = tuple[str, int]
"""Topic and number."""


class Verdict(StrEnum):
    """How a finding is meant. Only WRONG makes the command fail."""

    OK = "ok"
    NOTE = "note"
    WRONG = "WRONG"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what is so, and what to do about it."""

    verdict: Verdict
    subject: str
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """The first offset that Kafka still holds of a partition, and the offset after the last."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group: its committed offsets, what its members read, and the hosts they are on."""

    name: str
    committed: Mapping[Partition, int] = field(default_factory=dict)
    assigned: frozenset[Partition] = frozenset()
    members: int = 0
    hosts: tuple[str, ...] = ()


def group_findings(subject: str, group: Group, spans: Mapping[Partition, Span]) -> list[Finding]:
    """Whether a group works, is behind, or has lost records. `spans` are the partitions it should read."""
    return [
        _membership(subject, group, spans),
        *_retention(subject, group, spans),
        _lag(subject, group, spans),
    ]


def _membership(subject: str, group: Group, spans: Mapping[Partition, Span]) -> Finding:
    if not group.members:
        return Finding(
            Verdict.WRONG,
            subject,
            f"nobody reads (group {group.name} has no member)",
            "start `fleetlake up`, or the stage",
        )
    unread = sorted(partition for partition in spans if partition not in group.assigned)
    if unread:
        topic, number = unread[0]
        return Finding(
            Verdict.WRONG,
            subject,
            f"{len(unread)} partitions are assigned to no process, among them {topic}/{number}",
            "a rebalance takes seconds; if this stays, restart the stage: it does not know these partitions",
        )
    where = ", ".join(group.hosts)
    return Finding(Verdict.OK, subject, f"{group.members} processes read {len(spans)} partitions ({where})")


def _retention(subject: str, group: Group, spans: Mapping[Partition, Span]) -> Iterable[Finding]:
    lost = {p: spans[p].begin - at for p, at in group.committed.items() if p in spans and at < spans[p].begin}
    if lost:
        yield Finding(
            Verdict.WRONG,
            subject,
            f"up to {sum(lost.values()):,} records expired in Kafka before they were read",
            "raise retention.ms of the topics; what expired can be rebuilt from table `raw` if that is kept",
        )
    close = [p for p, at in group.committed.items() if p in spans and p not in lost and _nearly_expired(at, spans[p])]
    if close:
        yield Finding(
            Verdict.WRONG,
            subject,
            f"the next records of {len(close)} partitions are among the oldest that Kafka holds and will expire soon",
            "raise retention.ms now, or add processes to the stage",
        )


def _nearly_expired(at: int, span: Span) -> bool:
    waiting, held = span.end - at, span.end - span.begin
    return span.begin > 0 and waiting > _LAG_RECORDS and at - span.begin < _NEARLY_EXPIRED * held


def _lag(subject: str, group: Group, spans: Mapping[Partition, Span]) -> Finding:
    waiting = sum(max(0, span.end - max(group.committed.get(p, span.begin), span.begin)) for p, span in spans.items())
    if waiting > _LAG_RECORDS:
        return Finding(
            Verdict.WRONG,
            subject,
            f"up to {waiting:,} records wait",
            "if the number does not fall, add processes (`stream_workers`), or see the stage's log",
        )
    return Finding(Verdict.OK, subject, f"up to {waiting:,} records wait")


def topic_findings(partitions: Mapping[str, int], expected: Collection[str]) -> list[Finding]:
    """Whether all topics exist and have as many partitions as one another."""
    missing = sorted(set(expected) - partitions.keys())
    if missing:
        what = f"{len(missing)} are missing, among them {missing[0]}"
        return [Finding(Verdict.WRONG, "topics", what, "run `fleetlake topics`")]
    counts = {name: partitions[name] for name in expected}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in sorted(counts.items(), key=lambda item: item[1]))
        advice = "add partitions to the smaller ones: a device must have one partition number on all topics"
        return [Finding(Verdict.WRONG, "topics", f"different numbers of partitions: {listed}", advice)]
    return [Finding(Verdict.OK, "topics", f"all {len(counts)} exist, with {next(iter(counts.values()), 0)} partitions")]


def foreign_findings(ours: str, others: Iterable[Group]) -> list[Finding]:
    """Whether other lakes are filled under our application id."""
    return [
        Finding(
            Verdict.NOTE,
            "other pipelines",
            f"group {group.name} reads the same topics for another lake, from {', '.join(group.hosts)}",
            f"if it is not meant, stop it, or give it another [kafka] application_id (ours is {ours})",
        )
        for group in others
        if group.members and group.name != ours
    ]


def clock_finding(newest: float, now: float) -> Finding:
    """Whether the newest record of Kafka (epoch seconds) is from the future."""
    ahead = newest - now
    if ahead > _SKEW_SECONDS:
        advice = "synchronise the clocks (NTP) of this machine and of those that run connectors"
        return Finding(Verdict.WRONG, "clocks", f"the newest record is {ahead:.0f} s ahead of this machine", advice)
    return Finding(Verdict.OK, "clocks", f"the newest record is {max(0.0, -ahead):.0f} s old")


def disk_finding(free: int, total: int) -> Finding:
    """Whether the disk of the data folder has room."""
    what = f"{free / 1024**3:.1f} of {total / 1024**3:.1f} GiB are free"
    if free < max(_FREE_SHARE * total, _FREE_BYTES):
        advice = "make room, or set expire_days in [sink.delta]; a full disk stops everything, and loses nothing"
        return Finding(Verdict.WRONG, "disk", what, advice)
    return Finding(Verdict.OK, "disk", what)


def descriptor_finding(most: int) -> Finding:
    """Whether a process may open enough files and connections (the hard limit, which stages raise theirs to)."""
    if most < _DESCRIPTORS:
        advice = "raise it: LimitNOFILE= in the systemd unit, `ulimits` in compose, /etc/security/limits.conf"
        return Finding(Verdict.WRONG, "descriptors", f"a process may open {most} files only", advice)
    return Finding(Verdict.OK, "descriptors", f"a process may open {most:,} files")


def privacy_finding(readable: Collection[str], umask: str) -> Finding:
    """Whether others can read folders that the umask would keep from them."""
    if readable:
        advice = f"chmod go-rwx them, or set [pipeline] umask if that is meant (it is {umask})"
        return Finding(Verdict.WRONG, "privacy", f"others can read {', '.join(sorted(readable))}", advice)
    return Finding(Verdict.OK, "privacy", f"files are as private as [pipeline] umask = {umask} says")


def published_finding(age_seconds: float, running: bool) -> Finding:
    """Whether `fleet.duckdb` follows."""
    what = f"fleet.duckdb was published {age_seconds:,.0f} s ago"
    if running and age_seconds > _PUBLISHED_SECONDS:
        return Finding(Verdict.WRONG, "tables", what, "see logs/duckdb.log: does `fleetlake sink duckdb` run?")
    return Finding(Verdict.OK, "tables", what)


def count_finding(subject: str, counts: Mapping[str, int], advice: str) -> Finding:
    """What happened in the last day, by kind; nothing is well."""
    total = sum(counts.values())
    if not total:
        return Finding(Verdict.OK, subject, "none in the last 24 hours")
    most = sorted(counts.items(), key=lambda item: -item[1])[:3]
    listed = ", ".join(f"{name} {count:,}" for name, count in most)
    return Finding(Verdict.NOTE, subject, f"{total:,} in the last 24 hours: {listed}", advice)


def stale_finding(silent: Collection[str], devices: int) -> Finding:
    """Which registered devices were not heard of for a day."""
    if not silent:
        return Finding(Verdict.OK, "devices", f"all {devices} registered devices were heard of in the last 24 hours")
    first = ", ".join(sorted(silent)[:3])
    what = f"{len(silent)} of {devices} registered devices were not heard of for 24 hours: {first}"
    return Finding(
        Verdict.NOTE, "devices", what, '`fleetlake sql "FROM fleet_health"`: are they switched on and online?'
    )
