"""The result of one check of `fleetlake check`: whether a thing works, and otherwise why not and what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check; `detail` never holds a secret."""

    name: str
    ok: bool
    detail: str
