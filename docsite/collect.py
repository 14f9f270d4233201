"""Collects the pages of the site: the documents of the repository, and the references that are made of the code.

`python -m docsite.collect FOLDER`. A link to a file that is no page becomes the file's name.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from docsite.references import pages

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
OTHERS = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}
"""Documents outside docs/, and where they are in the site."""

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def collect(target: Path) -> None:
    """Write the site's sources to a folder, which is made anew."""
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(DOCS, target)
    for name, place in OTHERS.items():
        if (ROOT / name).exists():
            shutil.copyfile(ROOT / name, target / place)
    for path in sorted(target.rglob("*.md")):
        source = _source_of(path.relative_to(target))
        path.write_text(with_links(path.read_text(encoding="utf-8"), source), encoding="utf-8")
    for place, text in pages().items():
        (target / place).parent.mkdir(exist_ok=True)
        (target / place).write_text(text, encoding="utf-8")


def _source_of(place: Path) -> Path:
    """Where in the repository a page comes from."""
    for name, other in OTHERS.items():
        if str(place) == other:
            return Path(name)
    return Path("docs") / place


def with_links(text: str, source: Path) -> str:
    """The text with links as the site needs them; fenced code stays as it is."""

    def link(match: re.Match[str]) -> str:
        image, words, target, part = match[1], match[2], match[3], match[4] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        place = _place_of((ROOT / source.parent / target).resolve())
        if place is None:
            return words if image else f"{words} (`{_name_of(ROOT / source.parent / target)}`)"
        return f"{image}[{words}]({_relative(place, _site_place(source))}{part})"

    fenced = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    return "".join(piece if piece.startswith("```") else _LINK.sub(link, piece) for piece in fenced)


def _site_place(source: Path) -> Path:
    return Path(OTHERS[str(source)]) if str(source) in OTHERS else source.relative_to("docs")


def _place_of(target: Path) -> Path | None:
    """Where a file of the repository is in the site; None for one that is not there."""
    if not target.is_relative_to(ROOT):
        return None
    inside = target.relative_to(ROOT)
    if str(inside) in OTHERS:
        return Path(OTHERS[str(inside)])
    return target.relative_to(DOCS) if target.is_relative_to(DOCS) and target.is_file() else None


def _name_of(target: Path) -> str:
    resolved = target.resolve()
    return str(resolved.relative_to(ROOT)) if resolved.is_relative_to(ROOT) else target.name


def _relative(place: Path, page: Path) -> str:
    up = [".."] * (len(page.parts) - 1)
    return "/".join([*up, *place.parts])


if __name__ == "__main__":
    collect(Path(sys.argv[1]))
