"""How commands print: tables for people; for `fleetlake sql` also Markdown, CSV and JSON lines."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from fleetlake.session import Answer

Row = tuple[Any, ...]

_PIPE_WIDTH = 200
"""Width of a table that is not printed on a terminal."""


def print_table(names: Sequence[str], rows: Iterable[Sequence[str | Text | None]]) -> None:
    """A table on standard output; without a header where no column has a name."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*names, header_style="bold", show_header=any(names))
    for row in rows:
        table.add_row(*(Text(cell or "") if cell is None or isinstance(cell, str) else cell for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(table)  # cells as Text: `[ogmen]` is no markup


def print_rows(names: Sequence[str], rows: Iterable[Sequence[Any]], as_json: bool) -> None:
    """Rows as a table, or as a JSON list of objects. Times are in UTC and say so; a list is joined by commas."""
    if as_json:
        print(json.dumps([dict(zip(names, map(_json_cell, row), strict=True)) for row in rows], indent=1))
    else:
        print_table(names, [[_table_cell(value) for value in row] for row in rows])


def _json_cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC).isoformat().replace("+00:00", "Z")
    return list(value) if isinstance(value, tuple) else value


def _table_cell(value: Any) -> str:
    match value:
        case datetime():
            return time_text(value)
        case list() | tuple():
            return ", ".join(map(str, value))
        case bool():
            return "yes" if value else "no"
        case _:
            return _cell(value)


def print_records(records: Sequence[Mapping[str, Any]], as_json: bool = False) -> None:
    """Records of one shape, as JSON or as a table (none where there are none)."""
    if as_json:
        print(json.dumps(records, indent=1))
    elif records:
        print_table(list(records[0]), [[_cell(value) for value in record.values()] for record in records])


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def time_text(moment: datetime | None, separator: str = " ") -> str:
    """A time as people read it, in UTC, to the second. A time without a zone is in UTC."""
    if moment is None:
        return ""
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).strftime(f"%Y-%m-%d{separator}%H:%M:%SZ")


def write_table(answer: Answer, out: TextIO, limit: int, title: str | None = None) -> None:
    """A table for people. Where the terminal is too narrow, columns in the middle give way to one of dots.

    Prints at most `limit` rows (0: all).
    """
    from rich.console import Console

    rows, more = _first(answer, limit)
    console = Console(file=out)
    if not console.is_terminal:
        console.width = 10_000  # a pipe has no width
    cells = [[shown(value) for value in row] for row in rows]
    columns = columns_that_fit(
        [max(map(len, (name, *(row[index] for row in cells)))) for index, name in enumerate(answer.names)],
        console.width,
    )
    console.print(_table(answer.names, rows, columns, title))
    if not rows:
        console.print("no rows")
    if None in columns:
        left = f"{len(answer.names)} columns, {len(columns) - 1} of them shown; --format line shows all"
        console.print(left, style="dim", highlight=False)
    _note_more_rows(len(rows), more)


_BORDER = 3
"""Columns of the terminal that a table's column takes beside its content."""


def columns_that_fit(widths: Sequence[int], room: int) -> list[int | None]:
    """The columns to show in a terminal of `room` columns: all, or the first and last ones around a None.

    At least two columns are shown; their cells then take several lines.
    """
    left = room - 1 - sum(width + _BORDER for width in widths)
    if left >= 0 or len(widths) <= 2:
        return list(range(len(widths)))
    first, last = [0], [len(widths) - 1]
    left = room - 1 - (1 + _BORDER) - sum(widths[index] + _BORDER for index in (*first, *last))
    while len(first) + len(last) < len(widths) - 1:
        index = first[-1] + 1 if len(first) <= len(last) else last[0] - 1
        left -= widths[index] + _BORDER
        if left < 0:
            break
        if len(first) <= len(last):
            first.append(index)
        else:
            last.insert(0, index)
    return [*first, None, *last]


def _table(names: Sequence[str], rows: Sequence[Row], columns: Sequence[int | None], title: str | None) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", header_style="bold")
    for index in columns:
        name, numeric = ("…", False) if index is None else (names[index], _numeric(rows, index))
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:  # as Text: `dB[mW]` is no markup
        table.add_row(*(Text("…" if index is None else shown(row[index])) for index in columns))
    return table


def write_lines(answer: Answer, out: TextIO, limit: int) -> None:
    """One record below the other, a line per value; at most `limit` rows (0: all)."""
    from rich.console import Console
    from rich.text import Text

    rows, more = _first(answer, limit)
    console = Console(file=out)
    names = answer.names
    width = max(map(len, names), default=0)
    for number, row in enumerate(rows, start=1):
        console.rule(f"row {number:,}", align="left")
        for name, value in zip(names, row, strict=True):
            if value is not None:
                console.print(Text(name.ljust(width), style="bold") + Text(f"  {shown(value)}"))
    _note_more_rows(len(rows), more)


def write_markdown(answer: Answer, out: TextIO, limit: int) -> None:
    """A Markdown table; at most `limit` rows (0: all)."""
    rows, more = _first(answer, limit)
    marks = ["---:" if _numeric(rows, index) else "---" for index in range(len(answer.names))]
    for cells in (answer.names, marks):
        out.write("| " + " | ".join(cells) + " |\n")
    for row in rows:
        out.write("| " + " | ".join(shown(value).replace("|", "\\|").replace("\n", " ") for value in row) + " |\n")
    _note_more_rows(len(rows), more)


def write_csv(answer: Answer, out: TextIO, limit: int) -> None:
    """CSV with a header line; null is empty."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(answer.names)
    _each(answer, limit, lambda row: writer.writerow([_plain(value) for value in row]))


def write_json(answer: Answer, out: TextIO, limit: int) -> None:
    """JSON, one object per line; times as ISO 8601, infinities and NaN as null."""

    def line(row: Row) -> None:
        record = {name: _jsonable(value) for name, value in zip(answer.names, row, strict=True)}
        out.write(json.dumps(record, ensure_ascii=False) + "\n")

    _each(answer, limit, line)


WRITERS: dict[str, Callable[[Answer, TextIO, int], None]] = {
    "table": write_table,
    "line": write_lines,
    "markdown": write_markdown,
    "csv": write_csv,
    "json": write_json,
}
DEFAULT_LIMIT = {"table": 1000, "line": 1000, "markdown": 1000}
"""People read no more; a program that reads CSV or JSON wants every row."""


def shown(value: Any) -> str:
    """A value as people read it."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.10g}"
        case datetime():
            return value.isoformat(sep=" ", timespec="milliseconds" if value.microsecond else "seconds")
        case timedelta():
            return str(value - timedelta(microseconds=value.microseconds))
        case _:
            return str(value)


def _first(answer: Answer, limit: int) -> tuple[list[Row], bool]:
    """The rows to show, and whether there are more."""
    rows = list(islice(answer.rows(), limit + 1 if limit else None))
    return (rows[:limit], True) if limit and len(rows) > limit else (rows, False)


def _each(answer: Answer, limit: int, write: Callable[[Row], Any]) -> None:
    rows = answer.rows()
    count = 0
    for row in islice(rows, limit or None):
        write(row)
        count += 1
    _note_more_rows(count, bool(limit) and next(rows, None) is not None)


def _note_more_rows(count: int, more: bool) -> None:
    if more:
        print(
            f"the first {count:,} rows; there are more: --limit 0 prints all, --output FILE keeps them", file=sys.stderr
        )


def _numeric(rows: Sequence[Row], index: int) -> bool:
    values = [row[index] for row in rows if row[index] is not None]
    return bool(values) and all(isinstance(v, int | float | Decimal) and not isinstance(v, bool) for v in values)


def _plain(value: Any) -> Any:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list() | dict():
            return json.dumps(_jsonable(value), ensure_ascii=False)
        case _:
            return value


def _jsonable(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return float(value)
        case datetime():
            return value.isoformat(timespec="microseconds")
        case date() | time():
            return value.isoformat()
        case list() | tuple():
            return [_jsonable(item) for item in value]
        case dict():
            return {str(key): _jsonable(item) for key, item in value.items()}
        case _:
            return str(value)
