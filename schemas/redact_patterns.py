"""Redaction of text by pattern: addresses, tokens and pictures anywhere, and the values of sensitive names (pure).

A message may consist of anything, so nothing here takes more than linear time: each pattern begins where a run of its
characters begins, and `mask_fields` looks back from each separator over a bounded length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from schemas.redact_names import added_names, is_credential_name, is_secret_name

REDACTED = "[redacted]"

_EMAIL = r"(?<![\w.+-])[\w.+-]++@[\w.-]*"
_MAC = r"(?<![0-9A-Fa-f:])[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}(?![0-9A-Fa-f:])"
_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_IPV4 = rf"(?<![\w.-])(?:{_OCTET}\.){{3}}{_OCTET}(?![\w-]|\.\w)"
_IPV6 = (
    r"(?<![\w:])(?=:{0,2}[0-9A-Fa-f])(?=[0-9A-Fa-f:]{0,39}::|(?:[0-9A-Fa-f]{1,4}:){7})[0-9A-Fa-f:]++"
    r"(?:\.\d{1,3}){0,3}(?:%\w++)?(?![\w:])"
)
_JWT = r"eyJ[\w-]{8,}+(?:\.[\w-]*+)*+"
_QUERY_NAMES = (
    r"access_?token|token|signature|sig|key|api_?key|code|auth|secret|client_secret|password|passwd|pwd|psk|pin"
    r"|x-amz-[a-z-]+"
)
_QUERY = rf"(?<=[?&#])(?P<parameter>(?i:{_QUERY_NAMES})=)[^&\s\"']+"
_BLOB = r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{200,}+={0,2}"
_BEARER = r"\b(?P<bearer>(?i:bearer)(?:\s|%20|\+){1,8})[^\s\"',;]+"
_IN_TEXT = re.compile("|".join((_QUERY, _BEARER, _EMAIL, _MAC, _IPV6, _JWT, _BLOB)), re.ASCII)
_ADDRESS_IN_TEXT = re.compile(_IPV4, re.ASCII)
_BEFORE_A_VERSION = re.compile(
    r"(?i)(?:version|firmware|software|revision|release|build|update|\bv|\bfw|\bsw|\bos)\W{0,3}(?:to\s|is\s)?$"
)
_LOOK_BACK = 24

_LONGEST_NAME = 128
_NAME_REVERSED = re.compile(r"[\w.\- ]+")
_QUOTES = "\\\"'"
_QUOTE = re.compile(r"(?<!\\)(\\*+)([\"'])")
_BRACKET_OR_QUOTE = re.compile(r"[\"{}\[\]]")
_END_OF_BARE_VALUE = re.compile(r"[,;&}\]\r\n]")

_SENSITIVE_WORDS = (
    r"pin|code|pass|secret|token|auth|key|enclave|requester|ssid|network|wi-?fi|wlan|mac|psk|pwd|credential|cookie|otp"
    r"|jwt|address|gateway|ip|mail|user|by|house_?no|s3|picture|photo|image"
)
_BEFORE_VALUE = r"[\w.\- ]{0,128}+[\\\"']{0,64}+\s{0,64}+[:=]\s{0,64}+"
_NAMED = re.compile(r"(?i)\b(?:name|key|id)[\\\"']{0,64}+\s{0,64}+[:=]\s{0,64}+[\\\"']{0,64}+([\w.\- ]{1,64})")
"""A field whose value is the name of another: `"name": "lockcode"`."""
_VALUE_NAMES = "value|data"
_LIKE_ASCII = str.maketrans("\u0130\u0131\u017f", "iis")
_VALUES = frozenset(_VALUE_NAMES.split("|"))


def mask(text: str, addresses: bool = True) -> str:
    """Free text without what looks like an e-mail or network address, a token or a picture."""
    masked = _IN_TEXT.sub(_masked, text)
    return _ADDRESS_IN_TEXT.sub(_masked_address, masked) if addresses else masked


def mask_unparsed(text: str, more_words: str = "") -> str:
    """Text that could not be parsed, without the values of names that contain a sensitive word.

    `more_words` adds words: alternatives of a regular expression, in lower case.
    """
    words = _sensitive_words(more_words)
    return mask(mask_fields(text, lambda name: words.search(name) is not None, more_words))


def mask_free_text(text: str, addresses: bool = True) -> str:
    """Text in a parsed message, also text that contains JSON («note: {…}»), without its secrets."""
    if ":" in text or "=" in text:
        has_structure = "{" in text or "[" in text.replace(REDACTED, "")
        is_sensitive = is_secret_name if has_structure else is_credential_name
        text = mask_fields(text, lambda name: _ends_with(name, is_sensitive))
    return mask(text, addresses)


def mask_fields(text: str, is_sensitive: Callable[[str], bool], more_words: str = "") -> str:
    """The text with the value behind each sensitive name hidden: `name: value`, `"name": {…}`, `name=value`.

    `is_sensitive` is asked only about names that contain one of the sensitive words or of `more_words`.
    """
    names_a_secret = any(is_sensitive(named[1].strip()) for named in _NAMED.finditer(text))
    candidates, folded = _candidates(names_a_secret, more_words), _folded(text)
    pieces: list[str] = []
    position = 0
    while candidate := candidates.search(folded, position):
        found, begin = candidate.span()
        name = _name_before(text, max(position, found - _LONGEST_NAME), text[found:begin], found)
        if begin < len(text) and (is_sensitive(name) or (names_a_secret and name.lower() in _VALUES)):
            pieces += (text[position:begin], REDACTED)
            begin = _end_of_value(text, begin)
        else:
            pieces.append(text[position:begin])
        position = begin
    pieces.append(text[position:])
    return "".join(pieces)


def _masked(match: re.Match[str]) -> str:
    return (match["parameter"] or match["bearer"] or "") + REDACTED


def _masked_address(match: re.Match[str]) -> str:
    before = match.string[max(0, match.start() - _LOOK_BACK) : match.start()]
    return match[0] if _BEFORE_A_VERSION.search(before) else REDACTED


def forget_words() -> None:
    """Ask again which names the registered vendors add."""
    for function in (_words, _sensitive_words, _candidates):
        function.cache_clear()


@cache
def _words() -> str:
    """The sensitive words, and the names of the registered vendors that contain none of them."""
    known = re.compile(f"(?i){_SENSITIVE_WORDS}")
    added = (r"[\s_-]?".join(map(re.escape, name)) for name in sorted(added_names()) if not known.search(name))
    return "|".join((_SENSITIVE_WORDS, *added))


@cache
def _sensitive_words(more: str) -> re.Pattern[str]:
    return re.compile("(?i)" + "|".join(filter(None, (_words(), more))))


@cache
def _candidates(with_values: bool, more: str) -> re.Pattern[str]:
    """A sensitive word, the rest of the name it stands in, and what separates name and value; for folded text.

    Without regard to case, the search takes six times as long.
    """
    words = "|".join(filter(None, (_words(), more, _VALUE_NAMES if with_values else "")))
    return re.compile(f"(?:{words}){_BEFORE_VALUE}")


def _folded(text: str) -> str:
    """The text in lower case, as long as it is: also of letters that count as equal to one of ASCII."""
    folded = (text if text.isascii() else text.translate(_LIKE_ASCII)).lower()
    return folded if len(folded) == len(text) else "".join(map(_folded_letter, text))


def _folded_letter(letter: str) -> str:
    folded = letter.translate(_LIKE_ASCII).lower()
    return folded if len(folded) == 1 else letter


def _ends_with(name: str, is_sensitive: Callable[[str], bool]) -> bool:
    """Whether the name, or its last words, are sensitive: «the new pin»."""
    words = name.split()[-3:]
    return any(is_sensitive(" ".join(words[first:])) for first in range(len(words)))


def _name_before(text: str, start: int, candidate: str, at: int) -> str:
    """The name that a candidate at `at` is the end of, without its quotes."""
    end = candidate.rstrip().rstrip(":=").rstrip().rstrip(_QUOTES)
    match = _NAME_REVERSED.match(text[start:at][::-1])
    return ((match[0][::-1] if match else "") + end).strip()


def _end_of_value(text: str, begin: int) -> int:
    """Where a value ends: at its closing quote or bracket, or before what separates it from the next."""
    if text[begin] in "{[":
        return _end_of_brackets(text, begin)
    if opening := _QUOTE.match(text, begin):
        return _end_of_quoted(text, opening)
    end = _END_OF_BARE_VALUE.search(text, begin)
    return end.start() if end else len(text)


def _end_of_brackets(text: str, begin: int) -> int:
    """Behind the bracket that closes the first one; the end of the text where none does."""
    depth, in_string = 0, False
    for token in _BRACKET_OR_QUOTE.finditer(text, begin):
        if token[0] == '"':
            in_string = not in_string
        elif not in_string:
            depth += 1 if token[0] in "{[" else -1
            if depth == 0:
                return token.end()
    return len(text)


def _end_of_quoted(text: str, opening: re.Match[str]) -> int:
    """Behind the quote that closes the opening one. One with more backslashes before it is part of the value."""
    for quote in _QUOTE.finditer(text, opening.end()):
        if quote[2] == opening[2] and len(quote[1]) <= len(opening[1]):
            return quote.end()
    return len(text)
