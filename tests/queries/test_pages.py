"""The pages that show queries show what they answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.queries.page import DOCS, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_the_page_shows_what_the_fleet_answers(name: str, fleet: Path) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    assert PAGES[name](text, fleet) == text, "python -m tests.queries.page --write updates it"


def test_there_are_twenty_questions_and_each_has_an_answer() -> None:
    text = (DOCS / "queries.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (\d+)\.", text, re.MULTILINE) == [str(n) for n in range(1, 21)]
    for question in text.split("\n### ")[1:]:
        assert re.search(r"```\n\n\|.*\n\| -.*\n\| ", question), question
