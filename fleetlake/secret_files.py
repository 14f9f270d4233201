"""Secrets of the configuration that are read from files: `client_secret_file = "/run/secrets/karcher"`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fleetlake.errors import UserError, reason


def with_secret_files(data: dict[str, Any], *models: type[BaseModel], table: tuple[str, ...] = ()) -> dict[str, Any]:
    """Replace `<secret>_file = path` by the secret that the file holds, at every level.

    `models` are the possible models of the data: several where a field decides. `table` is the TOML table of the data.
    """
    out: dict[str, Any] = {}
    for key, value in data.items():
        secret = key.removesuffix("_file")
        fields = _fields_of(models, key)
        if not fields and any(_is_secret(field) for field in _fields_of(models, secret)):
            out[secret] = _read_secret(f"[{'.'.join(table)}] {key}", Path(str(value)))
        else:
            out[key] = _in_value(value, [field.annotation for field in fields], (*table, key))
    return out


def _in_value(value: Any, annotations: Iterable[Any], table: tuple[str, ...]) -> Any:
    types = [one for annotation in annotations for one in _alternatives(annotation)]
    if isinstance(value, list):
        inner = [get_args(a)[0] for a in types if get_origin(a) is list]
        return [_in_value(each, inner, table) for each in value]
    if not isinstance(value, dict):
        return value
    models = [one for one in types if isinstance(one, type) and issubclass(one, BaseModel)]
    if models:
        return with_secret_files(value, *models, table=table)
    inner = [get_args(a)[1] for a in types if get_origin(a) is dict]
    return {key: _in_value(each, inner, (*table, key)) for key, each in value.items()}


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union, without their annotations."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [one for each in get_args(annotation) for one in _alternatives(each)]
    return [annotation]


def _fields_of(models: Iterable[type[BaseModel]], key: str) -> list[FieldInfo]:
    return [model.model_fields[key] for model in models if key in model.model_fields]


def _read_secret(key: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise UserError(f"{key}: cannot read the secret's file {path}: {reason(error)}") from error


def _is_secret(field: FieldInfo) -> bool:
    return "SecretStr" in str(field.annotation)
