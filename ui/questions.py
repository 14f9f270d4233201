"""The questions of docs/queries.md, as the page «Ask» offers them (pure). `python -m ui.questions` writes them anew."""

from __future__ import annotations

import json
import re
from pathlib import Path

FILE = Path(__file__).parent / "static" / "questions.json"
_QUESTION = re.compile(r"^### \d+\. (?P<question>.+?)\n.*?```sql\n(?P<sql>.+?)\n```", re.MULTILINE | re.DOTALL)


def questions(page: str) -> list[dict[str, str]]:
    """Each question with its first query."""
    return [{"question": m["question"], "sql": m["sql"].strip().rstrip(";")} for m in _QUESTION.finditer(page)]


if __name__ == "__main__":
    text = (Path(__file__).parent.parent / "docs" / "queries.md").read_text(encoding="utf-8")
    FILE.write_text(json.dumps(questions(text), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
