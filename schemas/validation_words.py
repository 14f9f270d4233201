"""What is wrong with a value, in our words instead of the validator's. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is no known key",
    "model_type": "is a table: name its keys",
    "model_attributes_type": "is a table: name its keys",
    "dict_type": "is a table: name its keys",
    "list_type": "has to be a list",
    "set_type": "has to be a list",
    "tuple_type": "has to be a list",
    "string_type": "has to be a text",
    "path_type": "has to be a path",
    "bool_type": "has to be true or false",
    "bool_parsing": "has to be true or false",
    "int_type": "has to be a whole number",
    "int_parsing": "has to be a whole number",
    "int_from_float": "has to be a whole number",
    "int_parsing_size": "is too large",
    "float_type": "has to be a number",
    "float_parsing": "has to be a number",
    "finite_number": "has to be a finite number",
    "uuid_type": "has to be a UUID",
    "uuid_parsing": "has to be a UUID",
    "datetime_type": "has to be a time such as 2026-11-21T08:00:00Z",
    "datetime_parsing": "has to be a time such as 2026-11-21T08:00:00Z",
    "datetime_from_date_parsing": "has to be a time such as 2026-11-21T08:00:00Z",
    "timezone_aware": "has to name its zone, as in 2026-11-21T08:00:00Z",
    "greater_than": "has to be more than {gt}",
    "greater_than_equal": "has to be at least {ge}",
    "less_than": "has to be less than {lt}",
    "less_than_equal": "has to be at most {le}",
    "literal_error": "has to be {expected}",
    "enum": "has to be {expected}",
    "string_too_short": "has to have at least {min_length} characters",
    "string_too_long": "has to have at most {max_length} characters",
    "too_short": "has to have at least {min_length} entries",
    "too_long": "has to have at most {max_length} entries",
    "string_pattern_mismatch": "has to match {pattern}",
    "json_invalid": "is not JSON",
}


def validation_words(problem: Mapping[str, Any]) -> str:
    """The reason of one of pydantic's errors. What our own validators say is kept as they say it."""
    known = _WORDS.get(problem["type"])
    if known is None:
        return str(problem["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    limits = {name: f"{v:g}" if isinstance(v, float) else v for name, v in problem.get("ctx", {}).items()}
    return known.format_map(limits)
