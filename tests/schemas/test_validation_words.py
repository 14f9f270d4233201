"""Errors are said in our words; pydantic's and YAML's never reach a user."""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator

from schemas.rules import CONFIGS, parse_rules
from schemas.rules_schema import file_schema
from schemas.validation_words import validation_words
from tests.support.paths import ROOT


class Word(StrEnum):
    A = "a"
    B = "b"


class Everything(BaseModel):
    model_config = ConfigDict(extra="forbid")

    whole: int = Field(default=1, ge=1, le=9)
    number: FiniteFloat = 1
    more: float = Field(default=1, gt=0, lt=10)
    yes: bool = True
    text: str = Field(default="abc", min_length=2, max_length=5, pattern="^[a-z]+$")
    items: list[int] = Field(default=[1], min_length=1, max_length=2)
    table: dict[str, int] = {}
    literal: Literal["x", "y"] = "x"
    word: Word = Word.A
    at: AwareDatetime = datetime.fromisoformat("2026-01-01T00:00:00Z")
    id: UUID = UUID(int=0)

    @field_validator("text")
    @classmethod
    def _not_no(cls, value: str) -> str:
        if value == "no":
            raise ValueError("is refused")
        return value


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"whole": "x"}, "has to be a whole number"),
        ({"whole": 1.5}, "has to be a whole number"),
        ({"whole": 0}, "has to be at least 1"),
        ({"whole": 10}, "has to be at most 9"),
        ({"number": "x"}, "has to be a number"),
        ({"number": float("inf")}, "has to be a finite number"),
        ({"more": 0}, "has to be more than 0"),
        ({"more": 10}, "has to be less than 10"),
        ({"yes": "perhaps"}, "has to be true or false"),
        ({"text": 1}, "has to be a text"),
        ({"text": "a"}, "has to have at least 2 characters"),
        ({"text": "abcdef"}, "has to have at most 5 characters"),
        ({"text": "ABC"}, "has to match ^[a-z]+$"),
        ({"text": "no"}, "is refused"),
        ({"items": "x"}, "has to be a list"),
        ({"items": []}, "has to have at least 1 entries"),
        ({"items": [1, 2, 3]}, "has to have at most 2 entries"),
        ({"table": 1}, "is a table: name its keys"),
        ({"literal": "z"}, "has to be 'x' or 'y'"),
        ({"word": "c"}, "has to be 'a' or 'b'"),
        ({"at": "soon"}, "has to be a time such as 2026-11-21T08:00:00Z"),
        ({"at": "2026-01-01T00:00:00"}, "has to name its zone, as in 2026-11-21T08:00:00Z"),
        ({"id": "x"}, "has to be a UUID"),
        ({"other": 1}, "is no known key"),
    ],
)
def test_words(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Everything.model_validate(given)
    assert validation_words(caught.value.errors()[0]) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- id: a: b\n", 'line 1, column 8: a colon where no key can stand; a text that holds ": " needs quotes'),
        ("- id: a\n\t- id: b\n", "line 2, column 1: a character that no value begins with"),
        ('- id: "a\n', "quotes that are not closed"),
        ("- {id: a\n", "a bracket or brace that is not closed"),
        ("- id: a\n  name: b\n c: d\n", "indented otherwise"),
    ],
)
def test_yaml(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_rules(text)
    assert words in str(caught.value)
    assert "<unicode string>" not in str(caught.value) and "while " not in str(caught.value)


def test_the_schema_of_a_rules_file() -> None:
    schema = json.loads(json.dumps(file_schema()))
    rule = schema["$defs"]["AlarmRule"]
    assert rule["additionalProperties"] is False and {"id", "name", "rule_type", "config"} <= set(rule["required"])
    kinds = {each["if"]["properties"]["rule_type"]["const"] for each in rule["allOf"]}
    assert kinds == set(CONFIGS)
    for each in rule["allOf"]:
        assert each["then"]["properties"]["config"]["$ref"].removeprefix("#/$defs/") in schema["$defs"]
    assert "battery.level" in schema["$defs"]["Condition"]["properties"]["metric"]["examples"]
    assert parse_rules((ROOT / "rules.yaml").read_text())[1] == []
