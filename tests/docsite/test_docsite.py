"""The site is made of the documents and the code; what the documents say to type exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from docsite.collect import DOCS, OTHERS, collect, with_links
from docsite.references import command_tree, pages
from fleetlake.config import settings_class
from tests.support.paths import ROOT

CONFIG = ROOT / "docsite" / "mkdocs.yml"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "docs"
    collect(folder)
    return folder


def test_every_page_is_in_the_navigation(site: Path) -> None:
    class Loader(yaml.SafeLoader):
        """Takes names of Python for texts."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda loader, suffix, node: suffix)
    nav = yaml.load(CONFIG.read_text(encoding="utf-8"), Loader)["nav"]
    listed = set(_leaves(nav))
    written = {str(path.relative_to(site)) for path in site.rglob("*.md")}
    assert listed == {page for page in written if not re.match(r"adr/0", page)}


def _leaves(nav: Any) -> Iterator[str]:
    for each in nav if isinstance(nav, list) else nav.values():
        if isinstance(each, str):
            yield each
        else:
            yield from _leaves(each)


def test_links_lead_to_pages_of_the_site(site: Path) -> None:
    for path in site.rglob("*.md"):
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s#]+)", text):
            if "://" not in target:
                assert (path.parent / target).is_file(), f"{path.relative_to(site)} links to {target}"


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("README.md", "[a](docs/tables.md#x)", "[a](tables.md#x)"),
        ("docs/ui.md", "[a](../CHANGELOG.md)", "[a](changelog.md)"),
        ("docs/adr/0001-embedded-kafka.md", "![p](../pictures/ui-fleet.png)", "![p](../pictures/ui-fleet.png)"),
        ("docs/performance.md", "[job](../bench/peers/faust/job.py)", "job (`bench/peers/faust/job.py`)"),
        ("docs/ui.md", "[a](https://example.com)", "[a](https://example.com)"),
        ("docs/ui.md", "```\n[a](../x)\n```", "```\n[a](../x)\n```"),
    ],
)
def test_links(source: str, text: str, expected: str) -> None:
    assert with_links(text, Path(source)) == expected


def test_references_name_what_there_is() -> None:
    made = pages()
    for name in ("fleetlake serve sql", "fleetlake alarms snooze", "fleetlake lake vacuum"):
        assert f"`{name}`" in made["reference/cli.md"]
    for section in settings_class().model_fields:
        assert f"## `[{section}" in made["reference/configuration.md"], section
    assert "fleetlake_records_in_total" in made["reference/metrics.md"]
    assert "`ce_mqtttopic`" in made["reference/topics.md"] and "observed_at" in made["reference/topics.md"]
    assert "/v1/iot/alarms" in made["reference/alarms-api.md"]


# What the documents say to type


def documents() -> list[Path]:
    return [*(ROOT / name for name in OTHERS if name != "CHANGELOG.md" and (ROOT / name).exists()), *DOCS.rglob("*.md")]


def typed() -> Iterator[tuple[str, str]]:
    """Each line of the documents that calls fleetlake or make, in blocks of shell and in backquotes."""
    for path in documents():
        text = path.read_text(encoding="utf-8")
        blocks = re.findall(r"```(?:sh|console|bash)\n(.*?)```", text, re.DOTALL)
        lines = [line.removeprefix("$ ").strip() for block in blocks for line in block.splitlines()]
        lines += re.findall(r"`((?:fleetlake|make) [^`\n]+)`", text)
        for line in lines:
            line = re.sub(r"^(?:[A-Z_]+=\S+ )+|^\S*/bin/(?=fleetlake )", "", line)
            if line.startswith(("fleetlake ", "make ")):
                yield path.name, line


def test_commands_in_the_documents_exist_with_their_options() -> None:
    tree = command_tree()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    count, odd = 0, []
    for page, line in typed():
        words = _words(line)
        count += 1
        if words[0] == "make":
            unknown = [w for w in words[1:] if re.fullmatch(r"[a-z-]+", w) and w not in targets]
        else:
            unknown = _unknown(tree, words[1:])
        odd += [f"{page}: {line}: {word}" for word in unknown]
    assert count > 120, "the documents are not where this test looks"
    assert odd == []


def _words(line: str) -> list[str]:
    line = re.split(r"\s#\s| > | \| | && |;", line.replace("…", " ").replace("'", '"'))[0]
    try:
        return shlex.split(line)
    except ValueError:  # a quoted text goes on in the next line
        return shlex.split(line.partition('"')[0])


def _unknown(command: Any, words: list[str]) -> list[str]:
    """Subcommands and options that the command has not."""
    for at, raw in enumerate(words):
        word = raw.strip("[],.()")
        known = {option: p for p in command.params for option in (*p.opts, *p.secondary_opts) if option.startswith("-")}
        if word.startswith("-") and len(word) > 1:
            for option in word.split("|"):
                name = option.partition("=")[0]
                if name not in known and name != "--help":
                    return [name]
        elif hasattr(command, "commands"):
            if not re.fullmatch(r"[a-z-]+", word):
                return []  # a placeholder, or several: acknowledge|resolve
            if word not in command.commands:
                return [word] if not at or word.isalpha() else []
            return _unknown(command.commands[word], words[at + 1 :])
    return []


def test_what_does_not_exist_is_noticed() -> None:
    tree = command_tree()
    assert _unknown(tree, ["sql", "--nosuch"]) == ["--nosuch"]
    assert _unknown(tree, ["nosuch"]) == ["nosuch"]
    assert _unknown(tree, ["alarms", "lists"]) == ["lists"]
    assert _unknown(tree, ["alarms", "list", "--watch"]) == []
    assert _words("fleetlake sql 'FROM x' > out  # to a file") == ["fleetlake", "sql", "FROM x"]
