"""What is wrong with a configuration, in words: the key, and the line or the environment variable it came from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from pydantic import ValidationError

from schemas.validation_words import validation_words

ENV_PREFIX = "FLEETLAKE_"
NESTED = "__"


def explain(error: ValidationError, name: str, text: str) -> Iterator[str]:
    """A line for each problem. `text` is the file's, and `name` its name."""
    for problem in error.errors():
        path = [str(part) for part in problem["loc"]]
        variable = ENV_PREFIX + NESTED.join(path).upper()
        line = _line_of(text, path)
        where = (
            f"environment variable {variable}" if variable in os.environ else f"{name}, line {line}" if line else name
        )
        key = f"[{'.'.join(path[:-1])}] {path[-1]}" if len(path) > 1 else path[0]
        reason = _REASONS.get(problem["type"]) or validation_words(problem)
        yield f"{where}: {key}: {reason}"


_REASONS = {
    "extra_forbidden": "no such key",
}

_HEADER = re.compile(r"\s*\[+\s*([^\]]+?)\s*\]+")
_KEY = re.compile(r"\s*([A-Za-z0-9_.\"'-]+)\s*=")


def _line_of(text: str, path: list[str]) -> int | None:
    """The line of the key, or of its table if the key itself is missing."""
    table: list[str] = []
    best: int | None = None
    names = [part for part in path if not part.isdigit()]
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = header[1].replace('"', "").split(".")
            if table == names[: len(table)]:
                best = best or number
        elif key := _KEY.match(line):
            full = table + key[1].replace('"', "").split(".")
            if full == names[: len(full)]:
                return number
    return best
