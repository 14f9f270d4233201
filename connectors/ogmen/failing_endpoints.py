"""Which endpoints cannot be read for which robots: what is logged when that changes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

_log = logging.getLogger(__name__)


@dataclass
class FailingEndpoints:
    """Logs one line, with the robot's path, when the first reading of an endpoint fails, and one when none fails."""

    _failing: dict[str, set[str]] = field(default_factory=dict)

    def failed(self, endpoint: str, target: str, problem: str, hint: str = "") -> None:
        """A reading of the endpoint failed. `target` says of what: a path, or an account."""
        failing = self._failing.setdefault(endpoint, set())
        if not failing:
            _log.warning("ogmen: cannot read %s at %s (%s); trying again%s", endpoint, target, problem, hint)
        failing.add(target)

    def succeeded(self, endpoint: str, target: str) -> None:
        """A reading of the endpoint succeeded."""
        failing = self._failing.get(endpoint)
        if failing:
            failing.discard(target)
            if not failing:
                _log.info("ogmen: reading %s again", endpoint)
