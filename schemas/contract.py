"""Generates the contract for others: JSON Schemas and AsyncAPI 3 for consumers, OpenAPI for devices and for operators'
tools.

All are checked in under `schemas/contract/`. `make contract` rewrites them, and a test compares them with the code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from schemas import alarm_api, climasense
from schemas.records import RECORDS
from schemas.topics import (
    ALARM_ACTIONS,
    ALARMS,
    DEAD_LETTER,
    DEVICES,
    EVENTS,
    MAINTENANCE,
    READINGS,
    RULES,
    raw_topic,
    topic_specs,
)
from schemas.vendors import BUILT_IN

FOLDER = Path(__file__).parent / "contract"
VERSION = "1.0.0"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

PUBLIC = {
    READINGS: "observation",
    EVENTS: "event-set",
    ALARMS: "alarm-event",
    ALARM_ACTIONS: "alarm-action",
    RULES: "alarm-rule",
    MAINTENANCE: "maintenance-window",
    DEVICES: "device",
    DEAD_LETTER: "dead-letter",
}
"""The topics others may consume, and the record on each."""

_TRACEPARENT: dict[str, Any] = {
    "type": "string",
    "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    "description": "The trace of the message (W3C Trace Context, CloudEvents' distributed tracing extension). Only "
    "messages that are traced have it.",
}

_ENVELOPE_HEADERS: dict[str, Any] = {
    "type": "object",
    "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_receivedat", "content-type"],
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {
            "type": "string",
            "description": "Deterministic: a message delivered twice has the same id both times.",
        },
        "ce_type": {"type": "string", "examples": ["karcher.datapoints"]},
        "ce_source": {"type": "string", "examples": ["karcher/websocket"]},
        "ce_subject": {"type": "string", "description": "Device id, also the key."},
        "ce_time": {
            "type": "string",
            "format": "date-time",
            "description": "The vendor's own time, if the message has one.",
        },
        "ce_receivedat": {"type": "string", "format": "date-time"},
        "content-type": {"type": "string"},
        "ce_traceparent": _TRACEPARENT,
    },
}

_RECORD_HEADERS: dict[str, Any] = {
    "type": "object",
    "properties": {"content-type": {"type": "string"}, "ce_id": {"type": "string"}, "ce_traceparent": _TRACEPARENT},
}
"""Headers of what a stream worker makes of a vendor's message."""

_TRACED = ("observation", "event-set")


def documents() -> dict[str, str]:
    """The text of every file in the contract folder, by file name."""
    files = {f"{name}.schema.json": _json_schema(name) for name in RECORDS}
    files["asyncapi.yaml"] = yaml.safe_dump(_asyncapi(), sort_keys=False, allow_unicode=True, width=120)
    files["climasense-openapi.json"] = json.dumps(climasense.openapi(), indent=2, ensure_ascii=False) + "\n"
    files["alarms-openapi.json"] = json.dumps(alarm_api.openapi(), indent=2, ensure_ascii=False) + "\n"
    return files


def _json_schema(name: str) -> str:
    schema = RECORDS[name].model_json_schema(mode="serialization")
    return (
        json.dumps({"$schema": DIALECT, "$id": f"urn:fleetlake:{name}:1", **schema}, indent=2, ensure_ascii=False)
        + "\n"
    )


def _asyncapi() -> dict[str, Any]:
    purposes = {spec.name: spec.purpose for spec in topic_specs(BUILT_IN)}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {"envelope": _raw_message()}
    for topic in [raw_topic(vendor) for vendor in BUILT_IN]:
        channels[_channel(topic)] = _channel_of(topic, purposes[topic], "envelope")
    for topic, record in PUBLIC.items():
        channels[_channel(topic)] = _channel_of(topic, purposes[topic], record)
        messages[record] = _record_message(record)
    for name in channels:
        operations[f"consume-{name}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": "fleetlake produces these records; read them with isolation.level=read_committed.",
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "fleetlake topics",
            "version": VERSION,
            "description": "Normalised telemetry of mixed fleets. The key of every record is the device id; the key of "
            "a rule or maintenance window is its own id. All topics have the same number of partitions, and a device "
            "has the same partition number on each. Read committed records only.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def _channel(topic: str) -> str:
    return topic.removeprefix("telemetry.").removesuffix(".v1").replace(".", "-")


def _channel_of(topic: str, purpose: str, message: str) -> dict[str, Any]:
    return {
        "address": topic,
        "description": purpose,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {"kafka": {"topic": topic, "bindingVersion": "0.5.0"}},
    }


def _raw_message() -> dict[str, Any]:
    return {
        "name": "envelope",
        "title": "A vendor's message, CloudEvents 1.0 in Kafka binary mode",
        "headers": _ENVELOPE_HEADERS,
        "payload": {"description": "The vendor's bytes, redacted. See ce_type, and the vendor's page in docs/vendors."},
        "bindings": {"kafka": {"key": {"type": "string", "description": "device id"}, "bindingVersion": "0.5.0"}},
    }


def _record_message(record: str) -> dict[str, Any]:
    key = {"alarm-rule": "rule id", "maintenance-window": "window id"}.get(record, "device id")
    traced = {"headers": _RECORD_HEADERS} if record in _TRACED else {}
    return {
        "name": record,
        **traced,
        "title": (RECORDS[record].__doc__ or record).splitlines()[0],
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=2020-12",
            "schema": {"$ref": f"./{record}.schema.json"},
        },
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": "0.5.0"}},
    }


def main() -> None:
    """Rewrite the contract folder."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in documents().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
