"""What a statement asks for, before DuckDB sees it: transactions, settings and cursors are the server's. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from sql_server.catalog import SETTINGS
from sql_server.errors import NO_SUCH_OBJECT, NOT_SUPPORTED, READ_ONLY, SYNTAX, SqlError
from sql_server.lexer import Kind, Token, tokens, unquoted, words


class Action(Enum):
    """What is done for a statement."""

    NOTHING = auto()
    QUERY = auto()
    BEGIN = auto()
    COMMIT = auto()
    ROLLBACK = auto()
    SET = auto()
    SHOW = auto()
    DEALLOCATE = auto()
    DECLARE = auto()
    FETCH = auto()
    CLOSE = auto()
    DISCARD = auto()
    ACCEPT = auto()
    """Nothing but the tag, for what has no meaning here and does no harm."""


@dataclass(frozen=True)
class Command:
    """A statement. `name` is that of a setting, cursor or statement; `text` a value, or a cursor's query."""

    action: Action
    tag: str = ""
    name: str = ""
    text: str = ""
    count: int = 0
    """Rows to fetch; 0: all."""


_ACCEPTED = ("savepoint", "release", "listen", "unlisten", "reset", "lock")
_WRITES = (
    *(
        "insert",
        "update",
        "delete",
        "merge",
        "truncate",
        "create",
        "drop",
        "alter",
        "grant",
        "revoke",
        "copy",
        "vacuum",
    ),
    *("comment", "attach", "detach", "install", "load", "import", "export", "checkpoint", "analyze", "reindex"),
)
_SETTINGS = {name.lower(): name for name in SETTINGS}
_SETTING_OF = {"timezone": "TimeZone", "names": "client_encoding"}


def command(text: str) -> Command:
    """What the statement asks for. SqlError where it is understood and refused."""
    query_tokens = tokens(text)
    first = words(query_tokens)
    if not first:
        return Command(Action.NOTHING)
    verb = first[0]
    match verb:
        case "begin" | "start":
            return Command(Action.BEGIN, "BEGIN" if verb == "begin" else "START TRANSACTION")
        case "commit" | "end":
            return Command(Action.COMMIT, "COMMIT")
        case "rollback" | "abort":
            to_savepoint = "to" in first
            return Command(Action.ACCEPT if to_savepoint else Action.ROLLBACK, "ROLLBACK")
        case "set":
            return _set(first[1:])
        case "show":
            return _show(first[1:], text)
        case "discard":
            return Command(Action.DISCARD, "DISCARD ALL")
        case "deallocate":
            name = next((word for word in first[1:] if word != "prepare"), "all")
            return Command(Action.DEALLOCATE, "DEALLOCATE", "" if name == "all" else name)
        case "declare":
            return _declare(query_tokens)
        case "fetch" | "move":
            return _fetch(first)
        case "close":
            name = first[1] if len(first) > 1 else "all"
            return Command(Action.CLOSE, "CLOSE CURSOR", "" if name == "all" else name)
        case _ if verb in _ACCEPTED:
            return Command(Action.ACCEPT, verb.upper())
        case _ if verb in _WRITES:
            if verb == "copy":
                raise SqlError(
                    NOT_SUPPORTED, "COPY is not supported", "Send the query itself, or use `fleetlake export`."
                )
            raise SqlError(READ_ONLY, f"cannot execute {verb.upper()}: the tables are read-only")
    return Command(Action.QUERY, text=text)


def _set(rest: list[str]) -> Command:
    """`SET x = v`, `SET SESSION x TO v`, `SET TIME ZONE v`, `SET TRANSACTION …`, `SET SESSION CHARACTERISTICS …`."""
    if (rest[:1] == ["session"] and rest[1:2] == ["characteristics"]) or rest[:1] == ["transaction"]:
        return Command(Action.ACCEPT, "SET")
    if rest[:1] in (["session"], ["local"]):
        rest = rest[1:]
    if rest[:2] == ["time", "zone"]:
        rest = ["timezone", "to", *rest[2:]]
    if rest[:1] == ["names"]:
        rest = ["names", "to", *rest[1:]]
    if len(rest) < 3 or rest[1] not in ("=", "to"):
        raise SqlError(SYNTAX, "SET needs a setting and a value")
    value = "".join(unquoted(word) for word in rest[2:])
    return Command(Action.SET, "SET", setting_name(rest[0]), value)


def setting_name(word: str) -> str:
    """The name of a setting as it is reported. SqlError where there is none."""
    lower = word.lower()
    name = _SETTING_OF.get(lower) or _SETTINGS.get(lower)
    if name is None:
        raise SqlError(NO_SUCH_OBJECT, f'unrecognized configuration parameter "{word}"')
    return name


def _show(rest: list[str], text: str) -> Command:
    known = {("transaction", "isolation", "level"): "transaction_isolation", ("time", "zone"): "TimeZone"}
    name = known.get(tuple(rest))
    if name is None and len(rest) == 1 and rest[0] in _SETTINGS:
        name = _SETTINGS[rest[0]]
    # DuckDB's SHOW TABLES and SHOW <table> are queries.
    return Command(Action.SHOW, "SHOW", name) if name else Command(Action.QUERY, text=text)


def _declare(query_tokens: list[Token]) -> Command:
    """`DECLARE name [BINARY] [[NO] SCROLL] CURSOR [WITH HOLD] FOR query`."""
    names = [token.name for token in query_tokens]
    if "cursor" not in names or "for" not in names:
        raise SqlError(SYNTAX, "DECLARE needs a name, CURSOR and FOR")
    plain = [token for token in query_tokens if token.kind is not Kind.SPACE]
    query = "".join(token.text for token in query_tokens[names.index("for") + 1 :])
    return Command(Action.DECLARE, "DECLARE CURSOR", plain[1].name, query.strip())


def _fetch(first: list[str]) -> Command:
    """`FETCH [FORWARD] [n | ALL | NEXT] [FROM | IN] name`. SqlError for other directions: results are read once."""
    *options, name = first[1:] or [""]
    count = 1
    for word in options:
        if word in ("from", "in", "forward", "next"):
            continue
        if word == "all":
            count = 0
        elif re.fullmatch(r"\d+", word):
            count = int(word)
        else:
            raise SqlError(NOT_SUPPORTED, f"FETCH {word.upper()} is not supported: cursors go forward only")
    return Command(Action.FETCH, "FETCH" if first[0] == "fetch" else "MOVE", name, count=count)
