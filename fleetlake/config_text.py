"""A configuration as TOML: the one in force, or an example with every key explained."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, SecretStr


def toml_lines(
    model: BaseModel, path: Sequence[str] = (), order: Sequence[str] = (), *, masked: bool, describe: bool
) -> Iterator[str]:
    """A model as TOML. `describe`: every key as a comment, with its explanation. `order`: that of the model's fields.

    Secrets are `********` if they are `masked`.
    """
    inner: list[tuple[str, BaseModel]] = []
    lines: list[str] = []
    for name in order or type(model).model_fields:
        field, value = type(model).model_fields[name], getattr(model, name)
        if isinstance(value, BaseModel):
            inner.append((name, value))
            continue
        if describe and field.description:
            lines.append(f"# {field.description}")
        text = _toml_value(value, masked=masked)
        lines.append(f"# {name} =" if text is None and describe else f"{'# ' if describe else ''}{name} = {text}")
    if path and (lines or not inner):
        yield ""
        if describe:
            yield from purpose(type(model))
        yield f"[{'.'.join(path)}]"
        yield from (line for line in lines if not line.endswith("= None"))
    for name, value in inner:
        yield from toml_lines(value, [*path, name], masked=masked, describe=describe)


def purpose(section: type[BaseModel]) -> Iterator[str]:
    """The first paragraph of a section's docstring, as comments."""
    paragraph, _, _ = (inspect.getdoc(section) or "").partition("\n\n")
    yield from (f"# {line}" for line in paragraph.splitlines())


def _toml_value(value: Any, *, masked: bool) -> str | None:
    match value:
        case None:
            return None
        case SecretStr():
            plain = value.get_secret_value()
            return json.dumps("********" if masked and plain else plain)
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case dict():
            return (
                "{ " + ", ".join(f"{json.dumps(k)} = {_toml_value(v, masked=masked)}" for k, v in value.items()) + " }"
            )
        case list() | tuple() | set() | frozenset():
            return "[" + ", ".join(filter(None, (_toml_value(v, masked=masked) for v in value))) + "]"
        case BaseModel():
            dumped = {n: getattr(value, n) for n in type(value).model_fields if getattr(value, n) is not None}
            return _toml_value(dumped, masked=masked)
        case _:
            return json.dumps(str(value), ensure_ascii=False)
