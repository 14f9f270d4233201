"""docs/queries.md and docs/notebook.md: what they show is asked of the small fleet, and the answers stand below.

`python -m tests.queries.page` says whether the pages are true; with `--write` it updates the answers.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars

from fleetlake.cli.output import write_markdown
from fleetlake.session import Session
from tests.queries.fleet import build

DOCS = Path(__file__).parents[2] / "docs"
QUERY = re.compile(r"(```sql\n((?:(?!```).*\n)*)```\n)\n*(?:\|.*\n)*\n*")
CELL = re.compile(r"(```python\n((?:(?!```).*\n)*)```\n)\n*(?:```text\n(?:(?!```).*\n)*```\n)?\n*")


def queries(text: str, data: Path) -> str:
    """docs/queries.md with today's answers."""
    with Session(data) as session:
        return _filled(QUERY, text, lambda query: _table(session, query))


def notebook(text: str, data: Path) -> str:
    """docs/notebook.md with today's answers: the value of each cell's last line, as a notebook shows it."""
    names: dict[str, Any] = {}
    with contextlib.chdir(data.parent), polars.Config(tbl_hide_dataframe_shape=True, tbl_width_chars=100):
        return _filled(CELL, text, lambda cell: _value(cell, names))


PAGES: dict[str, Callable[[str, Path], str]] = {"queries.md": queries, "notebook.md": notebook}


def _filled(blocks: re.Pattern[str], text: str, answer: Callable[[str], str]) -> str:
    return blocks.sub(lambda block: f"{block[1]}\n{answer(block[2])}\n", text).rstrip() + "\n"


def _table(session: Session, query: str) -> str:
    out = io.StringIO()
    answer = session.ask(query)
    if answer:
        write_markdown(answer, out, 0)
    return out.getvalue()


def _value(cell: str, names: dict[str, Any]) -> str:
    *body, last = ast.parse(cell).body
    if not isinstance(last, ast.Expr):
        raise ValueError(f"a cell has to end with an expression: {cell}")
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return "" if value is None else f"```text\n{value}\n```\n"


def main() -> None:
    """Compare, or write."""
    with tempfile.TemporaryDirectory() as folder:
        data = build(Path(folder) / "data")
        for name, fill in PAGES.items():
            text = (DOCS / name).read_text(encoding="utf-8")
            now = fill(text, data)
            if "--write" in sys.argv:
                (DOCS / name).write_text(now, encoding="utf-8")
            elif now != text:
                sys.exit(f"docs/{name} is not what the fleet answers; --write updates it")


if __name__ == "__main__":
    main()
