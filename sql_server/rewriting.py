"""What PostgreSQL's clients ask of its catalogues, as DuckDB understands it. Pure.

DuckDB's own `pg_catalog` is incomplete and cannot be extended. Ours are views and macros in the schema `pg` of the
session's memory (`catalog`), which come first on its search path. So a qualified name loses its qualifier, and a few
forms that DuckDB has not are replaced. Everything else stays as it is: the dialect is DuckDB's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sql_server.catalog import INFORMATION_SCHEMA, INFORMATION_VIEWS
from sql_server.lexer import Kind, Token, tokens

_MENTIONS = re.compile(
    r"pg_|information_schema|\bcollate\b|\boperator\s*\(|\breg(class|type|proc|namespace)|jsonb?_(build_object|agg)|current_setting",
    re.IGNORECASE,
)
_GRAFANA_SEARCH_PATH = re.compile(
    r"""SELECT\s+CASE\s+WHEN\s+trim\(s\[i\]\)\s*=\s*'"\$user"'.*?string_to_array\(current_setting\('search_path'\),\s*','\)\s+s\b""",
    re.IGNORECASE | re.DOTALL,
)
"""Grafana's list of the schemas on the search path, which takes a list function for a table."""
_NAMES = {
    "current_setting": "pg_current_setting",  # our own views call DuckDB's
    "json_build_object": "json_object",
    "jsonb_build_object": "json_object",
    "json_agg": "json_group_array",
}
_LOOKED_UP = (["regclass"], ["regtype"], ["regnamespace"])
_SPACE = Token(Kind.SPACE, " ")


def rewritten(text: str) -> str:
    """The text for DuckDB; the same text where it asks for nothing of PostgreSQL's own."""
    if not _MENTIONS.search(text):
        return text
    return "".join(token.text for token in _Rewriting(tokens(_GRAFANA_SEARCH_PATH.sub("SELECT 'main'", text))).run())


class _Rewriting:
    def __init__(self, query_tokens: Sequence[Token]) -> None:
        self._in = query_tokens
        self._out: list[Token] = []
        self._at = 0

    def run(self) -> list[Token]:
        while self._at < len(self._in):
            if not (self._qualifier() or self._operator() or self._collation() or self._lookup()):
                token = self._in[self._at]
                known = _NAMES.get(token.name) if token.kind is Kind.WORD else None
                self._out.append(Token(Kind.WORD, known) if known else token)
                self._at += 1
        return self._out

    def _ahead(self, count: int) -> list[Token]:
        """The next tokens without space."""
        upcoming = []
        for token in self._in[self._at :]:
            if token.kind is not Kind.SPACE:
                upcoming.append(token)
                if len(upcoming) == count:
                    break
        return upcoming

    def _skip(self, count: int) -> None:
        """Leave out the next tokens, and the space between and after them."""
        while self._at < len(self._in) and (count or self._in[self._at].kind is Kind.SPACE):
            count -= self._in[self._at].kind is not Kind.SPACE
            self._at += 1

    def _qualifier(self) -> bool:
        """`pg_catalog.pg_class` and `information_schema.tables`."""
        first = self._in[self._at]
        rest = self._ahead(3)[1:]
        if first.kind is Kind.SPACE or len(rest) < 2 or rest[0].text != ".":
            return False
        if first.name == "pg_catalog" or (first.name == "information_schema" and rest[1].name.startswith("_pg_")):
            self._skip(2)
            return True
        if first.name == "information_schema" and rest[1].name in INFORMATION_VIEWS:
            self._out.append(Token(Kind.WORD, INFORMATION_SCHEMA))
            self._at += 1
            return True
        return False

    def _operator(self) -> bool:
        """`OPERATOR(pg_catalog.~)`."""
        if self._in[self._at].name != "operator":
            return False
        upcoming = self._ahead(8)
        texts = [token.text for token in upcoming]
        if len(texts) < 3 or texts[1] != "(" or ")" not in texts:
            return False
        end = texts.index(")")
        symbols = texts[2:end]
        if "." in symbols:
            symbols = symbols[symbols.index(".") + 1 :]
        self._skip(end + 1)
        self._out += [_SPACE, Token(Kind.OPERATOR, "".join(symbols)), _SPACE]
        return True

    def _collation(self) -> bool:
        """`COLLATE pg_catalog.default` and other collations of PostgreSQL."""
        if self._in[self._at].name != "collate":
            return False
        texts = [token.name or token.text for token in self._ahead(4)]
        if texts[1:3] == ["pg_catalog", "."]:
            self._skip(4)
            return True
        if texts[1:2] and texts[1].lower() in ("default", "c", "posix"):
            self._skip(2)
            return True
        return False

    def _lookup(self) -> bool:
        """`'latest'::regclass` and `CAST('latest' AS regclass)`, with or without `pg_catalog.`."""
        token = self._in[self._at]
        cast = token.name == "cast"
        if token.kind is not Kind.STRING and not cast:
            return False
        upcoming = self._ahead(8)
        names = [each.name or each.text for each in upcoming]
        value, *names = names[2:] if cast else names
        if names[1:3] == ["pg_catalog", "."]:
            names[1:3] = []
            skipped = 2
        else:
            skipped = 0
        if names[:1] != ["as" if cast else "::"] or names[1:2] not in _LOOKED_UP:
            return False
        if cast and (upcoming[2].kind is not Kind.STRING or names[2:3] != [")"]):
            return False
        self._skip(skipped + (6 if cast else 3))
        self._out.append(Token(Kind.WORD, f"to_{names[1]}({value})"))
        return True


def substituted(query_tokens: Sequence[Token], values: Sequence[str]) -> str:
    """The text with each `$n` replaced by the n-th value."""
    return "".join(
        values[int(token.text[1:]) - 1] if token.kind is Kind.PARAMETER else token.text for token in query_tokens
    )
