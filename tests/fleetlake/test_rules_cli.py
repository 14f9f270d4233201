"""`fleetlake rules` as an operator runs it, without Kafka: checking, and trying out on recorded readings."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import write_deltalake

from schemas import wire
from schemas.topics import ALARMS, COVERAGE
from sinks.delta.rows import to_rows
from sinks.delta.tables import ALARM_EVENTS_TABLE, DEVICES_TABLE, READINGS_TABLE, Table
from tests.fleetlake.command import Run
from tests.support.detecting import DEVICE, T0, Detecting, clock, device, millis, record, report
from tests.support.records import ConsumedRecord

RULES = {
    "rules": [
        {
            "id": "hot",
            "name": "Hot",
            "rule_type": "threshold",
            "severity": "critical",
            "config": {"datapoint_id": "temperature", "operator": "gt", "value": 40},
            "scope_type": "model",
            "scope_model": "KIRA",
            "auto_resolve": True,
            "cooldown_seconds": 0,
        },
        {
            "id": "off",
            "name": "Offline",
            "rule_type": "offline",
            "config": {"missed_intervals": 3, "reporting_interval_seconds": 100},
        },
    ]
}
BAD = {"id": "bad", "name": "Bad", "rule_type": "threshold", "config": {"metric": "m", "operator": "above", "value": 1}}


@pytest.fixture(autouse=True)
def rules_file(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(json.dumps(RULES))


def test_check_says_what_is_good_and_what_is_not(run: Run, tmp_path: Path) -> None:
    output = run("rules", "check", "rules.json")
    assert "environment.temperature > 40" in output and "model KIRA" in output
    assert "nothing received for 3 intervals" in output
    (tmp_path / "more.json").write_text(json.dumps([*RULES["rules"], BAD]))
    output = run("rules", "check", "more.json", status=1)
    assert "environment.temperature > 40" in output, "a bad rule does not hide the good ones"
    assert "refused: rule bad: config.operator: has to be 'gt'" in output
    assert "no rules file" in run("rules", "check", status=1)


QUIRKS = """\
rules:
  - { id: mode, name: Heating, rule_type: threshold, config: { metric: device.mode, operator: eq, value: off } }
  - { id: 0755, name: Octal, rule_type: threshold, config: { metric: battery.level, operator: lt, value: 15 } }
  - { id: typo, name: Typo, rule_type: threshold, config: { metric: batery.level, operator: lt, value: 15 } }
  - { id: field, name: Field, rule_type: offline, config: { duration_seconds: 5 }, auto_resolv: true }
"""


def test_rules_that_can_never_trigger_are_refused_or_warned_of(run: Run, tmp_path: Path) -> None:
    (tmp_path / "quirks.yaml").write_text(QUIRKS)
    output = run("rules", "check", "quirks.yaml", status=1)
    assert "refused: rule mode: config.value: device.mode is text" in output and "YAML reads off as false" in output
    assert "refused: rule 493: id: YAML reads 0755 as the number 493" in output
    assert "refused: rule field: auto_resolv: is unknown; did you mean auto_resolve?" in output
    warning = "warning: rule typo: config.metric: no vendor sends 'batery.level'; did you mean battery.level?"
    assert warning in output
    (tmp_path / "recorded.jsonl").write_bytes(b"")
    assert warning in run("rules", "test", "quirks.yaml", "--recording", "recorded.jsonl", status=1)
    (tmp_path / "fleetlake.toml").write_text('[stream.wayscloud_datapoints.x]\nmetric = "batery.level"\n')
    assert "warning" not in run("rules", "check", "quirks.yaml", status=1), "the user defines it"


def recorded() -> list[ConsumedRecord]:
    return [
        record(0, 0, {"environment.temperature": 39.0}),
        record(1, 100, {"environment.temperature": 45.0}),
        record(2, 200, {"environment.temperature": 30.0}),
        record(3, 900, {"environment.temperature": 31.0}),
        record(4, 950, {"environment.temperature": 45.0}, "wayscloud:b"),
    ]


def test_rules_are_tried_out_on_a_recording(run: Run, tmp_path: Path) -> None:
    lines = b"\n".join(each.value or b"" for each in recorded())
    (tmp_path / "recorded.jsonl").write_bytes(lines + b"\n")
    output = run("rules", "test", "rules.json", "--recording", "recorded.jsonl")
    assert "1 alarms of 2 rules in 5 readings of 2 devices, 2026-03-16 00:00:00Z to 2026-03-16 00:15:50Z" in output
    assert "nothing received for 300 s" in output
    assert "2026-03-16 00:08:20" in output, "last heard at 200 s, and 300 s later it is offline"
    (tmp_path / "recorded.jsonl").write_bytes(lines + b"\nrubbish")
    assert "recorded.jsonl, line 6" in run("rules", "test", "rules.json", "--recording", "recorded.jsonl", status=1)


def test_rules_are_tried_out_on_a_range_of_the_lake(run: Run, tmp_path: Path) -> None:
    known = device(0, DEVICE, model="KIRA")
    for table, records in ((READINGS_TABLE, recorded()), (DEVICES_TABLE, [known])):
        write_deltalake(tmp_path / "data" / "lake" / table.name, to_rows(table, records).table)
    output = run("rules", "test", "rules.json")
    assert "2 alarms of 2 rules in 5 readings of 2 devices" in output
    hot = next(line for line in output.splitlines() if "hot" in line)
    assert "2026-03-16 00:01:40" in hot and "2026-03-16 00:03:20" in hot, "triggered at 100 s and resolved at 200 s"
    until = (T0 + timedelta(seconds=150)).isoformat(timespec="seconds").removesuffix("+00:00")
    output = run("rules", "test", "rules.json", "--to", until)
    assert "1 alarms of 2 rules in 2 readings" in output and "active" in output
    assert "has no table" in run("rules", "test", "rules.json", "--data", "elsewhere", status=1)


def test_what_the_lake_holds_is_what_the_topic_held() -> None:
    from fleetlake.ops.rules_trial import _observation

    before = wire.decode_observation(recorded()[1].value or b"")
    rows = to_rows(READINGS_TABLE, recorded()[1:2]).table.to_pylist()
    assert _observation(rows) == before
    polled = record(1, 100, {"environment.temperature": 45.0}, polled=True, heard_at=T0)
    before = wire.decode_observation(polled.value or b"")
    rows = to_rows(READINGS_TABLE, [polled]).table.to_pylist()
    assert _observation(rows) == before
    of_an_older_version = [{name: row[name] for name in row if name not in ("polled", "heard_at")} for row in rows]
    assert _observation(of_an_older_version).polled is False


def test_our_own_outages_in_the_lake_are_no_silence_of_a_device(run: Run, tmp_path: Path) -> None:
    def write(table: Table, *records: ConsumedRecord) -> None:
        write_deltalake(tmp_path / "data" / "lake" / table.name, to_rows(table, records).table)

    write(READINGS_TABLE, *(record(n, at, {"battery.level": 1.0}) for n, at in enumerate((0, 9_000))))
    assert "1 alarms of 2 rules" in run("rules", "test", "rules.json")
    ours = Detecting(topic=COVERAGE)
    ours.follow(report((-100, 50), (8_990, None), until=9_000), clock(9_000))
    write(
        ALARM_EVENTS_TABLE,
        *(ConsumedRecord(ALARMS, n, b"", wire.encode(event), millis(0)) for n, event in enumerate(ours.events)),
    )
    assert len(ours.events) == 2
    assert "0 alarms of 2 rules" in run("rules", "test", "rules.json")


def test_causes_on_other_devices_are_tried_out_and_unknown_ones_told(run: Run, tmp_path: Path) -> None:
    """Both fall silent at 200 s; the sensor's gateway is named by configuration."""
    common = {"rule_type": "offline", "config": {"duration_seconds": 300}, "scope_type": "device"}
    cause = [{"rule": "gateway", "device": "gateway_id"}, "nobody"]
    rules = [
        {"id": "sensor", "name": "S", "scope_device_id": "b", "inhibited_by": cause, **common},
        {"id": "gateway", "name": "G", "scope_device_id": "a", **common},
    ]
    (tmp_path / "causes.json").write_text(json.dumps(rules))
    lines = [
        record(n, 100 * n, {"m": 1.0}, device).value or b"" for n in range(3) for device in (DEVICE, "wayscloud:b")
    ]
    (tmp_path / "silent.jsonl").write_bytes(b"\n".join(lines))
    until = (T0 + timedelta(seconds=900)).isoformat(timespec="seconds").removesuffix("+00:00")
    arguments = ("rules", "test", "causes.json", "--recording", "silent.jsonl", "--to", until)
    assert "2 alarms of 2 rules" in run(*arguments), "no attribute names a gateway"
    (tmp_path / "fleetlake.toml").write_text('[stream.attributes.gateway_id]\na = ["wayscloud:b*"]\n')
    output = run(*arguments)
    assert "1 alarms of 2 rules" in output and "wayscloud:a" in output
    output = run("rules", "check", "causes.json")
    assert "warning: rule sensor: inhibited_by.1: there is no rule 'nobody'; it inhibits nothing" in output
