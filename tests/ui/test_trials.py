"""A rule is tried on history in a process that is bounded; what it says is what `fleetlake rules test` says."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.ui.running import Page, Refused, Viewer
from ui.answers import RequestRefused
from ui.trials import RuleTrials

RULE = {
    "id": "tried",
    "name": "Tried",
    "severity": "minor",
    "rule_type": "threshold",
    "config": {"metric": "environment.temperature", "operator": "gt", "value": 30},
}


async def test_the_alarms_page_tries_a_rule_on_what_was_read(viewer: Viewer) -> None:
    result = await viewer.post("/api/rules/try", {"rule": RULE, "hours": 24})
    assert result["alarm_count"] == len(result["alarms"]) >= 1 and result["readings"] > 0
    assert result["alarms"][0]["device_id"] == "wayscloud:sensor-001" and result["alarms"][0]["rule_id"] == "tried"
    none = await viewer.post(
        "/api/rules/try", {"rule": {**RULE, "config": {**RULE["config"], "value": 300}}, "hours": 1}
    )
    assert none["alarm_count"] == 0


@pytest.mark.parametrize(
    ("rule", "hours", "why"),
    [
        ({**RULE, "config": {"operator": "gt", "value": 30}}, 24, "tried"),
        ({"id": "x"}, 24, "x"),
        (RULE, 10_000, "at most 744"),
    ],
)
async def test_what_is_no_rule_is_refused_in_words(viewer: Viewer, rule: object, hours: float, why: str) -> None:
    with pytest.raises(Refused) as refused:
        await viewer.post("/api/rules/try", {"rule": rule, "hours": hours})
    assert refused.value.status == 400 and why in str(refused.value)


async def test_a_stranger_may_not(page: Page, stranger: Viewer) -> None:
    with pytest.raises(Refused) as refused:
        await stranger.post("/api/rules/try", {"rule": RULE, "hours": 1})
    assert refused.value.status == 401


async def test_a_trial_that_takes_too_long_is_ended_and_nobody_else_waits(tmp_path: Path) -> None:
    started = tmp_path / "started"
    script = f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(600)"
    trials = RuleTrials([sys.executable, "-c", script], seconds=1.5)
    first = asyncio.create_task(trials.run(RULE, 1))
    await asyncio.sleep(0)
    with pytest.raises(RequestRefused, match="Somebody else") as busy:
        await trials.run(RULE, 1)
    with pytest.raises(RequestRefused, match=r"more than 1\.5 s") as slow:
        await first
    assert (busy.value.status, slow.value.status) == (429, 503)
    with pytest.raises(RequestRefused, match="cannot be tried here"):
        await RuleTrials([]).run(RULE, 1)


async def test_the_doctor_is_heard_on_the_page(viewer: Viewer) -> None:
    answer = await viewer.get("/api/doctor")
    assert {"tables", "disk"} <= {one["subject"] for one in answer["findings"]}
    assert {one["verdict"] for one in answer["findings"]} <= {"ok", "note", "WRONG"}
    assert (await viewer.get("/api/doctor"))["seconds_ago"] > answer["seconds_ago"], (
        "it is examined once for all viewers"
    )
