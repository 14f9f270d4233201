"""What the simulators show for one seed, and the golden files of it.

`python -m tests.simulators.showing` writes the golden files anew; read the difference before you commit it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from simulators.faults import (
    DEMO_THRESHOLDS,
    MALFORMATIONS,
    OVERSIZE_BYTES,
    DeviceFaults,
    DevicePlan,
    FaultSettings,
    Target,
    plan,
    spoil,
)
from simulators.fleet import Robot, Room, random_for, uuid_for
from simulators.karcher import payloads as karcher
from simulators.ogmen import payloads as ogmen
from simulators.wayscloud import payloads as wayscloud

FOLDER = Path(__file__).parent / "golden"
SEED = 7
NOW = 1_795_262_400.123
MOMENTS = [NOW + step for step in (0, 17, 41, 73, 101, 3_600, 40_000, 86_400 * 30)]


def shown(value: Any) -> Any:
    """The value as JSON takes it; floats to nine digits, so that another C library gives the same."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {str(name): shown(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [shown(each) for each in value]
    if isinstance(value, bytes):
        return value.decode() if value.isascii() else base64.b64encode(value).decode()
    return value


def fleet() -> dict[str, Any]:
    """The physics."""
    robots = [Robot(seed, name, 120.0) for seed in (SEED, 8) for name in ("a", "b")]
    rooms = [Room(seed, name) for seed in (SEED, 8) for name in ("a", "b")]
    return {
        "robots": [[asdict(robot.at(at)) | {"docked": robot.at(at).docked} for at in MOMENTS] for robot in robots],
        "jobs": [[asdict(job) for job in robot.jobs(NOW, NOW + 300)] for robot in robots],
        "rooms": [[asdict(room.at(at)) for at in MOMENTS] for room in rooms],
        "random": [random_for(SEED, "a", 1).random(), uuid_for(SEED, "a", 1)],
    }


def faults() -> dict[str, Any]:
    """The plan of faults, and what happens to the messages of a device."""
    targets = [Target(f"d{number}", ("battery.level", "environment.temperature")[number % 2 :]) for number in range(7)]
    many = FaultSettings(crossings=3, malformed=8, duplicates=4, late=3, disconnects=2)
    plans = {
        name: {device: asdict(each) for device, each in plan(SEED, "karcher", some, settings).items()}
        for name, some, settings in (("default", targets, FaultSettings()), ("many", targets[:4], many))
    }
    notes: list[dict[str, Any]] = []
    planned = plan(SEED, "karcher", targets, FaultSettings())
    crossing = next(each for each in planned.values() if each.crossing)
    device = DeviceFaults("karcher", "d", DevicePlan(crossing.crossing, planned_faults(planned)), notes.append)
    metric = crossing.crossing.threshold.metric if crossing.crossing else ""
    story: list[Any] = [device.applied(metric, 50.0, NOW)]
    device.contact(NOW)
    device.contact(NOW + 5)
    for second in range(30):
        due = device.due(NOW + second)
        story += [device.applied(metric, 50.0 + second, NOW + second), [asdict(each) for each in due]]
        for fault in due:
            device.note_malformed(fault, b"payload", NOW + second, turn=second)
    spoilt = [spoil(each, {"a": 1}, {"a": "x"}, {}) for each in (*MALFORMATIONS, None)]
    return {
        "plans": plans,
        "story": story,
        "notes": notes,
        "spoilt": [each.rstrip(b"x") + b"x" * (len(each) == OVERSIZE_BYTES) for each in spoilt],
        "oversize": [len(each) for each in spoilt],
        "settings": FaultSettings().model_dump() | {"none": FaultSettings.none().model_dump()},
        "thresholds": [asdict(each) for each in DEMO_THRESHOLDS],
    }


def planned_faults(planned: dict[str, DevicePlan]) -> Any:
    """The faults of the device that has most."""
    return max((each.faults for each in planned.values()), key=len)


def of_karcher() -> dict[str, Any]:
    """Kärcher's machines."""
    machines = [
        *karcher.build_fleet(SEED, 9, 120.0),
        karcher.new_machine(SEED, 20),
        *karcher.build_fleet(SEED, 1, 60.0),
    ]
    moving = [machine for machine in machines if machine.family != "other"]
    jobs = [(machine, job) for machine in moving[:3] for job in machine.robot.jobs(NOW, NOW + 200)]
    return {
        "machines": [
            [each.native_id, each.map_id, each.retired, each.family, karcher.specification(each)] for each in machines
        ],
        "statuses": [
            karcher.status(each, at, battery)
            for each in (*machines[:2], machines[8])
            for at, battery in zip(MOMENTS, (8.0, 15.0, 50.0, 14.99, 95.0, 35.0, 60.0, 20.0), strict=True)
        ],
        "datapoints": [
            karcher.datapoints(each, turn, at) for each in moving[:2] for at in MOMENTS[:5] for turn in range(4)
        ],
        "wrong": [karcher.wrong_type(each, NOW) for each in moving[:2]],
        "reports": [karcher.cleaning_report(machine, job) for machine, job in jobs],
        "notifications": [karcher.notification(machine, job) for machine, job in jobs],
        "texts": [karcher.text(each) for each in ("a", True, 1.5, {"a": [1, None]})],
        "durations": [
            [karcher.iso_duration(each), karcher.clock_duration(each)] for each in (0, 59.5, 60, 3_599, 356_030.295718)
        ],
        "base58": karcher.base58_id(SEED, "execution", 1),
    }


def of_ogmen() -> dict[str, Any]:
    """Ogmen's robots."""
    robots = ogmen.build_fleet(SEED, 11, 120.0)
    some = [robots[0], robots[2], robots[9]]
    states: list[Callable[..., Any]] = [
        *(ogmen.odom, ogmen.odom_of_wrong_type, ogmen.odom_without_pose, ogmen.tf, ogmen.tf_static),
        *(ogmen.device, ogmen.storage, ogmen.network, ogmen.device_settings, ogmen.treat_bin, ogmen.cam_head),
        *(ogmen.privacy_mode, ogmen.active_map, ogmen.dog),
        *(partial(ogmen.battery_status, battery=each) for each in (8.0, 15.0, 95.0)),
        partial(ogmen.occupancy_map, cells=24),
    ]
    logs: list[Callable[..., Any]] = [
        *(ogmen.activity, ogmen.connectivity, ogmen.location, ogmen.system_usage, ogmen.insight)
    ]
    entries = ogmen.log_entries(NOW, 60.0)
    modes = [ogmen.privacy_at(NOW + step, 100.0) for step in (0, 20, 40, 60, 80)] + [ogmen.privacy_at(NOW, 0.0)]
    return {
        "robots": [[each.device_id, each.account_id, each.dog_id, each.serial, each.topic("map")] for each in robots],
        "greetings": [ogmen.greeting(each) for each in some],
        "states": [
            make(each, at) for make in states for each in some for at in MOMENTS[: 1 if "map" in str(make) else 4]
        ],
        "chatter": [ogmen.chatter(each, turn) for each in some for turn in range(4)],
        "alerts": [[ogmen.alert_time(each, n, 30.0), ogmen.alert(each, n, 30.0)] for each in some for n in range(7)],
        "entries": entries,
        "logs": [
            make(each, entry, at) for make in logs for each in some for at in (NOW, NOW + 30) for entry in entries[-6:]
        ],
        "modes": [asdict(mode) for mode in modes],
        "private": [make(some[0], NOW, mode) for make in (ogmen.device_settings, ogmen.privacy_mode) for mode in modes],
        "people": [make(each) for make in (ogmen.account, ogmen.subscription, ogmen.pet_profile) for each in some],
        "poisoned": [ogmen.with_account(each, ogmen.odom(each, NOW)) for each in some],
        "envelope": ogmen.envelope("fetched", [1]),
        "turns": [ogmen.quaternion(yaw) for yaw in (0.0, 90.0, -45.0, 180.0)],
        "header": [ogmen.header(at, "map") for at in MOMENTS],
    }


def of_wayscloud() -> dict[str, Any]:
    """WAYSCloud's sensors."""
    sensors = wayscloud.build_fleet(SEED, 13)
    some = sensors[:4]
    alarms = wayscloud.alarms(SEED, sensors, NOW)
    return {
        "sensors": [[each.device_id, each.number, each.style] for each in sensors],
        "values": [wayscloud.values(each.room.at(at)) for each in some for at in MOMENTS],
        "messages": [
            [*wayscloud.message(each, turn, wayscloud.values(each.room.at(NOW)), NOW), wayscloud.sent_by(each, turn)]
            for each in some[:3]
            for turn in range(12)
        ],
        "devices": [[wayscloud.brief(each, NOW), wayscloud.device(each, NOW, ["roof"])] for each in some],
        "health": [wayscloud.health(each, at) for each in some[:1] for at in (*MOMENTS, NOW + 5, NOW + 10)],
        "definitions": wayscloud.datapoint_definitions(SEED),
        "telemetry": [wayscloud.telemetry(each, at) for each in some[:2] for at in MOMENTS[:3]],
        "account": [wayscloud.group(SEED), wayscloud.profile(SEED), wayscloud.rules(SEED)],
        "alarms": [[alarm, wayscloud.alarm_brief(alarm), wayscloud.timeline(alarm)] for alarm in alarms],
        "deliveries": wayscloud.deliveries(SEED, alarms),
    }


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "fleet": fleet,
    "faults": faults,
    "karcher": of_karcher,
    "ogmen": of_ogmen,
    "wayscloud": of_wayscloud,
}


def golden_of(part: str) -> Path:
    """The golden file of a part."""
    return FOLDER / f"{part}.jsonl"


def lines(content: dict[str, Any]) -> str:
    """One line per element of each list: a change of one is a difference of one line."""
    parts = []
    for name, value in content.items():
        listed = value if isinstance(value, list) else [value]
        parts += [f"{name}: {json.dumps(shown(each), ensure_ascii=False)}" for each in listed]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for part, show in PARTS.items():
        golden_of(part).write_text(lines(show()))
