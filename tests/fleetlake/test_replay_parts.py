"""The parts of `fleetlake replay`, without Kafka."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fleetlake.ops.replay.alarm_detection import AlarmDetection, why_inexact
from fleetlake.ops.replay.raw_records import record_of_row
from fleetlake.ops.replay.rebuild import TABLES
from fleetlake.ops.replay.rebuilt_lake import RebuiltLake
from fleetlake.ops.replay.registry import entry_of_row
from fleetlake.ops.replay.topic_contents import RebuiltRecord, TopicContents
from schemas import wire
from schemas.records import AlarmRule
from schemas.rules import encode_rule, parse_rule
from schemas.topics import ALARM_ACTIONS, COVERAGE, DEVICES, INHIBITORS, MAINTENANCE, READINGS, RULES
from sinks.delta.location import LakeLocation
from sinks.delta.tables import READINGS_TABLE
from streams.engine.step import Output
from streams.settings import StreamSettings
from tests.support.lake import rows

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DEVICE = "ogmen:dog-1"


def reading(value: float, seconds: int = 0) -> wire.Observation:
    at = NOW + timedelta(seconds=seconds)
    measured = wire.Reading("battery.level", at, value_number=value, unit="%")
    return wire.Observation(f"m{seconds}", DEVICE, "ogmen", at, wire.Origin("telemetry.raw.ogmen.v1", 0, 0), [measured])


def output(observation: wire.Observation) -> Output:
    return Output(READINGS, DEVICE.encode(), wire.encode(observation))


def contents(*records: bytes, end: int | None = None, begin: int = 0) -> TopicContents:
    held = [RebuiltRecord(RULES, 0, number, 0, b"low", value) for number, value in enumerate(records)]
    return TopicContents({0: begin}, {0: len(held) if end is None else end}, {0: list(held)})


def side_inputs(**changed: TopicContents) -> dict[str, TopicContents]:
    topics = {"rules": RULES, "maintenance": MAINTENANCE, "inhibitors": INHIBITORS, "devices": DEVICES}
    topics |= {"coverage": COVERAGE}
    named = topics | {"actions": ALARM_ACTIONS}
    return {topic: changed.get(name, contents()) for name, topic in named.items()}


def test_gone_side_inputs_are_named() -> None:
    assert why_inexact(side_inputs()) == []
    assert why_inexact(side_inputs(devices=contents(end=3))) == [], "what the registry was before decides nothing"
    [rules] = why_inexact(side_inputs(rules=contents(b"{}", end=2)))
    [windows] = why_inexact(side_inputs(maintenance=contents(end=1)))
    [actions] = why_inexact(side_inputs(actions=contents(begin=5)))
    assert "rules" in rules and "maintenance windows" in windows and "actions" in actions


def test_alarms_follow_from_rules_readings_and_watermarks() -> None:
    fields = {"id": "low", "name": "Low", "rule_type": "threshold", "severity": "warning", "auto_resolve": True}
    rule = parse_rule(
        {**fields, "config": {"metric": "battery.level", "operator": "lt", "value": 20, "duration_seconds": 60}}
    )
    assert isinstance(rule, AlarmRule)
    detection = AlarmDetection(StreamSettings().detect_options(), side_inputs(rules=contents(encode_rule(rule))))
    assert detection.process(0, [output(reading(10)), output(reading(11, 30))]) == [], "not as long as the rule demands"
    [event] = detection.process(0, [output(reading(12, 70))])
    assert (event.event_type, event.alarm.device_id, event.alarm.rule_id) == ("triggered", DEVICE, "low")
    [resolved] = detection.process(0, [output(reading(90, 90)), output(reading(90, 160))])
    assert resolved.event_type == "resolved"


def test_silence_lasts_until_the_last_watermark() -> None:
    rule = parse_rule({"id": "low", "name": "Away", "rule_type": "offline", "config": {"duration_seconds": 60}})
    assert isinstance(rule, AlarmRule), rule
    detection = AlarmDetection(StreamSettings().detect_options(), side_inputs(rules=contents(encode_rule(rule))))
    assert detection.process(0, [output(reading(10))]) == []
    assert detection.finish(_watermark("ogmen", 40)) == []
    assert detection.finish(_watermark("karcher", 600)) == [], "another vendor's time does not pass for this one"
    [event] = detection.finish(_watermark("ogmen", 120))
    assert (event.event_type, event.alarm.device_id) == ("triggered", DEVICE)


def _watermark(vendor: str, seconds: float) -> dict[tuple[str, int], wire.Watermark]:
    return {(vendor, 0): wire.Watermark(vendor, NOW + timedelta(seconds=seconds))}


def test_rebuilt_records_get_consecutive_offsets_across_batches(tmp_path: Path) -> None:
    lake = RebuiltLake(tmp_path, TABLES, batch_records=2)
    for number in range(5):
        observed = reading(number, number)
        lake.add(READINGS_TABLE.topic, 1_000 * number, DEVICE.encode(), wire.encode(observed))
    assert lake.written(READINGS_TABLE.topic) == 4, "full batches are written at once"
    lake.flush()
    assert lake.written(READINGS_TABLE.topic) == 5
    lake.flush()
    assert sorted(row["value_number"] for row in rows(tmp_path, "readings")) == [0, 1, 2, 3, 4]
    assert lake.has_table_of(DEVICES) and not lake.has_table_of(ALARM_ACTIONS)
    lake.merge_files()
    table = LakeLocation(str(tmp_path / "lake")).open("readings")
    assert len(table.file_uris()) == 1 and len(rows(tmp_path, "readings")) == 5


def test_a_row_of_the_raw_table_is_the_record_it_was() -> None:
    row: dict[str, Any] = {"origin_offset": 7, "received_at": NOW.replace(tzinfo=None), "device_id": DEVICE}
    row |= {"value": b"{}", "headers": json.dumps([["ce_id", "1"], ["empty", None]])}
    record = record_of_row("telemetry.raw.ogmen.v1", 3, row)
    assert (record.topic, record.partition, record.offset) == ("telemetry.raw.ogmen.v1", 3, 7)
    assert record.timestamp == 1772366400000 and record.key == DEVICE.encode() and record.value == b"{}"
    assert list(record.headers) == [("ce_id", b"1"), ("empty", None)]


def test_a_row_of_the_registry_is_its_entry_or_its_tombstone() -> None:
    names = ("name", "model", "serial_number", "firmware_version")
    row: dict[str, Any] = {"device_id": DEVICE, "vendor": "ogmen", "registered": True, **dict.fromkeys(names)}
    row |= {"updated_at": NOW.replace(tzinfo=None), "received_at": NOW.replace(tzinfo=None), "deleted": False}
    row |= {"origin_partition": 1, "origin_offset": 9, "attributes": '{"site": "north"}'}
    entry = entry_of_row(row)
    assert (entry.partition, entry.offset, entry.key) == (1, 9, DEVICE.encode())
    device = wire.decode_device(entry.value or b"")
    assert device.attributes == {"site": "north"} and device.updated_at == NOW and device.registered
    assert entry_of_row({**row, "deleted": True}).value is None
