"""The physical models: deterministic, continuous, and never near the demo's thresholds."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from simulators.fleet import DAY, Robot, Room, random_for, uuid_for

NOW = 1_790_000_000.0
seeds = st.integers(0, 2**32)
moments = st.floats(NOW, NOW + 400 * DAY)


@given(seeds, moments)
def test_the_same_seed_shows_the_same_robot(seed: int, now: float) -> None:
    assert Robot(seed, "a", 120).at(now) == Robot(seed, "a", 120).at(now)
    assert Room(seed, "a").at(now) == Room(seed, "a").at(now)


def test_other_seeds_and_names_show_others() -> None:
    states = {Robot(seed, name, 120).at(NOW) for seed in (1, 2) for name in ("a", "b")}
    assert len(states) == 4
    assert uuid_for(1, "a") != uuid_for(2, "a") and uuid_for(1, "a") == uuid_for(1, "a")
    assert random_for(1, "a", "b").random() != random_for(1, "a", "c").random()


@given(seeds, moments)
def test_values_stay_far_from_the_thresholds(seed: int, now: float) -> None:
    robot, room = Robot(seed, "r", 120).at(now), Room(seed, "r").at(now)
    assert 35 <= robot.battery <= 95 and 0 <= robot.progress <= 1 and -180 < robot.yaw <= 180
    assert robot.fresh_water > 0
    assert 39.9 < room.battery <= 100 and 10 < room.temperature < 32 and 0 < room.humidity < 100


@given(seeds, moments)
def test_a_robot_moves_at_the_speed_it_says(seed: int, now: float) -> None:
    robot, step = Robot(seed, "r", 120), 0.001
    before, after = robot.at(now), robot.at(now + step)
    if before.phase == after.phase == "working":
        moved = math.hypot(after.x - before.x, after.y - before.y)
        assert math.isclose(moved, before.speed * step, rel_tol=0.05, abs_tol=2e-5)
    elif before.phase == after.phase:
        assert (before.x, before.y) == (after.x, after.y) and before.speed == 0


@given(seeds, moments)
def test_nothing_jumps(seed: int, now: float) -> None:
    robot, step = Robot(seed, "r", 120), 0.01
    before, after = robot.at(now), robot.at(now + step)
    assert abs(after.battery - before.battery) < 0.5
    assert math.hypot(after.x - before.x, after.y - before.y) < 0.5
    assert 0 <= after.operating_seconds - before.operating_seconds < 2 * step


def test_a_day_has_every_phase_and_a_warm_afternoon() -> None:
    phases = {Robot(3, "r", 120).at(NOW + second).phase for second in range(200)}
    assert phases == {"working", "docking", "charging", "idle"}
    day = [Room(3, "r").at(NOW - NOW % DAY + hour * 3600).temperature for hour in range(24)]
    assert 11 <= day.index(max(day)) <= 18


def test_jobs_are_the_working_phases_each_once() -> None:
    robot = Robot(4, "r", 60)
    whole = robot.jobs(NOW, NOW + 600)
    split = [job for second in range(0, 600, 7) for job in robot.jobs(NOW + second, min(NOW + second + 7, NOW + 600))]
    assert whole == split and len(whole) > 6
    for job in whole:
        assert NOW < job.finished_at <= NOW + 600
        assert robot.at(job.finished_at - 0.5).phase == "working"
        assert robot.at(job.finished_at + 0.5).phase == "docking"
        assert robot.at(job.started_at + 0.5).progress < 0.05
