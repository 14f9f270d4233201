"""The JSON Schema of a rules file, by which editors check and complete it. Pure.

What only the values together decide (a unit that fits the metric, inhibitors in a circle) is left to
`fleetlake rules check`.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from schemas.metrics import catalogue
from schemas.records import AlarmRule
from schemas.rules import CONFIGS, Condition
from schemas.words import Severity

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFS = "#/$defs/"


def file_schema() -> dict[str, Any]:
    """A file is a list of rules, an object with `rules`, or one rule; `config` depends on `rule_type`."""
    configs = list(CONFIGS.values())
    references, schema = models_json_schema(
        [(model, "validation") for model in (AlarmRule, Condition, *configs)], ref_template=_DEFS + "{model}"
    )
    definitions: dict[str, Any] = schema["$defs"]
    rule = definitions["AlarmRule"]
    rule["additionalProperties"] = False
    rule["properties"]["severity"] = {
        "type": "string",
        "examples": [severity.value for severity in Severity],
        "description": "In any case of letters; an unknown word becomes `warning`.",
    }
    rule["allOf"] = [
        {
            "if": {"properties": {"rule_type": {"const": kind}}, "required": ["rule_type"]},
            "then": {"properties": {"config": references[model, "validation"]}},
        }
        for kind, model in CONFIGS.items()
    ]
    definitions["Condition"]["properties"]["metric"]["examples"] = sorted(catalogue())
    rules = {"type": "array", "items": {"$ref": f"{_DEFS}AlarmRule"}}
    return {
        "$schema": _DIALECT,
        "title": "Alarm rules of fleetlake",
        "oneOf": [
            rules,
            {"type": "object", "properties": {"rules": rules}, "required": ["rules"]},
            {"$ref": f"{_DEFS}AlarmRule"},
        ],
        "$defs": definitions,
    }
