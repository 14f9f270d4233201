"""Redaction of what must not reach the raw topic (docs/contract.md, «Redaction») (pure).

Redaction sees what the normaliser will see. Parsed JSON is redacted by field name, also inside JSON strings (Kärcher's
state values are JSON in strings) and JSON quoted several times, and free text by pattern. A payload that cannot be
parsed is only shown as a masked excerpt (`excerpt`). A payload without anything to hide is returned unchanged, not
re-encoded; only a byte order mark before it is dropped. Everything takes time linear in the length of the payload.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import msgspec

from schemas.json_reading import BOM, NotJson, encode, read_verbatim, text_of, without_bom
from schemas.redact_names import FieldKind, added_names, is_part_of_a_system, is_secret_name, kind_of, plain_name
from schemas.redact_patterns import REDACTED, forget_words, mask, mask_free_text, mask_unparsed

__all__ = [
    "EXCERPT_CHARS",
    "REDACTED",
    "NotJson",
    "excerpt",
    "forget_names",
    "is_secret_name",
    "looks_like_json",
    "mask",
    "redact",
    "redact_text",
    "redact_value",
    "suspicion",
]

EXCERPT_CHARS = 512
"""Longest excerpt, in characters, of a payload that cannot be parsed."""

_NAME_FIELDS = frozenset({"name", "key", "id", "field", "property", "setting", "parameter", "attribute"})
_VALUE_FIELDS = frozenset({"value", "data", "val", "values", "content", "newvalue", "oldvalue"})
_TIMES = ("timestamp", "time")
_BLANK = " \t\r\n" + BOM
_SHORT = 64


def suspicion(pattern: re.Pattern[bytes]) -> Callable[[bytes], bool]:
    """A fast check of whole payloads: False only if the pattern matches no string of the JSON text, quotes included.

    Payloads repeat their names, so the result for each string is cached; searching whole payloads would take a hundred
    times as long. An escape sequence may hide anything, so a payload with one is suspicious.
    """

    def search(text: bytes) -> bool:
        return pattern.search(text) is not None

    cached_search = lru_cache(maxsize=8192)(search)

    def is_suspicious(payload: bytes) -> bool:
        if b"\\" in payload:
            return True
        return any(cached_search(s) if len(s) < _SHORT else search(s) for s in set(_STRINGS.findall(payload)))

    return is_suspicious


_STRINGS = re.compile(rb'"[^"]*"')

# A candidate sends the payload to the slow path; it may be wrong in that direction only. An `@` may be of an address,
# three dots or colons of a network address, a bracket or a byte order mark of JSON in text.
_CANDIDATE_NAMES = (
    r"pin|code|pass|pwd|psk|otp|jwt|secret|token|cookie|credential|authoriz|key|enclave|requester|ssid|network|wi-?fi"
    r"|wlan|mac(?!h)|address|gateway|ip(?!t|e)|mail|user|_by|changedby|enabledby|houseno|house_no|s3|picture|photo|image"
)
_CANDIDATE_VALUES = (
    r"|@|eyj|bearer|[?&#][a-z_-]+=|[{[]|\xef\xbb\xbf|\d\.\d{1,3}\.\d{1,3}\.\d|(?:[0-9a-f]{1,4}[:-]){5}|::"
    r"|(?<![0-9a-z+/])[0-9a-z+/]{200}"
)


@cache
def _is_suspicious() -> Callable[[bytes], bool]:
    candidate = re.compile(_CANDIDATE_NAMES)
    added = (r"[\s_-]?".join(map(re.escape, name)) for name in sorted(added_names()) if not candidate.search(name))
    names = "|".join((_CANDIDATE_NAMES, *added))
    return suspicion(re.compile(b"(?i)" + f"{names}{_CANDIDATE_VALUES}".encode("latin-1")))


def forget_names() -> None:
    """Ask again which names the registered vendors add; for a process that has installed a package."""
    for function in (added_names, kind_of, _is_suspicious, _cached):
        function.cache_clear()
    forget_words()


def redact(payload: bytes) -> bytes:
    """The payload without its secrets; the very same bytes where it has none. NotJson where it cannot be parsed."""
    return _redact_json(without_bom(payload), text_of(payload))


def _redact_json(payload: bytes, text: str) -> bytes:
    """See `redact`; `text` is the payload decoded."""
    if _is_strict(payload) and not _is_suspicious()(payload):
        return payload
    clean, changed = _redacted(text)
    return encode(clean) if changed else payload


def redact_text(payload: bytes, name: str = "") -> bytes:
    """Like `redact` for a payload that may also be plain text, the value of a field called `name` (MQTT topics).

    NotJson only for what is not UTF-8 text, or looks like JSON (begins with a bracket) and is broken.
    """
    text = text_of(payload)
    kind = kind_of(name)
    if looks_like_json(text):
        clean = _redact_json(without_bom(payload), text)
        if kind in (FieldKind.PLAIN, FieldKind.VERSION):
            return clean
        return encode(_hidden(read_verbatim(clean.decode()).value, kind, keep=_TIMES))
    if is_secret_name(name):
        return REDACTED.encode() if text else b""
    return _redact_string(text, kind is not FieldKind.VERSION).encode()


def looks_like_json(text: str) -> bool:
    """Whether a text that may be plain begins like an object or an array; text of which the beginning is hidden does
    not.
    """
    begun = text.lstrip(_BLANK)
    return begun[:1] in ("{", "[") and not begun.startswith(REDACTED)


def redact_value(value: Any, name: str = "") -> Any:
    """Parsed JSON without its secrets; `name` is the field it stands in, and only says whether it is a version."""
    return _redact(value, kind_of(name) is not FieldKind.VERSION)


def excerpt(payload: bytes, limit: int = EXCERPT_CHARS) -> str:
    """The beginning of a payload that could not be parsed, masked by pattern: for the dead letter."""
    text = payload[: limit * 4].decode(errors="replace").lstrip(BOM)
    if len(text) > limit:  # a value cut in two would not be recognised: drop what the cut may have touched
        text = text[: max(text.rfind(end, 0, limit) for end in ' ,{}[]"\n\t\r') + 1]
    return mask_unparsed(text)


def _is_strict(payload: bytes) -> bool:
    """Whether the payload is JSON by the letter."""
    try:
        msgspec.json.decode(payload, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return False
    return True


def _redacted(text: str, addresses: bool = True) -> tuple[Any, bool]:
    """JSON text parsed and redacted, and whether that changed it. NotJson."""
    parsed = read_verbatim(text)
    try:
        clean = _redact(parsed.value, addresses)
        return clean, parsed.repeats_names or clean != parsed.value
    except RecursionError as error:
        raise NotJson("not_json", "nested too deeply") from error


def _redact(value: Any, addresses: bool) -> Any:
    if isinstance(value, dict):
        return _redact_object(value, addresses)
    if isinstance(value, list):
        return [_redact(item, addresses) for item in value]
    if isinstance(value, str):
        return _redact_short(value, addresses)
    return value


def _redact_object(fields: dict[str, Any], addresses: bool) -> dict[str, Any]:
    # `{"name": "lockcode", "value": …}`: the name is a value
    named = [kind_of(v) for n, v in fields.items() if isinstance(v, str) and plain_name(n) in _NAME_FIELDS]
    of_value = max((kind for kind in named), key=_STRICTNESS.index, default=FieldKind.PLAIN)
    clean = _Members()
    for name, value in fields.items():
        kind = kind_of(name)
        if of_value is not FieldKind.PLAIN and plain_name(name) in _VALUE_FIELDS:
            kind = max(kind, of_value, key=_STRICTNESS.index)
        clean.add(_redact_short(name, True), _redact_field(value, kind, addresses))
    return clean.fields


_STRICTNESS = (FieldKind.PLAIN, FieldKind.VERSION, FieldKind.ACTOR, FieldKind.WIFI_NETWORKS, FieldKind.SECRET)


def _redact_field(value: Any, kind: FieldKind, addresses: bool) -> Any:
    if kind is FieldKind.PLAIN:
        return _redact(value, addresses)
    if kind is FieldKind.VERSION:
        return _redact(value, False)
    if kind is FieldKind.ACTOR and isinstance(value, str) and is_part_of_a_system(value):
        return value
    return _hidden(value, kind)


def _redact_string(text: str, addresses: bool) -> str:
    if text.lstrip(_BLANK)[:1] in ("{", "[", '"'):
        try:
            clean, changed = _redacted(text.lstrip(BOM), addresses)
        except NotJson:
            return mask_free_text(text, addresses)
        return encode(clean).decode() if changed else text
    return mask_free_text(text, addresses)


_cached = lru_cache(maxsize=16384)(_redact_string)


def _redact_short(text: str, addresses: bool) -> str:
    """Redact a string that is likely to recur: a name, or a short value."""
    return _cached(text, addresses) if len(text) < _SHORT else _redact_string(text, addresses)


class _Members:
    """The members of a redacted object. Names that are hidden are numbered: two must not become one."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self._used: dict[str, int] = {}

    def add(self, name: str, value: Any) -> None:
        """Add a member, under the name or a numbered one."""
        free, number = name, self._used.get(name, 1)
        while free in self.fields:
            number += 1
            free = f"{name}-{number}"
        self._used[name] = number
        self.fields[free] = value


def _hidden(value: Any, kind: FieldKind, keep: tuple[str, ...] = ()) -> Any:
    """The value with all its leaves hidden; its shape stays."""
    if isinstance(value, dict):
        return _hidden_object(value, kind, keep)
    if isinstance(value, list):
        return [_hidden(item, kind) for item in value]
    if isinstance(value, str) and kind is FieldKind.WIFI_NETWORKS and value.lstrip(_BLANK)[:1] in ("{", "["):
        return _hidden_text(value, kind)
    return None if value is None else REDACTED


def _hidden_object(fields: dict[str, Any], kind: FieldKind, keep: tuple[str, ...]) -> dict[str, Any]:
    names_are_values = kind is FieldKind.WIFI_NETWORKS and all(
        isinstance(item, dict | list) for item in fields.values()
    )
    hidden = _Members()
    for name, item in fields.items():
        shown = REDACTED if names_are_values else _redact_short(name, True)
        hidden.add(shown, item if name in keep else _hidden(item, kind))
    return hidden.fields


def _hidden_text(text: str, kind: FieldKind) -> str:
    """JSON in a string stays JSON, for those who count the networks."""
    try:
        return encode(_hidden(read_verbatim(text.lstrip(BOM)).value, kind)).decode()
    except NotJson:
        return REDACTED
