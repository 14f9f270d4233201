"""What `fleetlake topics --acls` prints. That it suffices is shown by tests/runtime/test_kafka_security.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleetlake.cli.main import app
from fleetlake.ops.acls import acls, commands
from runtime.kafka import KafkaSettings
from schemas.topics import ALARM_ACTIONS, ALARM_STATE, ALARMS, DEVICES, MAINTENANCE, READINGS, RULES, topic_specs
from streams.detect.operators import OPERATORS

KAFKA = KafkaSettings(topic_prefix="team.", application_id="fleet")


def test_every_name_has_the_prefix_and_every_topic_is_declared_by_somebody() -> None:
    grants = acls(KAFKA, ["karcher"])
    assert all(grant.name.startswith("team.") for grant in grants)
    declared = {grant.name for grant in grants if "Create" in grant.operations}
    assert declared == {f"team.{spec.name}" for spec in topic_specs(["karcher"])}
    groups = {(grant.stage, grant.name, grant.pattern) for grant in grants if grant.resource == "group"}
    assert groups == {
        ("stream", "team.fleet", "literal"),
        ("connect", "team.fleet-connect-karcher", "literal"),
        ("delta", "team.fleet-delta-", "prefixed"),
        ("operator", "team.fleet", "prefixed"),
    }


def test_a_stage_gets_no_more_than_it_needs() -> None:
    may = {
        (grant.stage, grant.name.removeprefix("team.")): set(grant.operations) & {"Read", "Write"}
        for grant in acls(KAFKA, ["karcher"])
        if grant.resource == "topic"
    }
    assert may["delta", ALARMS] == {"Read"} and may["delta", ALARM_STATE] == set()
    assert may["connect", READINGS] == set() and may["connect", "telemetry.raw.karcher.v1"] == {"Write"}
    assert not any(operations for (stage, _), operations in may.items() if stage == "topics")
    assert {topic for (stage, topic), operations in may.items() if stage == "operator" and "Write" in operations} == {
        RULES,
        MAINTENANCE,
        ALARM_ACTIONS,
        DEVICES,
        "telemetry.raw.karcher.v1",
    }


def test_the_stream_worker_may_read_what_its_operators_read_and_write_their_state() -> None:
    may = {
        grant.name.removeprefix("team."): grant.operations
        for grant in acls(KAFKA, ["karcher"])
        if grant.stage == "stream" and grant.resource == "topic"
    }
    for topic, operator in OPERATORS.items():
        assert "Read" in may[topic]
        assert {"Read", "Write"} <= set(may[operator.state_topic])
        for side_input in operator.side_inputs:
            assert "Read" in may[side_input.topic], (topic, side_input)


def test_the_command_asks_no_kafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEETLAKE_KAFKA__TOPIC_PREFIX", "team.")
    listed = json.loads(CliRunner().invoke(app, ["topics", "--acls", "--json"]).stdout)
    assert {
        "stage": "stream",
        "resource": "group",
        "name": "team.fleetlake",
        "pattern": "literal",
        "operations": ["Read"],
    } in listed
    lines = CliRunner().invoke(app, ["topics", "--commands"]).stdout.splitlines()
    assert len(lines) == len(listed)
    assert all(
        line.startswith("kafka-acls.sh --bootstrap-server BROKER:9092 --add --allow-principal User:") for line in lines
    )
    assert list(tmp_path.iterdir()) == []


def test_commands_quote_names_and_say_how_they_match() -> None:
    [line] = [each for each in commands(acls(KAFKA, []), "b:9092") if "--transactional-id" in each]
    assert line == (
        "kafka-acls.sh --bootstrap-server b:9092 --add --allow-principal User:stream --operation Describe "
        "--operation Write --transactional-id 'team.fleet-' --resource-pattern-type prefixed"
    )
