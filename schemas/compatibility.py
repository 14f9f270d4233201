"""Whether a newer contract breaks those who follow an older one. Pure.

Who reads records may rely on: each field that was there, with its type, its format and its listed values, and each
field that was always there. Who writes them may rely on: whatever was accepted still is. So a field may be added, and
nothing else; to what is written by others only an optional one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

Schema = Mapping[str, Any]

_EXACT = ("type", "const", "format", "pattern", "contentEncoding", "oneOf")
_LOWER = ("minimum", "minLength", "minItems", "exclusiveMinimum", "minProperties")
_UPPER = ("maximum", "maxLength", "maxItems", "exclusiveMaximum", "maxProperties")
_ACCEPTED = ("alarm-action", "alarm-rule", "maintenance-window")
"""The records that others write, too."""


def breaks(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """What breaks, in words: texts of the contract folder's files by name, as they were and as they are."""
    found: list[str] = []
    for name, text in sorted(old.items()):
        if name not in new:
            found.append(f"{name}: is gone")
        elif name.endswith(".schema.json"):
            record = name.removesuffix(".schema.json")
            pair = _Pair(json.loads(text), json.loads(new[name]), record in _ACCEPTED)
            found += [f"{name}: {words}" for words in pair.breaks()]
        elif name == "asyncapi.yaml":
            found += [f"{name}: {words}" for words in _topics(yaml.safe_load(text), yaml.safe_load(new[name]))]
    return found


def _topics(old: Schema, new: Schema) -> Iterator[str]:
    now = {channel["address"]: channel for channel in new["channels"].values()}
    for channel in old["channels"].values():
        address = channel["address"]
        if address not in now:
            yield f"topic {address} is gone"
            continue
        gone = channel["messages"].keys() - now[address]["messages"].keys()
        yield from (f"topic {address} has no message {name} any more" for name in sorted(gone))
    messages = new["components"]["messages"]
    for name, message in old["components"]["messages"].items():
        if name in messages:
            pair = _Pair(message.get("headers", {}), messages[name].get("headers", {}), written_by_others=False)
            yield from (f"headers of {name}: {words}" for words in pair.breaks())


class _Pair:
    """Two versions of a schema with their definitions."""

    def __init__(self, old: Schema, new: Schema, written_by_others: bool) -> None:
        self._old, self._new, self._written = old, new, written_by_others

    def breaks(self) -> Iterator[str]:
        yield from self._compare(self._old, self._new, "", ())

    def _compare(self, old: Schema, new: Schema, place: str, seen: tuple[str, ...]) -> Iterator[str]:
        if (reference := old.get("$ref", "")) and reference in seen:
            return
        seen = (*seen, reference)
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        where = place or "the record"
        yield from self._keywords(old, new, where)
        yield from self._fields(old, new, place, seen)
        for key in ("items", "additionalProperties"):
            if isinstance(old.get(key), Mapping) and isinstance(new.get(key), Mapping):
                yield from self._compare(old[key], new[key], f"{place}[]", seen)
        yield from self._alternatives(old, new, place, seen)

    def _keywords(self, old: Schema, new: Schema, where: str) -> Iterator[str]:
        for key in _EXACT:
            if old.get(key) != new.get(key) and (key in old or self._written):
                yield f"{where}: {key} was {_shown(old.get(key))} and is {_shown(new.get(key))}"
        was, now = set(map(str, old.get("enum", ()))), set(map(str, new.get("enum", ())))
        if "enum" in old and now - was:
            yield f"{where}: may be {', '.join(sorted(now - was))} now, which readers do not know"
        if self._written and ("enum" in new) and (was - now or "enum" not in old):
            yield f"{where}: {', '.join(sorted(was - now)) or 'other values'} are not accepted any more"
        for keys, sign in ((_LOWER, 1), (_UPPER, -1)):
            for key in keys:
                yield from self._bound(key, sign, old, new, where)

    def _bound(self, key: str, sign: int, old: Schema, new: Schema, where: str) -> Iterator[str]:
        was, now = old.get(key), new.get(key)
        if was is not None and (now is None or sign * now < sign * was):
            yield f"{where}: {key} was {was} and is {now}"
        elif self._written and now is not None and (was is None or sign * now > sign * was):
            yield f"{where}: {key} is {now} and was {was}"

    def _fields(self, old: Schema, new: Schema, place: str, seen: tuple[str, ...]) -> Iterator[str]:
        was, now = old.get("properties", {}), new.get("properties", {})
        required, still = set(old.get("required", ())), set(new.get("required", ()))
        for name, field in was.items():
            path = f"{place}.{name}" if place else name
            if name not in now:
                yield f"{path}: is gone"
                continue
            if name in required - still:
                yield f"{path}: may be absent now"
            if self._written and name in still - required:
                yield f"{path}: is required now"
            yield from self._compare(field, now[name], path, seen)
        if self._written:
            yield from (f"{place}.{name}: is new, and required" for name in sorted(still - required - was.keys()))

    def _alternatives(self, old: Schema, new: Schema, place: str, seen: tuple[str, ...]) -> Iterator[str]:
        was, now = old.get("anyOf"), new.get("anyOf")
        if was is None and now is None:
            return
        where = place or "the record"
        if was is None or now is None or len(was) != len(now):
            yield f"{where}: had {len(was or [1])} alternatives and has {len(now or [1])}"
            return
        for one, other in zip(was, now, strict=True):
            yield from self._compare(one, other, place, seen)


def _resolved(schema: Schema, root: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return {**found, **{key: value for key, value in schema.items() if key != "$ref"}}


def _shown(value: Any) -> str:
    return "open" if value is None else json.dumps(value)
