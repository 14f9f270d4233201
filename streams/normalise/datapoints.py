"""What datapoints mean: names that the user of WAYSCloud defines, in messages and in rules (pure).

A rule of whichever device may name a datapoint (`datapoint_id`), since the rules have WAYSCloud's format; hence this
module stands apart from the normaliser of WAYSCloud's messages. The first of these defines what a datapoint means: the
user (`[stream.wayscloud_datapoints]`), the account's definition, `DATAPOINTS`. An account's definition whose type or
kind of unit contradicts `DATAPOINTS` wins over it: a `signal_strength` in `%` is no `network.signal_strength` in dBm.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from schemas.metrics import Kind, catalogue, vendor_metric
from schemas.units import UNITS, ucum_code
from streams.normalise.message import Datapoint

VENDOR = "wayscloud"
DATAPOINTS: Mapping[str, Datapoint] = {
    "temperature": Datapoint("environment.temperature"),
    "humidity": Datapoint("environment.humidity"),
    "pressure": Datapoint("environment.pressure"),
    "iaq": Datapoint("environment.air_quality_index"),
    "battery": Datapoint("battery.level"),
    "battery_level": Datapoint("battery.level"),
    "signal_strength": Datapoint("network.signal_strength"),
    "rssi": Datapoint("network.signal_strength"),
    "door_open": Datapoint("door.open"),
    "mode": Datapoint("device.mode"),
}
_KINDS: Mapping[str, Kind] = {"number": "number", "string": "text", "boolean": "boolean"}
"""WAYSCloud's data types."""


def metric_of(name: str, defined: Mapping[str, Datapoint]) -> str:
    """The metric a datapoint is read into, by name or id; its own name below `wayscloud.` where nobody defined it."""
    return datapoint_of(name, defined).metric


def datapoint_of(name: str, defined: Mapping[str, Datapoint]) -> Datapoint:
    """How a datapoint is read, by name or id."""
    return defined.get(name) or DATAPOINTS.get(name) or Datapoint(f"{VENDOR}.{name}")


def definitions_of_rule(definitions: str, own: Mapping[str, Datapoint]) -> dict[str, Datapoint]:
    """Datapoint id → what it is read into, of the definitions that came with a rule (header `ce_datapoints`).

    Each is read as a row of stored telemetry is. ValueError where `definitions` is no such object.
    """
    datapoints: dict[str, Datapoint] = {}
    for identity, facts in _definitions(definitions.encode()).items() if definitions else ():
        name = facts.get("name", identity)
        defined = own.get(name) or own.get(identity)
        defined = defined or _defined_by_account(name, facts.get("unit", ""), facts.get("type", ""))
        datapoints[identity] = defined or DATAPOINTS.get(name) or Datapoint(vendor_metric(VENDOR, name))
    return datapoints


def meaning(name: str, of_account: Mapping[str, str] | None, own: Mapping[str, Datapoint]) -> Datapoint | None:
    """What a datapoint is read into, by the user's definition, the account's, or `DATAPOINTS`; None: nobody knows."""
    definition = own.get(name) or (own.get(of_account["id"]) if of_account and "id" in of_account else None)
    if definition is not None or of_account is None:
        return definition or DATAPOINTS.get(name)
    return _defined_by_account(name, of_account.get("unit", ""), of_account.get("type", ""))


@lru_cache(maxsize=1024)
def account_definitions(attribute: str) -> Mapping[str, Mapping[str, str]]:
    """The account's definitions that came with the packet, by name."""
    return _definitions(attribute.encode()) if attribute else {}


_definitions = msgspec.json.Decoder(dict[str, dict[str, str]]).decode


@lru_cache(maxsize=4096)
def _defined_by_account(name: str, unit: str, data_type: str) -> Datapoint | None:
    """The metric of the catalogue where type and unit agree with it, else one of the vendor's name."""
    kind, code = _KINDS.get(data_type), ucum_code(unit) if unit.strip() else None
    known = DATAPOINTS.get(name)
    metric = catalogue()[known.metric] if known else None
    if metric is not None and kind in (None, metric.kind) and _is_kind_of(code, unit, metric.unit):
        return Datapoint(metric.name, code)
    if kind is None and code is None:
        return None
    return Datapoint(vendor_metric(VENDOR, name), code or annotation(unit), kind)


def _is_kind_of(code: str | None, unit: str, due: str | None) -> bool:
    """Whether a unit measures what another does; none at all is taken for the right one."""
    if not unit.strip() or due is None:
        return True
    return code is not None and due in UNITS and UNITS[code].dimension == UNITS[due].dimension


def annotation(unit: str) -> str | None:
    """A unit that is none of ours as UCUM's annotation of 1: `{furlong}`."""
    text = unit.strip()
    return f"{{{text}}}" if text.isascii() and text.isprintable() and text and not set(text) & set("{}") else None


def kind_of(definition: Datapoint) -> Kind | None:
    """The type that the definition's metric is read as; None: as the value comes."""
    known = catalogue().get(definition.metric)
    return known.kind if known else definition.data_type
