"""The physics of the simulated devices: robots that work and charge, rooms that warm and cool.

Everything here is a pure function of ``(seed, device, time)``: no state is advanced, so a value depends neither on how
often a device is queried nor on what else runs, and the same seed gives the same fleet. Time, in epoch seconds, is an
argument.

All values keep well clear of the thresholds of the demo's rules (battery below 15 %, temperature above 40 °C), so that
only a planted fault crosses them.
"""

import math
from dataclasses import dataclass
from random import Random
from typing import Literal
from uuid import UUID

RobotPhase = Literal["working", "docking", "charging", "idle"]

BATTERY_FULL, BATTERY_EMPTY = 95.0, 35.0
DAY = 86_400.0
_WORK_SHARE, _DOCKING_SHARE, _CHARGE_SHARE = 0.60, 0.05, 0.25  # of a cycle; the rest is idle


def random_for(seed: int, *names: object) -> Random:
    """A generator that depends on the seed and the names alone (strings are hashed the same in every process)."""
    return Random("/".join([str(seed), *map(str, names)]))


def uuid_for(seed: int, *names: object) -> str:
    """A version 4 UUID that depends on the seed and the names alone."""
    return str(UUID(int=random_for(seed, "uuid", *names).getrandbits(128), version=4))


@dataclass(frozen=True, slots=True)
class RobotState:
    """A robot at one moment. Metres, degrees in (−180, 180], m/s, °/s, %, litres, seconds."""

    phase: RobotPhase
    x: float
    y: float
    yaw: float
    speed: float
    turn_rate: float
    battery: float
    progress: float
    fresh_water: float
    cycle: int
    operating_seconds: float

    @property
    def charging(self) -> bool:
        """Whether current flows."""
        return self.phase == "charging"

    @property
    def docked(self) -> bool:
        """Whether it is in its dock."""
        return self.phase in ("charging", "idle")


@dataclass(frozen=True, slots=True)
class Job:
    """One finished working phase of a robot. Epoch seconds, metres, m²."""

    number: int
    started_at: float
    finished_at: float
    distance: float
    area: float


class Robot:
    """A robot that repeats a cycle: work along a closed curve that starts at its dock, dock, charge, wait."""

    def __init__(self, seed: int, device: str, cycle_seconds: float) -> None:
        rng = random_for(seed, "robot", device)
        self._cycle = cycle_seconds * rng.uniform(0.8, 1.2)
        self._offset = rng.uniform(0, self._cycle)
        self._width, self._height = rng.uniform(3, 12), rng.uniform(2, 8)
        self._loops = rng.choice([(1, 2), (2, 3), (1, 3)])
        self._tank = rng.uniform(12, 60)
        self._hours_before = rng.uniform(50, 900) * 3600

    def at(self, now: float) -> RobotState:
        """The robot at a moment."""
        cycle, share = self._position_in_cycle(now)
        phase, done = _phase(share)
        progress = done if phase == "working" else 1.0
        x, y, dx, dy, bend = self._curve(progress)
        moving = phase == "working"
        pace = 1 / (self._cycle * _WORK_SHARE)
        return RobotState(
            phase=phase,
            x=x,
            y=y,
            yaw=math.degrees(math.atan2(dy, dx)),
            speed=math.hypot(dx, dy) * pace if moving else 0.0,
            turn_rate=math.degrees(bend) * pace if moving else 0.0,
            battery=_battery(phase, done),
            progress=progress if moving else 0.0,
            fresh_water=self._tank * (1 - 0.8 * progress) if moving else self._tank,
            cycle=cycle,
            operating_seconds=self._hours_before + self._worked(cycle, share),
        )

    def jobs(self, since: float, until: float) -> list[Job]:
        """Jobs finished in ``(since, until]``, oldest first."""
        first, last = (self._jobs_finished(moment) for moment in (since, until))
        return [self._job(number) for number in range(first, last)]

    def _position_in_cycle(self, now: float) -> tuple[int, float]:
        cycles, rest = divmod(now + self._offset, self._cycle)
        return int(cycles), rest / self._cycle

    def _jobs_finished(self, now: float) -> int:
        cycle, share = self._position_in_cycle(now)
        return cycle + (share >= _WORK_SHARE)

    def _job(self, number: int) -> Job:
        started = number * self._cycle - self._offset
        distance = 2 * math.pi * math.hypot(self._width * self._loops[0], self._height * self._loops[1]) / math.sqrt(2)
        return Job(number, started, started + self._cycle * _WORK_SHARE, distance, distance * 0.5)

    def _worked(self, cycle: int, share: float) -> float:
        # Counted from a fixed day so that the counter only grows, whatever the length of the cycle.
        cycles_before = int(1_767_225_600 // self._cycle)
        return (cycle - cycles_before + min(share / _WORK_SHARE, 1.0)) * self._cycle * _WORK_SHARE

    def _curve(self, progress: float) -> tuple[float, float, float, float, float]:
        """Position, its derivative and the turn of the heading per unit of progress; the curve closes at the dock."""
        a, b = (2 * math.pi * loops for loops in self._loops)
        x, y = self._width * math.sin(a * progress), self._height * math.sin(b * progress)
        dx, dy = self._width * a * math.cos(a * progress), self._height * b * math.cos(b * progress)
        ddx, ddy = -a * a * x, -b * b * y
        return x, y, dx, dy, (dx * ddy - dy * ddx) / (dx * dx + dy * dy + 1e-9)


def _phase(share: float) -> tuple[RobotPhase, float]:
    """The phase at a share of the cycle, and how much of that phase is done."""
    start = 0.0
    phases: tuple[tuple[RobotPhase, float], ...] = (
        ("working", _WORK_SHARE),
        ("docking", _DOCKING_SHARE),
        ("charging", _CHARGE_SHARE),
    )
    for phase, length in phases:
        if share < start + length:
            return phase, (share - start) / length
        start += length
    return "idle", (share - start) / (1 - start)


def _battery(phase: RobotPhase, done: float) -> float:
    span = BATTERY_FULL - BATTERY_EMPTY
    match phase:
        case "working":
            return BATTERY_FULL - span * done
        case "docking":
            return BATTERY_EMPTY
        case "charging":
            return BATTERY_EMPTY + span * done
        case "idle":
            return BATTERY_FULL


@dataclass(frozen=True, slots=True)
class RoomState:
    """A room and the sensor in it. °C, %, hPa, index, %, dBm."""

    temperature: float
    humidity: float
    pressure: float
    air_quality: float
    battery: float
    signal: float
    occupied: bool
    powered: bool


class Room:
    """A room that is warmest in the afternoon, with a sensor whose battery lasts some hours."""

    def __init__(self, seed: int, device: str) -> None:
        rng = random_for(seed, "room", device)
        self._mean, self._swing = rng.uniform(19, 24), rng.uniform(1, 4)
        self._pressure = rng.uniform(995, 1025)
        self._ripples = [(rng.uniform(20, 400), rng.uniform(0, 2 * math.pi)) for _ in range(3)]
        self._battery_life, self._age = rng.uniform(6, 24) * 3600, rng.uniform(0, 24) * 3600
        self._signal = rng.uniform(-80, -50)

    def at(self, now: float) -> RoomState:
        """The room at a moment."""
        afternoon = math.sin(2 * math.pi * (now / DAY - 0.35))
        ripple = sum(math.sin(2 * math.pi * now / period + shift) for period, shift in self._ripples)
        drained = (now + self._age) % self._battery_life / self._battery_life
        return RoomState(
            temperature=self._mean + self._swing * afternoon + 0.3 * ripple,
            humidity=50 - 8 * afternoon + 1.5 * ripple,
            pressure=self._pressure + 0.5 * ripple,
            air_quality=60 + 15 * ripple,
            battery=100 - 60 * drained,
            signal=self._signal + 2 * ripple,
            occupied=ripple > 0.5,
            powered=ripple > -2.5,
        )
