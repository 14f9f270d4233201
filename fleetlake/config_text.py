"""A configuration as TOML: the one in force, or an example with every key explained."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, SecretStr

from fleetlake.config_examples import EXAMPLES


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
        lines.append(_example_line(path, name, value) if describe else f"{name} = {toml_value(value, masked=masked)}")
    if path and (lines or not inner):
        yield ""
        if describe:
            yield from purpose(type(model))
        yield f"[{'.'.join(path)}]"
        yield from (line for line in lines if not line.endswith("= None"))
    for name, value in inner:
        yield from toml_lines(value, [*path, name], masked=masked, describe=describe)


def _example_line(path: Sequence[str], name: str, value: Any) -> str:
    """A key with its default, or with an example of what it may be."""
    example = EXAMPLES.get(".".join([*path, name]))
    if value or isinstance(value, bool | int | float) or example is None:
        text = toml_value(value, masked=False)
        return f"# {name} =" if text is None else f"# {name} = {text}"
    return f"# {name} = {toml_value(example, masked=False)}  # an example; not set by default"


def purpose(section: type[BaseModel]) -> Iterator[str]:
    """The first paragraph of a section's docstring, as comments."""
    paragraph, _, _ = (inspect.getdoc(section) or "").partition("\n\n")
    yield from (f"# {line}" for line in paragraph.splitlines())


def toml_value(value: Any, *, masked: bool) -> str | None:
    """A value as TOML; None for nothing. Secrets are `********` if they are `masked`."""
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
                "{ " + ", ".join(f"{json.dumps(k)} = {toml_value(v, masked=masked)}" for k, v in value.items()) + " }"
            )
        case list() | tuple() | set() | frozenset():
            return "[" + ", ".join(filter(None, (toml_value(v, masked=masked) for v in value))) + "]"
        case BaseModel():
            dumped = {n: getattr(value, n) for n in type(value).model_fields if getattr(value, n) is not None}
            return toml_value(dumped, masked=masked)
        case _:
            return json.dumps(str(value), ensure_ascii=False)
