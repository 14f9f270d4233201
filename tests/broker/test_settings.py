from __future__ import annotations

from fleetlake.local.broker.settings import error_lines, server_properties


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
