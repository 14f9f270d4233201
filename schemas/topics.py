"""Names and settings of the Kafka topics (contract.md, «Records and tables»).

All topics have the same number of partitions, so that a device, which is the key everywhere, has the same partition
number on each of them: a step writes to the partition number it reads from and order per device is kept end to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.vendors import vendor_names

READINGS = "telemetry.readings.v1"
EVENTS = "telemetry.events.v1"
ALARMS = "telemetry.alarms.v1"
DEVICES = "telemetry.devices.v1"
RULES = "telemetry.rules.v1"
MAINTENANCE = "telemetry.maintenance.v1"
ALARM_ACTIONS = "telemetry.alarm-actions.v1"
DEAD_LETTER = "telemetry.dead-letter.v1"

# State of the stream steps: private to them, written in the transaction of the batch that caused it.
NORMALISE_STATE = "fleetlake.state.normalise.v1"
ALARM_STATE = "fleetlake.state.alarms.v2"
# Likewise private: how far the raw topics have been read, the alarms that inhibit others, and what the rules file last
# put on the rules topic.
WATERMARKS = "fleetlake.clock.v1"
INHIBITORS = "fleetlake.causes.v1"
RULES_FILE_STATE = "fleetlake.state.rules.v1"

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Largest record any topic takes; high enough for an occupancy map of an Ogmen robot."""

DAY_MS = 24 * 3600 * 1000


def raw_topic(vendor: str) -> str:
    """The topic of a vendor's raw records, e.g. `telemetry.raw.karcher.v1`."""
    return f"telemetry.raw.{vendor}.v1"


def vendor_of_raw_topic(topic: str) -> str:
    """The inverse of `raw_topic`; ValueError for any other topic."""
    prefix, _, rest = topic.partition("telemetry.raw.")
    vendor, _, version = rest.rpartition(".")
    if prefix or version != "v1" or not vendor:
        raise ValueError(f"{topic!r} is not a raw topic")
    return vendor


@dataclass(frozen=True)
class TopicSpec:
    """One topic as it is declared: its purpose in a sentence and its settings beside the broker's defaults."""

    name: str
    purpose: str
    config: dict[str, str] = field(default_factory=dict)


def _retained(days: int) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(days * DAY_MS),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }


def _compacted() -> dict[str, str]:
    return {"cleanup.policy": "compact", "max.message.bytes": str(MAX_MESSAGE_BYTES)}


def topic_specs(vendors: Sequence[str] | None = None) -> list[TopicSpec]:
    """All topics of a pipeline, in the order of the data flow; the raw topics of all vendors unless some are named."""
    return [
        *(
            TopicSpec(raw_topic(v), f"{v}: vendor messages as received (CloudEvents, redacted)", _retained(7))
            for v in (vendor_names() if vendors is None else vendors)
        ),
        TopicSpec(READINGS, "normalised observations: all readings of one vendor message", _retained(7)),
        TopicSpec(EVENTS, "normalised discrete facts: reports, alerts, gaps, command results", _retained(7)),
        TopicSpec(
            ALARMS, "alarm life cycle: one record an alarm event, with the alarm as it then stands", _retained(30)
        ),
        TopicSpec(DEVICES, "registry: the attributes of each device, latest by key", _compacted()),
        TopicSpec(RULES, "alarm rules in force, latest by key", _compacted()),
        TopicSpec(MAINTENANCE, "times in which a scope triggers no alarms, latest by id", _compacted()),
        TopicSpec(ALARM_ACTIONS, "what operators do to alarms", _retained(30)),
        TopicSpec(DEAD_LETTER, "what could not be used, with its origin and the reason", _retained(30)),
        TopicSpec(NORMALISE_STATE, "private: ids seen, for dropping repeats", _retained(2)),
        TopicSpec(ALARM_STATE, "private: alarm and threshold state by device and rule", _compacted()),
        TopicSpec(WATERMARKS, "private: up to which time each raw partition has been read", _retained(1)),
        TopicSpec(
            INHIBITORS,
            "private: when alarms that inhibit other devices' were open, and up to when all are told",
            _compacted(),
        ),
        TopicSpec(RULES_FILE_STATE, "private: what the rules file last put on the rules topic", _compacted()),
    ]
