"""What both ways of running a mutant share: Hypothesis draws the same examples each time, within no deadline."""

from __future__ import annotations

import hypothesis
from hypothesis import HealthCheck, Phase


def settle_hypothesis() -> None:
    """Make property tests repeatable. How small a failing example could be made does not matter."""
    hypothesis.settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    hypothesis.settings.load_profile("mutants")
