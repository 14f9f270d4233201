"""Redaction of what must not reach the raw topic (docs/contract.md, «Redaction») (pure).

Parsed JSON is redacted by field name, also inside JSON strings (Kärcher's state values are JSON in strings), and free
text by pattern. A payload that cannot be parsed is only shown as a masked excerpt (`excerpt`). A payload without
anything to hide is returned unchanged, not re-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

import msgspec

from schemas.vendors import vendors

REDACTED = "[redacted]"

EXCERPT_CHARS = 512
"""Longest excerpt, in characters, of a payload that cannot be parsed."""

_COMMON_SECRET_NAMES = frozenset(
    {
        # PIN codes and keys
        *("pin", "pincode", "password", "passwd", "passwordhash", "secret", "token", "authorization"),
        *("apikey", "xapikey", "privatekey", "secureenclaveid"),
        # networks
        *("ssid", "bssid", "wifiname", "mac", "macaddress", "ip", "ipaddress"),
        *("ipv4address", "ipv6address", "ipv4", "ipv6", "gateway"),
        # people and homes
        *("email", "emailaddress", "userid", "address"),
        # pictures
        *("picture", "photo", "image", "imagebase64", "photobase64"),
    }
)
_SECRET_ENDINGS = ("token", "password", "passwordhash", "secret", "apikey", "macaddress", "ipaddress", "email", "ssid")
_NAME_FIELDS, _VALUE_FIELDS = ("name", "key", "id"), ("value", "data")


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
        return any(cached_search(s) if len(s) < 64 else search(s) for s in set(_STRINGS.findall(payload)))

    return is_suspicious


_STRINGS = re.compile(rb'"[^"]*"')

# A candidate sends the payload to the slow path; it may be wrong in that direction only. An `@` may be of an address,
# three dots or colons of a network address.
_CANDIDATE_NAMES = (
    r"pin|code|pass|secret|token|authoriz|key|enclave|requester|ssid|network|wifi|mac(?!h)|address|gateway|ip(?!t|e)"
    r"|mail|user|_by|changedby|enabledby|houseno|house_no|s3|picture|photo|image"
)
_CANDIDATE_VALUES = r"|@|eyj|\d\.\d{1,3}\.\d{1,3}\.\d|(?:[0-9a-f]{2}[:-]){4}|::|[0-9a-z+/]{200}"

_EMAIL = r"[\w.+-]+@[\w-]*[\w.-]*"
_MAC = r"(?<![0-9A-Fa-f:])[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}(?![0-9A-Fa-f:])"
_IPV4 = r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w.-])"
_IPV6 = r"(?<![\w:])(?=[0-9A-Fa-f:]*::|(?:[0-9A-Fa-f]{1,4}:){7})[0-9A-Fa-f:]*[0-9A-Fa-f](?:%\w+)?(?![\w:])"
_JWT = r"eyJ[\w-]{8,}(?:\.[\w-]*)*"
_QUERY = r"(?<=[?&])(?i:access_?token|token|signature|sig|key|api_?key|x-amz-[a-z-]+)=[^&\s\"']+"
_BLOB = r"(?:data:image/[\w.+-]+;base64,)?[A-Za-z0-9+/]{200,}={0,2}"
_BEARER = r"(?<=\b(?i:bearer) )\S+"
_IN_TEXT = re.compile("|".join((_EMAIL, _MAC, _IPV6, _JWT, _QUERY, _BLOB, _BEARER)), re.ASCII)
_ADDRESS_IN_TEXT = re.compile(_IPV4, re.ASCII)

_NAME_CHAR = r"[\w.\- ]"
_UNPARSED_NAMES = (
    r"pin|code|pass\w*|secret|token|auth\w*|key|enclave\w*|requester|ssid|network\w*|wifi\w*|mac"
    r"|address|gateway|ip|ipv[46]\w*|mail|user\w*|_by|by|house_?no|s3\w*|picture|photo|image"
)
_UNPARSED_VALUE = r"[\\\"']*\s*[:=]\s*)(\{[^}]*\}?|\[[^\]]*\]?|[\\\"']+[^\"']*[\"']?|[^,}\]\s]+)"


@dataclass(frozen=True)
class _Secrets:
    """What is hidden: the common names, and those that the registered vendors add."""

    names: frozenset[str]
    is_suspicious: Callable[[bytes], bool]
    unparsed_field: re.Pattern[str]
    """A sensitive name, quoted or bare, and all that may belong to its value."""


@cache
def _secrets() -> _Secrets:
    added = {name for spec in vendors().values() for name in spec.secret_names}
    candidate = re.compile(_CANDIDATE_NAMES)
    more = "".join("|" + r"[\s_-]?".join(map(re.escape, name)) for name in sorted(added) if not candidate.search(name))
    return _Secrets(
        _COMMON_SECRET_NAMES | added,
        suspicion(re.compile(f"(?i){_CANDIDATE_NAMES}{more}{_CANDIDATE_VALUES}".encode())),
        re.compile(rf"(?i)({_NAME_CHAR}{{0,40}}(?:{_UNPARSED_NAMES}{more}){_NAME_CHAR}{{0,20}}{_UNPARSED_VALUE}"),
    )


_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


class NotJson(ValueError):
    """The payload is not JSON in UTF-8: `reason` is the code for the dead letter, the text says where it broke."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def is_secret_name(name: str) -> bool:
    """Whether a field of this name is hidden, however spelt: `networkName`, `network_name`, `settings.lockcode`."""
    plain = re.sub(r"[\s_-]", "", name.rpartition(".")[2]).lower()
    return plain in _secrets().names or plain.endswith(_SECRET_ENDINGS)


def redact(payload: bytes) -> bytes:
    """The payload without its secrets; the very same bytes where it has none. NotJson where it cannot be parsed."""
    _check_json(payload)
    if not _secrets().is_suspicious(payload):
        return payload
    try:
        parsed = _decode(payload)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise NotJson("not_json", str(error)) from error
    clean = redact_value(parsed)
    return payload if clean == parsed else _encode(clean)


def redact_text(payload: bytes, name: str = "") -> bytes:
    """Like `redact` for a payload that may also be plain text, the value of a field called `name` (MQTT topics).

    NotJson only for what is not UTF-8 text, or looks like JSON (begins with a bracket) and is broken.
    """
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise NotJson("not_utf8", str(error)) from error
    if text.lstrip()[:1] in ("{", "["):
        clean = redact(payload)
        return _encode(_hide_leaves(_decode(clean), keep=("timestamp", "time"))) if is_secret_name(name) else clean
    if is_secret_name(name):
        return REDACTED.encode()
    return mask(text).encode()


def redact_value(value: Any, name: str = "") -> Any:
    """Parsed JSON without its secrets; `name` is the field it stands in."""
    if isinstance(value, dict):
        return _redact_object(value)
    if isinstance(value, list):
        return [redact_value(item, name) for item in value]
    if isinstance(value, str):
        return _redact_string(value, name)
    return value


def mask(text: str, addresses: bool = True) -> str:
    """Free text without what looks like an e-mail or network address, a token or a picture."""
    masked = _IN_TEXT.sub(REDACTED, text)
    return _ADDRESS_IN_TEXT.sub(REDACTED, masked) if addresses else masked


def excerpt(payload: bytes, limit: int = EXCERPT_CHARS) -> str:
    """The beginning of a payload that could not be parsed, masked by pattern: for the dead letter."""
    text = payload[: limit * 4].decode(errors="replace")
    if len(text) > limit:  # a value cut in two would not be recognised: drop what the cut may have touched
        text = re.sub(r"[^\s,{}\[\]\"]*$", "", text[:limit])
    return mask(_secrets().unparsed_field.sub(rf"\g<1>{REDACTED}", text))


def _check_json(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise NotJson("not_utf8", f"byte {error.start}: {error.reason}") from error
    try:
        msgspec.json.decode(payload, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise NotJson("not_json", str(error)) from error


def _redact_object(fields: dict[str, Any]) -> dict[str, Any]:
    clean = {
        name: _hide_leaves(value) if is_secret_name(name) else redact_value(value, name)
        for name, value in fields.items()
    }
    # `{"name": "lockcode", "value": …}`: the name is a value
    if any(isinstance(fields.get(field), str) and is_secret_name(fields[field]) for field in _NAME_FIELDS):
        clean |= {field: _hide_leaves(fields[field]) for field in _VALUE_FIELDS if field in fields}
        clean |= {field: fields[field] for field in _NAME_FIELDS if isinstance(fields.get(field), str)}
    return clean


def _redact_string(text: str, name: str) -> str:
    if text.lstrip()[:1] in ("{", "["):
        return _redact_inner_json(text)
    return mask(text, addresses="version" not in name.lower())


def _redact_inner_json(text: str) -> str:
    try:
        parsed = _decode(text)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return mask(_secrets().unparsed_field.sub(rf"\g<1>{REDACTED}", text))
    clean = redact_value(parsed)
    return text if clean == parsed else _encode(clean).decode()


def _hide_leaves(value: Any, keep: tuple[str, ...] = ()) -> Any:
    if isinstance(value, dict):
        return {name: item if name in keep else _hide_leaves(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_hide_leaves(item) for item in value]
    return None if value is None else REDACTED
