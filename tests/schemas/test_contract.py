"""The checked-in contract is what the code says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.contract import FOLDER, PUBLIC, documents
from schemas.topics import raw_topic
from schemas.vendors import BUILT_IN


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
