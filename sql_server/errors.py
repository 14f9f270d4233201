"""What is answered in place of rows: a message with its SQLSTATE. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

SYNTAX = "42601"
NO_SUCH_TABLE = "42P01"
NO_SUCH_COLUMN = "42703"
NO_SUCH_FUNCTION = "42883"
NO_SUCH_OBJECT = "42704"
AMBIGUOUS = "42702"
WRONG_TYPE = "42804"
BAD_VALUE = "22P02"
OUT_OF_RANGE = "22003"
READ_ONLY = "25006"
NO_PERMISSION = "42501"
NOT_SUPPORTED = "0A000"
CANCELED = "57014"
OUT_OF_MEMORY = "53200"
TOO_MANY_CONNECTIONS = "53300"
BUSY = "53000"
TOO_MUCH = "54000"
NOT_YET = "57P03"
SHUTTING_DOWN = "57P01"
WRONG_KEY = "28P01"
NO_AUTHORIZATION = "28000"
NO_SUCH_DATABASE = "3D000"
FAILED_TRANSACTION = "25P02"
PROTOCOL = "08P01"
NO_SUCH_STATEMENT = "26000"
NO_SUCH_CURSOR = "34000"
DUPLICATE_CURSOR = "42P03"
DUPLICATE_STATEMENT = "42P05"
CHANGED_RESULT = "0A000"
INTERNAL = "XX000"


@dataclass
class SqlError(Exception):
    """An error as PostgreSQL's clients understand it. `position` counts characters of the query from 1; 0: unknown."""

    state: str
    message: str
    hint: str = ""
    position: int = 0

    def __reduce__(self) -> tuple[type[SqlError], tuple[str, str, str, int]]:
        """An exception is pickled by its arguments, which a dataclass does not fill in."""
        return SqlError, (self.state, self.message, self.hint, self.position)


_BY_TYPE = {
    "Parser": SYNTAX,
    "Syntax": SYNTAX,
    "Conversion": BAD_VALUE,
    "Invalid Type": WRONG_TYPE,
    "Mismatch Type": WRONG_TYPE,
    "Out of Range": OUT_OF_RANGE,
    "Permission": NO_PERMISSION,
    "Out of Memory": OUT_OF_MEMORY,
    "INTERRUPT": CANCELED,
    "Not implemented": NOT_SUPPORTED,
    "Parameter Not Resolved": WRONG_TYPE,
}
_BY_WORDS = (
    (r"read-only mode", READ_ONLY),
    (r"Ambiguous reference", AMBIGUOUS),
    (r"^Referenced (column|table)|does not have a column named", NO_SUCH_COLUMN),
    (r"^No function matches", NO_SUCH_FUNCTION),
    (r"^(Scalar |Aggregate |Table )?(Function|Macro).* does not exist", NO_SUCH_FUNCTION),
    (r"^Table with name .* does not exist", NO_SUCH_TABLE),
    (r"does not exist|unrecognized configuration parameter", NO_SUCH_OBJECT),
    (r"file system operations are disabled|disabled by configuration|Cannot access", NO_PERMISSION),
    (r"out of range", OUT_OF_RANGE),
)


def from_duckdb(text: str) -> SqlError:
    """DuckDB's error, given as the JSON that `errors_as_json` makes, or as text."""
    start = text.find("{")
    try:
        fields = json.loads(text[start:]) if start >= 0 else {}
    except ValueError:
        fields = {}
    kind, _, plain = text.partition(" Error: ")
    message, _, hint = str(fields.get("exception_message", plain or text)).partition("\n")
    kind = str(fields.get("exception_type", kind))
    place = str(fields.get("position", ""))
    state = _BY_TYPE.get(kind) or next((s for words, s in _BY_WORDS if re.search(words, message)), "")
    return SqlError(
        state or (SYNTAX if kind == "Binder" else INTERNAL),
        message,
        hint.strip(),
        int(place) + 1 if place.isdigit() else 0,
    )
