"""Generates the contract for others: JSON Schemas and AsyncAPI 3 for consumers, OpenAPI for devices and for operators'
tools.

All are checked in under `schemas/contract/`. `make contract` rewrites them, and a test compares them with the code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from schemas import alarm_api, climasense
from schemas.compatibility import breaks
from schemas.envelope import ATTRIBUTES
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
RELEASED = Path(__file__).parent / "contract_released"
"""The contract as it was released last, by which `make contract-check` judges what has changed since."""
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

ACCEPTED = (ALARM_ACTIONS, RULES, MAINTENANCE)
"""The public topics that others may write to."""

COMPACTED = {DEVICES: "device", RULES: "alarm-rule", MAINTENANCE: "maintenance-window"}
"""The topics on which a record without a value deletes its key."""

_KEYS = {"alarm-rule": "rule id", "maintenance-window": "window id"}
_JSON = {"const": "application/json"}

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
        **{f"ce_{name}": {"type": "string", "description": words} for name, words in ATTRIBUTES.items()},
    },
}

_ID_HEADERS: dict[str, Any] = {
    "type": "object",
    "required": ["content-type", "ce_id"],
    "properties": {
        "content-type": _JSON,
        "ce_id": {"type": "string", "description": "The record's id, as in its value."},
    },
}
_TRACED_HEADERS = {**_ID_HEADERS, "properties": {**_ID_HEADERS["properties"], "ce_traceparent": _TRACEPARENT}}
_HEADERS: dict[str, dict[str, Any]] = {
    "observation": _TRACED_HEADERS,
    "event-set": _TRACED_HEADERS,
    "alarm-event": _ID_HEADERS,
    "dead-letter": {**_ID_HEADERS, "required": []},  # those of connectors have none
    "alarm-rule": {
        "type": "object",
        "properties": {
            "content-type": _JSON,
            "ce_source": {"type": "string", "description": "Where the rule was imported from, such as wayscloud/rest."},
            "ce_datapoints": {"type": "string", "description": ATTRIBUTES["datapoints"]},
        },
    },
}
"""The headers of the records by name; the others have none."""


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
    messages: dict[str, Any] = {"envelope": _raw_message()}
    for topic in [raw_topic(vendor) for vendor in BUILT_IN]:
        channels[_channel(topic)] = _channel_of(topic, purposes[topic], ["envelope"])
    for topic, record in PUBLIC.items():
        messages[record] = _record_message(record)
        names = [record]
        if topic in COMPACTED:
            names.append(f"{record}-deleted")
            messages[names[-1]] = _tombstone(record)
        channels[_channel(topic)] = _channel_of(topic, purposes[topic], names)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "fleetlake topics",
            "version": VERSION,
            "description": "Normalised telemetry of mixed fleets. Operations are fleetlake's: it sends what you "
            "receive. The key of every record is the device id; the key of a rule or maintenance window is its own "
            "id. All topics have the same number of partitions, and a device has the same partition number on each. "
            "Read committed records only (isolation.level=read_committed). Fields and headers may be added.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": _operations(list(channels)),
        "components": {"messages": messages},
    }


def _operations(channels: list[str]) -> dict[str, Any]:
    accepted = [_channel(topic) for topic in ACCEPTED]
    sent = {
        f"send-{name}": _operation("send", name, "fleetlake writes these records; read committed ones only.")
        for name in channels
        if name != _channel(ALARM_ACTIONS)
    }
    received = {
        f"receive-{name}": _operation("receive", name, "fleetlake reads these records; others may write them.")
        for name in accepted
    }
    return sent | received


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _channel(topic: str) -> str:
    return topic.removeprefix("telemetry.").removesuffix(".v1").replace(".", "-")


def _channel_of(topic: str, purpose: str, messages: list[str]) -> dict[str, Any]:
    return {
        "address": topic,
        "description": purpose,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": {"topic": topic, "bindingVersion": "0.5.0"}},
    }


def _raw_message() -> dict[str, Any]:
    return {
        "name": "envelope",
        "title": "A vendor's message, CloudEvents 1.0 in Kafka binary mode",
        "headers": _ENVELOPE_HEADERS,
        "payload": {"description": "The vendor's bytes, redacted. See ce_type, and the vendor's page in docs/vendors."},
        "bindings": _key("device id"),
    }


def _record_message(record: str) -> dict[str, Any]:
    headers = {"headers": _HEADERS[record]} if record in _HEADERS else {}
    return {
        "name": record,
        "title": (RECORDS[record].__doc__ or record).splitlines()[0],
        **headers,
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=2020-12",
            "schema": {"$ref": f"./{record}.schema.json"},
        },
        "bindings": _key(_KEYS.get(record, "device id")),
    }


def _tombstone(record: str) -> dict[str, Any]:
    return {
        "name": f"{record}-deleted",
        "title": f"A record without a value (a tombstone): there is no {record} of this key any more.",
        "payload": {"type": "null"},
        "bindings": _key(_KEYS.get(record, "device id")),
    }


def _key(of: str) -> dict[str, Any]:
    return {"kafka": {"key": {"type": "string", "description": of}, "bindingVersion": "0.5.0"}}


def main(arguments: Sequence[str] = ()) -> int:
    """Rewrite the contract folder; with `check` compare it with the last release, with `release` make it the last one.

    Returns the exit status.
    """
    match list(arguments):
        case []:
            _write(FOLDER, documents())
        case ["release"]:
            _write(RELEASED, {name: text for name, text in documents().items() if "openapi" not in name})
        case ["check"]:
            released = {path.name: path.read_text(encoding="utf-8") for path in RELEASED.iterdir()}
            found = breaks(released, documents())
            print(
                "\n".join(
                    [*found, f"{len(found)} changes break consumers"] if found else ["The contract breaks nobody."]
                )
            )
            return 1 if found else 0
        case _:
            print("usage: python -m schemas.contract [check | release]")
            return 2
    return 0


def _write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
