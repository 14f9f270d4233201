"""Which fields are hidden, by their names (docs/contract.md, «Redaction») (pure).

The first question asks for the registered vendors, which looks for installed packages once; see `schemas.vendors`.
"""

from __future__ import annotations

import re
from collections.abc import Set
from enum import Enum
from functools import cache, lru_cache

from schemas.vendors import vendors

_CREDENTIALS = frozenset(
    {
        *("pin", "pincode", "pinhash", "userpin", "adminpin", "masterpin", "devicepin", "doorpin", "lockpin", "simpin"),
        *("password", "passwd", "passwordhash", "passphrase", "passcode", "passkey", "pwd", "psk", "otp"),
        *("secret", "token", "authorization", "jwt", "cookie", "credential", "credentials"),
        *("apikey", "xapikey", "privatekey", "secureenclaveid"),
    }
)
_NETWORKS_AND_PEOPLE = frozenset(
    {
        # networks
        *("ssid", "bssid", "wifiname", "mac", "macaddress", "ip", "ipaddress"),
        *("ipv4address", "ipv6address", "ipv4", "ipv6", "gateway"),
        # people and homes
        *("email", "emailaddress", "userid", "address"),
        # pictures
        *("picture", "photo", "image", "imagebase64", "photobase64"),
    }
)
_KEYS = (
    "api|secret|access|private|shared|encryption|session|master|network|wifi|wlan|auth|authentication|sas|link|security"
    "|account|registration|signing"
)
_CODES = (
    "door|access|lock|unlock|entry|gate|security|alarm|disarm|arm|user|pass|pairing|verification|auth|otp|setup|install"
    "|master|admin"
)
_CREDENTIAL_ENDING = re.compile(
    r"(?:token|password|passwordhash|passwd|passphrase|passcode|secret|credentials?|psk|pwd"
    rf"|(?:{_KEYS})key|(?:{_CODES})code)s?$"
)
_OTHER_ENDING = re.compile(r"(?:(?:mac|ip)address(?:es)?|(?:email|ssid)s?)$")
_PIN_WORD = re.compile(r"(?:^|[\s_.-])pin(?:[\s_-]?(?:code|hash|number))?$|[a-z0-9](?:Pin|PIN)(?:Code|Hash|Number)?$")
_WIFI_NETWORKS = re.compile(
    r"(?:wifi|wlan|wireless)networks?(?:list|names?)?$|(?:wifi|wlan)(?:list|names)$"
    r"|(?:saved|known|stored|configured|remembered|preferred|available|nearby|visible|scanned)"
    r"(?:wifis?|wlans?|networks?|ssids)(?:list|names?)?$"
)
_VERSION = re.compile(r"version|firmware|software|revision|release|^(?:fw|sw|hw|os)$")

_PARTS_OF_A_SYSTEM = frozenset(
    {"system", "robot", "device", "schedule", "scheduler", "user", "mapp", "app", "cloud", "server", "auto"}
)


class FieldKind(Enum):
    """What a field's name says about its value."""

    PLAIN = "plain"
    VERSION = "version"
    """A version such as `1.3.23.4`, which is no address."""
    SECRET = "secret"
    """Hidden, whatever it is."""
    ACTOR = "actor"
    """Who did something: hidden unless it is a word for a part of the system."""
    WIFI_NETWORKS = "wifi_networks"
    """Hidden, and the names of members that stand for networks as well."""


@lru_cache(maxsize=16384)
def kind_of(name: str) -> FieldKind:
    """The kind of a field, however its name is spelt: `networkName`, `network_name`, `settings.lockcode`."""
    plain = plain_name(name)
    if plain in added_names():
        return FieldKind.ACTOR if plain.endswith("by") else FieldKind.SECRET
    if is_credential_name(name) or plain in _NETWORKS_AND_PEOPLE or _OTHER_ENDING.search(plain):
        return FieldKind.SECRET
    if _WIFI_NETWORKS.search(plain):
        return FieldKind.WIFI_NETWORKS
    return FieldKind.VERSION if _VERSION.search(plain) else FieldKind.PLAIN


def is_secret_name(name: str) -> bool:
    """Whether a field of this name is hidden."""
    return kind_of(name) not in (FieldKind.PLAIN, FieldKind.VERSION)


@lru_cache(maxsize=4096)
def is_credential_name(name: str) -> bool:
    """Whether a field of this name lets somebody in: a PIN code, a password, a key, a token."""
    plain = plain_name(name)
    return plain in _CREDENTIALS or bool(_CREDENTIAL_ENDING.search(plain) or _PIN_WORD.search(name))


def is_part_of_a_system(value: str) -> bool:
    """Whether a value that says who did something names no person: `System`, `MAPP` (Ogmen's app)."""
    return value.strip().lower() in _PARTS_OF_A_SYSTEM


@lru_cache(maxsize=16384)
def plain_name(name: str) -> str:
    """The last part of a dotted name in lower case, without separators."""
    return name.rpartition(".")[2].translate(_NO_SEPARATORS).lower()


_NO_SEPARATORS = {ord(c): None for c in " \t\n\r\f\v_-"}


@cache
def added_names() -> Set[str]:
    """The names that the registered vendors add."""
    return frozenset(name for spec in vendors().values() for name in spec.secret_names)
