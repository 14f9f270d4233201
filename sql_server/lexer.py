"""SQL as tokens, so that a text can be split, classified and rewritten without touching strings and comments. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a token is."""

    SPACE = "space"
    WORD = "word"
    QUOTED = "quoted"
    STRING = "string"
    NUMBER = "number"
    PARAMETER = "parameter"
    OPERATOR = "operator"


@dataclass(frozen=True)
class Token:
    """A piece of the text; all pieces joined are the text. Comments are space."""

    kind: Kind
    text: str

    @property
    def name(self) -> str:
        """The identifier or keyword, folded to lower case unless it is quoted; empty for other tokens."""
        if self.kind is Kind.QUOTED:
            return self.text[1:-1].replace('""', '"')
        return self.text.lower() if self.kind is Kind.WORD else ""


_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*)
  | (?P<string>
        [eE]'(?:[^'\\]|\\.|'')*(?:'|$)
      | [xX]?'(?:[^']|'')*(?:'|$)
      | \$(?P<tag>[A-Za-z_]\w*)?\$.*?(?:\$(?(tag)(?P=tag))\$|$)
    )
  | (?P<quoted>"(?:[^"]|"")*(?:"|$))
  | (?P<parameter>\$\d+)
  | (?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<word>[^\W\d][\w$]*)
  | (?P<operator>::|[^\s\w])
    """,
    re.VERBOSE | re.DOTALL,
)


def tokens(text: str) -> list[Token]:
    """All tokens of a text. An unfinished string or comment reaches to the end."""
    return list(_tokens(text))


def _tokens(text: str) -> Iterator[Token]:
    place = 0
    while place < len(text):
        if text.startswith("/*", place):
            end = _comment_end(text, place)
            yield Token(Kind.SPACE, text[place:end])
            place = end
            continue
        match = _TOKEN.match(text, place)
        assert match is not None and match.lastgroup is not None, "the last alternatives take any character"
        kind = "string" if match.lastgroup == "tag" else match.lastgroup
        yield Token(Kind(kind), match[0])
        place = match.end()


def _comment_end(text: str, start: int) -> int:
    """Comments nest."""
    depth, place = 0, start
    for match in re.compile(r"/\*|\*/").finditer(text, start):
        depth += 1 if match[0] == "/*" else -1
        place = match.end()
        if depth == 0:
            return place
    return len(text)


def statements(text: str) -> list[str]:
    """The statements of a text, without the semicolons between them; those of space only are left out."""
    parts: list[list[Token]] = [[]]
    for token in tokens(text):
        if token.text == ";":
            parts.append([])
        else:
            parts[-1].append(token)
    return ["".join(t.text for t in part).strip() for part in parts if any(t.kind is not Kind.SPACE for t in part)]


def words(query_tokens: Sequence[Token], most: int = 16) -> list[str]:
    """The first tokens without space: names and keywords folded, others as they are."""
    plain = [token for token in query_tokens if token.kind is not Kind.SPACE]
    return [token.name or token.text for token in plain[:most]]


def literal(text: str) -> str:
    """A text as a string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def unquoted(string: str) -> str:
    """What a plain string of SQL says."""
    return string[1:-1].replace("''", "'") if string.startswith("'") else string
