"""Names and settings of the Kafka topics (docs/contract.md, «Records and tables»).

All topics have the same number of partitions. The device is the key everywhere, so it has the same partition number on
every topic: an operator writes to the partition number it reads from, and order per device is kept end to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from schemas.vendors import vendor_names

READINGS = "telemetry.readings.v1"
EVENTS = "telemetry.events.v1"
ALARMS = "telemetry.alarms.v1"
DEVICES = "telemetry.devices.v1"
RULES = "telemetry.rules.v1"
MAINTENANCE = "telemetry.maintenance.v1"
ALARM_ACTIONS = "telemetry.alarm-actions.v1"
DEAD_LETTER = "telemetry.dead-letter.v1"

# State of the stream operators: private to them, and written in the transaction of the batch that changes it.
NORMALISE_STATE = "fleetlake.state.normalise.v1"
POLLED_STATE = "fleetlake.state.polled.v1"
ALARM_STATE = "fleetlake.state.alarms.v2"
# Names that are stored stay as they were first given, whatever the code calls the matter today: the topics `clock` and
# `causes` here, keys that end in `#told` or `#seen` in the state topics, the table `notify_told` of the alarm service.
#
# Private, too: up to when the raw topics are normalised, the alarms that inhibit alarms of other devices, when the
# connectors listened, and what the rules file last put on the rules topic.
WATERMARKS = "fleetlake.clock.v1"
INHIBITORS = "fleetlake.causes.v1"
COVERAGE = "fleetlake.coverage.v1"
RULES_FILE_STATE = "fleetlake.state.rules.v1"

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Largest record of any topic in bytes; an occupancy map of an Ogmen robot fits."""

DAY_MS = 24 * 3600 * 1000

RAW_DAYS = 7
"""How long raw records are kept, and so how long a stream worker may be away."""

STATE_DAYS = RAW_DAYS + 3
"""How long the ids of received messages are kept: the window of duplicates before the oldest raw record, and more."""

TIMESTAMP_AHEAD = "message.timestamp.after.max.ms"
"""By how much a record's time may be ahead of the broker's clock. Kafka's default is an hour, so that a machine whose
clock is fast could write nothing. It is not unlimited: a record keeps all that is older until its own time is over.
"""


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
    """One topic: its purpose in a sentence, and its settings where they differ from the broker's defaults."""

    name: str
    purpose: str
    config: dict[str, str] = field(default_factory=dict)
    at_least: dict[str, int] = field(default_factory=dict)
    """Settings that an existing topic is raised to where it has less (`runtime.aiokafka_internals.topic_configs`)."""


def _retained(days: int) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(days * DAY_MS),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }


def _compacted() -> dict[str, str]:
    return {"cleanup.policy": "compact", "max.message.bytes": str(MAX_MESSAGE_BYTES)}


def topic_specs(vendors: Sequence[str] | None = None) -> list[TopicSpec]:
    """All topics of a pipeline in the order of the data flow, with the raw topics of these vendors (default: all)."""
    return [_with_time_ahead(spec) for spec in _specs(vendor_names() if vendors is None else vendors)]


def _with_time_ahead(spec: TopicSpec) -> TopicSpec:
    ahead = RAW_DAYS * DAY_MS
    config, at_least = spec.config | {TIMESTAMP_AHEAD: str(ahead)}, spec.at_least | {TIMESTAMP_AHEAD: ahead}
    return replace(spec, config=config, at_least=at_least)


def _specs(vendors: Sequence[str]) -> list[TopicSpec]:
    return [
        *(
            TopicSpec(raw_topic(v), f"{v}: vendor messages as received (CloudEvents, redacted)", _retained(RAW_DAYS))
            for v in vendors
        ),
        TopicSpec(READINGS, "normalised observations: all readings of one vendor message", _retained(7)),
        TopicSpec(EVENTS, "normalised discrete facts: reports, alerts, gaps, command results", _retained(7)),
        TopicSpec(
            ALARMS, "alarm life cycle: one record per alarm event, with the state of the alarm after it", _retained(30)
        ),
        TopicSpec(DEVICES, "registry: the attributes of each device, latest per key", _compacted()),
        TopicSpec(RULES, "alarm rules in force, latest per key", _compacted()),
        TopicSpec(
            MAINTENANCE, "maintenance windows: periods in which a scope triggers no alarms, latest per id", _compacted()
        ),
        TopicSpec(ALARM_ACTIONS, "actions of operators on alarms", _retained(30)),
        TopicSpec(DEAD_LETTER, "messages that cannot be used, with their origins and the reasons", _retained(30)),
        TopicSpec(
            NORMALISE_STATE,
            "private: ids of received messages, for dropping duplicates",
            _retained(STATE_DAYS),
            {"retention.ms": STATE_DAYS * DAY_MS},
        ),
        TopicSpec(POLLED_STATE, "private: digests of each device's polled states as emitted last", _compacted()),
        TopicSpec(ALARM_STATE, "private: alarm and threshold state by device and rule", _compacted()),
        TopicSpec(WATERMARKS, "private: watermarks, up to which time each raw partition is normalised", _retained(1)),
        TopicSpec(
            INHIBITORS,
            "private: when alarms that inhibit other devices' alarms were open, and up to when all are reported",
            _compacted(),
        ),
        TopicSpec(
            COVERAGE,
            "private: when the connectors listened, and up to when they have reported it",
            _compacted() | {"segment.ms": "600000", "min.cleanable.dirty.ratio": "0.1"},
        ),
        TopicSpec(RULES_FILE_STATE, "private: what the rules file last put on the rules topic", _compacted()),
    ]
