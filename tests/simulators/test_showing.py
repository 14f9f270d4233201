"""The same seed shows the same fleet, in this version as in the one before."""

from __future__ import annotations

import pytest

from tests.simulators.showing import PARTS, golden_of, lines


@pytest.mark.parametrize("part", PARTS)
def test_a_seed_shows_what_it_showed(part: str) -> None:
    assert lines(PARTS[part]()) == golden_of(part).read_text(), "meant? `python -m tests.simulators.showing`"
