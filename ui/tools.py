"""What the page asks of parts of fleetlake that stand above it: they are handed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class UiTools:
    """The doctor, and the trial of rules."""

    examine: Callable[[], list[dict[str, str]]] = list
    """Examines the pipeline like `fleetlake doctor`; blocks. Each finding has verdict, subject, what and advice."""
    trial: Sequence[str] = ()
    """The command `fleetlake rules test`, without the file of rules and the range."""
