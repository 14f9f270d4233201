"""The checked-in contract is what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.contract import FOLDER, PUBLIC, documents
from schemas.envelope import ATTRIBUTES
from schemas.topics import raw_topic, topic_specs
from schemas.vendors import BUILT_IN
from tests.support.paths import ROOT
from tests.support.recordings import RECORDINGS


@pytest.mark.parametrize("name", sorted(documents()))
def test_checked_in_file_equals_the_code(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == documents()[name], "run `make contract` and commit the result"


def test_no_file_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(documents())


def test_asyncapi_names_every_public_topic_and_every_reference_resolves() -> None:
    document = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))
    assert document["asyncapi"].startswith("3.")
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {*PUBLIC, *(raw_topic(vendor) for vendor in BUILT_IN)}
    for reference in _references(document):
        _resolve(reference, document)


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [r for value in node.values() for r in _references(value)]
    if isinstance(node, list):
        return [r for value in node for r in _references(value)]
    return []


def _resolve(reference: str, document: Any) -> None:
    file, _, pointer = reference.partition("#")
    target = json.loads((FOLDER / Path(file)).read_text(encoding="utf-8")) if file else document
    for part in filter(None, pointer.split("/")):
        target = target[part]


def test_every_attribute_of_an_envelope_is_in_the_document() -> None:
    """Those of the recordings, and those that the connectors set by name. The demo's test looks at what comes."""
    used = {name for path in RECORDINGS for name in json.loads(path.read_text()).get("attributes", {})}
    for path in sorted((ROOT / "connectors").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "Envelope(" in text or "envelope.attributes" in text:
            used |= set(re.findall(r'attributes(?:\["|=\{(?:\*\*envelope\.attributes, )?")(\w+)"', text))
    assert used >= {"mqttpacket", "mqttdup", "datapoints", "changed", "commandtype", "attempt"}
    assert used - ATTRIBUTES.keys() - {"storage_capacity_gb"} == set(), "the latter is a device's"


def test_readings_with_other_than_one_value_fail_the_schema() -> None:
    branches = json.loads(documents()["observation.schema.json"])["$defs"]["Reading"]["oneOf"]
    for given in ({"value_number": 1.0}, {"value_text": "x", "value_number": None}):
        assert [b["required"][0] for b in branches if given.get(b["required"][0]) is not None] == [next(iter(given))]
    assert len(branches) == 4 and all(b["properties"][b["required"][0]] == {"not": {"type": "null"}} for b in branches)


def test_tombstones_and_both_directions() -> None:
    document = yaml.safe_load(documents()["asyncapi.yaml"])
    deleted = {
        c["address"] for c in document["channels"].values() if any(m.endswith("-deleted") for m in c["messages"])
    }
    assert deleted == {
        spec.name for spec in topic_specs() if spec.name in PUBLIC and spec.config["cleanup.policy"] == "compact"
    }
    received = {name for name, operation in document["operations"].items() if operation["action"] == "receive"}
    assert received == {"receive-alarm-actions", "receive-rules", "receive-maintenance"}
    assert "send-alarm-actions" not in document["operations"] and "send-rules" in document["operations"]
