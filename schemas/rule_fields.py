"""The names that a rule may use, and the nearest one to a name that it may not (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from pydantic import BaseModel

from schemas.metrics import catalogue
from schemas.records import ActiveHours, AlarmRule, Flapping, RemoteInhibitor
from schemas.vendors import vendors

_NESTED: dict[str, type[BaseModel]] = {
    "active_hours": ActiveHours,
    "flapping": Flapping,
    "inhibited_by": RemoteInhibitor,
}


def names_of(model: type[BaseModel]) -> list[str]:
    """The fields of a model as they are written."""
    return [field.alias or name for name, field in model.model_fields.items()]


def nested_names(field: str) -> list[str]:
    """The names of the members of a rule's field, other than `config`."""
    return names_of(_NESTED[field]) if field in _NESTED else names_of(AlarmRule)


def unknown_rule_field(fields: Iterable[object]) -> tuple[str, str] | None:
    """The first name that is no field of a rule, with the reason for refusing it."""
    known = names_of(AlarmRule)
    for name in map(str, fields):
        if name not in known:
            return name, unknown_name(name, known)
    return None


def unknown_name(name: str, known: Iterable[str]) -> str:
    """The reason for refusing a name: it is unknown, and which one may be meant."""
    return f"is unknown{_nearest(name, known)}"


def unknown_metric(name: str, also_known: Iterable[str] = ()) -> str | None:
    """What to say of a metric that neither the catalogue nor the user defines; None of one that may have readings.

    A name below a vendor's own, such as `karcher.someNewState`, may be one that the vendor adds.
    """
    known = {*catalogue(), *also_known}
    if name in known or name.partition(".")[0] in vendors():
        return None
    return f"no vendor sends {name!r}{_nearest(name, known)}"


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
