"""A contract that breaks somebody is refused, and one that adds to it is not."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from schemas.compatibility import breaks
from schemas.contract import RELEASED, documents, main
from schemas.records import RECORDS

NOW = documents()
Change = Callable[[dict[str, Any]], Any]


def changed(name: str, change: Change) -> list[str]:
    """What a change of one file breaks."""
    yaml_file = name.endswith(".yaml")
    document = copy.deepcopy(yaml.safe_load(NOW[name]) if yaml_file else json.loads(NOW[name]))
    change(document)
    text = yaml.safe_dump(document) if yaml_file else json.dumps(document)
    return breaks(NOW, {**NOW, name: text})


def test_the_contract_breaks_nobody_who_follows_the_last_release() -> None:
    released = {path.name: path.read_text(encoding="utf-8") for path in RELEASED.iterdir()}
    assert {f"{name}.schema.json" for name in RECORDS} <= released.keys()
    assert breaks(released, NOW) == []
    assert breaks(NOW, NOW) == []


READING = ("$defs", "Reading")


def at(document: dict[str, Any], *path: str) -> dict[str, Any]:
    for part in path:
        document = document[part]
    return document


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("observation", lambda d: d["properties"].update(new={"type": "string"})),
        ("observation", lambda d: at(d, *READING)["properties"].update(new={"type": "string"})),
        ("observation", lambda d: d["properties"]["id"].update(description="Other words.", examples=["x"])),
        ("observation", lambda d: d["required"].append("polled")),
        ("observation", lambda d: d["properties"]["readings"].update(minItems=2)),
        ("alarm-rule", lambda d: d["properties"].update(new={"type": "string"})),
    ],
)
def test_what_breaks_nobody(name: str, change: Change) -> None:
    assert changed(f"{name}.schema.json", change) == []


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("observation", lambda d: d["properties"].pop("vendor"), "vendor: is gone"),
        ("observation", lambda d: d["required"].remove("vendor"), "vendor: may be absent now"),
        ("observation", lambda d: d["properties"]["vendor"].update(type="integer"), "vendor: type was"),
        ("observation", lambda d: at(d, *READING)["properties"].pop("unit"), "readings[].unit: is gone"),
        ("observation", lambda d: at(d, *READING).pop("oneOf"), "readings[]: oneOf was"),
        ("observation", lambda d: d["properties"]["readings"].pop("minItems"), "readings: minItems was 1 and is None"),
        (
            "observation",
            lambda d: at(d, *READING)["properties"]["time_source"]["enum"].append("guessed"),
            "may be guessed now",
        ),
        (
            "observation",
            lambda d: at(d, *READING)["properties"]["value_number"].update(anyOf=[{"type": "number"}]),
            "had 2 alternatives and has 1",
        ),
        (
            "observation",
            lambda d: at(d, *READING)["properties"]["observed_at"].pop("format"),
            "observed_at: format was",
        ),
        ("alarm-action", lambda d: d["required"].append("note"), "note: is required now"),
        (
            "alarm-action",
            lambda d: at(d, "$defs", "AlarmActionType")["enum"].remove("snooze"),
            "snooze are not accepted",
        ),
        ("alarm-action", lambda d: d["properties"]["actor"].update(maxLength=10), "maxLength is 10 and was 200"),
        (
            "alarm-action",
            lambda d: (d["properties"].update(new={"type": "string"}), d["required"].append("new")),
            "new: is new, and required",
        ),
    ],
)
def test_what_breaks_somebody(name: str, change: Change, words: str) -> None:
    found = changed(f"{name}.schema.json", change)
    assert len(found) == 1 and words in found[0], found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["channels"].pop("events"), "topic telemetry.events.v1 is gone"),
        (lambda d: d["channels"]["devices"]["messages"].pop("device-deleted"), "has no message device-deleted"),
        (
            lambda d: d["components"]["messages"]["envelope"]["headers"]["required"].remove("ce_id"),
            "headers of envelope: ce_id: may be absent now",
        ),
        (
            lambda d: d["components"]["messages"]["observation"]["headers"]["properties"].pop("ce_id"),
            "headers of observation: ce_id: is gone",
        ),
    ],
)
def test_topics_and_headers(change: Change, words: str) -> None:
    assert any(words in each for each in changed("asyncapi.yaml", change))


def test_a_file_that_is_gone() -> None:
    assert breaks(NOW, {k: v for k, v in NOW.items() if k != "device.schema.json"}) == ["device.schema.json: is gone"]


def test_the_check_as_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert "breaks nobody" in capsys.readouterr().out
