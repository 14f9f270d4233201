from __future__ import annotations

import pytest

from fleetlake.local.broker.settings import error_lines, log4j2_properties, server_properties


def _parsed(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_nothing_listens_beyond_loopback() -> None:
    properties = _parsed(server_properties(9092, 9093))
    listeners = properties["listeners"].split(",") + properties["advertised.listeners"].split(",")
    assert {listener.split("://")[1].split(":")[0] for listener in listeners} == {"127.0.0.1"}
    assert properties["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9092"


def test_acknowledged_means_on_disk() -> None:
    assert _parsed(server_properties(9092, 9093))["log.flush.interval.messages"] == "1"


def test_errors_are_told_before_the_lines_around_them() -> None:
    log = (
        "2026-01-01T00:00:00.000Z INFO starting (Kafka)\n"
        "2026-01-01T00:00:00.000Z ERROR Exiting Kafka due to fatal exception (Kafka$)\n"
        "java.lang.RuntimeException: Stored node id 7 doesn't match\n"
        "\tat kafka.Kafka.main(Kafka.scala)\n"
        "2026-01-01T00:00:00.000Z INFO shutting down (Kafka)\n"
    )
    assert error_lines(log) == [
        "2026-01-01T00:00:00.000Z ERROR Exiting Kafka due to fatal exception (Kafka$)",
        "java.lang.RuntimeException: Stored node id 7 doesn't match",
    ]


def test_without_an_error_the_end_is_told() -> None:
    assert error_lines("a\nb\n\nc\n" + "d" * 1000) == ["b", "c", "d" * 300]


PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:9093
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093
advertised.listeners=PLAINTEXT://127.0.0.1:9092
log.dirs=data
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.flush.interval.messages=1
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
offsets.topic.num.partitions=8
transaction.state.log.num.partitions=8
share.coordinator.state.topic.num.partitions=8
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
auto.create.topics.enable=false
message.max.bytes=16777216
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""


def test_the_brokers_properties_line_by_line() -> None:
    """Each has its reason beside it in the module; a changed one changes what a kill costs, or how soon it starts."""
    assert server_properties(9092, 9093).splitlines() == PROPERTIES.splitlines()


def test_the_log_is_rolled_within_the_brokers_folder() -> None:
    properties = _parsed(log4j2_properties())
    assert properties["appender.file.fileName"] == "logs/broker.log"
    assert properties["appender.file.policies.size.size"] == "5MB"
    assert properties["shutdownHook"] == "disable"


@pytest.mark.parametrize(
    "line",
    [
        *("x ERROR y", "x FATAL y", "Caused by: z", "Error: z", "java.lang.IllegalStateException: z"),
        *("NoSuchMethodError", "a OutOfMemoryError b"),
    ],
)
def test_what_counts_as_an_error(line: str) -> None:
    assert error_lines(f"fine\n{line}\nfine too") == [line]


def test_the_last_eight_errors_are_shown_shortened() -> None:
    lines = [f"x ERROR {number}" for number in range(10)]
    assert error_lines("\n".join(lines)) == lines[2:]
    assert error_lines("\n".join(lines), 2) == lines[8:]
    assert error_lines("Error: " + "e" * 400) == ["Error: " + "e" * 293]
    assert error_lines("a\n \nb\nc\nd") == ["b", "c", "d"]
