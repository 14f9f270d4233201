"""Kärcher's machines and their messages, as in its API document (pure)."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal, NamedTuple

from simulators.fleet import Job, Robot, RobotState, random_for, uuid_for
from simulators.wire import rfc3339

Family = Literal["kira", "cv50", "other"]

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Model(NamedTuple):
    """A model of machines."""

    family: Family
    material: str
    name: str


KIRA_MODELS = (
    Model("kira", "1.533-002.0", "KIRA B50 HW 2.0"),
    Model("kira", "1.533-003.0", "KIRA BR50 HW 3.0"),
    Model("kira", "1.533-013.0", "KIRA BR200"),
)
CV50_MODELS = (Model("cv50", "1.454-500.0", "CV50"), Model("cv50", "1.454-505.0", "CV50 USA"))
NON_ROBOTIC = Model("other", "1.259-010.2", "B 40 W DOSE")
SITE = (51.8003658, 7.7436499)
METRES_PER_DEGREE = 111_320.0


def base58_id(seed: int, *names: object) -> str:
    """An identifier of 22 Base58 characters, as machines and executions have."""
    return "".join(random_for(seed, "base58", *names).choices(BASE58, k=22))


@dataclass(frozen=True)
class Machine:
    """One machine of the fleet. A ``retired`` one has a specification, but no status."""

    seed: int
    family: Family
    material: str
    serial: str
    model: str
    machine_id: str
    registered_at: float
    robot: Robot
    retired: bool = False

    @property
    def native_id(self) -> str:
        """``1.454-500.0/002005``."""
        return f"{self.material}/{self.serial}"

    @property
    def map_id(self) -> str:
        """The UUID of the map in use."""
        return uuid_for(self.seed, "map", self.native_id)


def build_fleet(seed: int, devices: int, cycle_seconds: float) -> list[Machine]:
    """KIRA and CV50 machines in turns, then one non-robotic machine (of several), then a retired KIRA."""
    robots = devices - 1 if devices > 1 else 1
    machines = [_machine(seed, number, _model(number), cycle_seconds) for number in range(robots)]
    if devices > 1:
        machines.append(_machine(seed, robots, NON_ROBOTIC, cycle_seconds))
    retired = _machine(seed, devices, KIRA_MODELS[0], cycle_seconds)
    return [*machines, replace(retired, retired=True)]


def new_machine(seed: int, number: int, cycle_seconds: float = 120.0) -> Machine:
    """One more KIRA, for a fleet that grows."""
    return _machine(seed, number, KIRA_MODELS[1], cycle_seconds)


def _model(number: int) -> Model:
    models = KIRA_MODELS if number % 2 == 0 else CV50_MODELS
    return models[number // 2 % len(models)]


def _machine(seed: int, number: int, model: Model, cycle_seconds: float) -> Machine:
    serial = f"{number + 1:06d}"
    device = f"{model.material}/{serial}"
    registered = datetime(2022, 1, 26, 18, 30, 44, 971_000, tzinfo=UTC) + timedelta(days=30 * number)
    machine_id = base58_id(seed, "machine", device)
    robot = Robot(seed, f"karcher/{device}", cycle_seconds)
    return Machine(seed, model.family, model.material, serial, model.name, machine_id, registered.timestamp(), robot)


def specification(machine: Machine) -> dict[str, Any]:
    """Kärcher's API document, «Retrieves the machine specifications»."""
    return {
        "machineId": machine.machine_id,
        "generic": {
            "deviceType": "cleaning_machine",
            "registrationDate": rfc3339(machine.registered_at),
            "manufacturer": "Kaercher",
            "model": machine.model,
            "serial": f"{machine.material};{machine.serial}",
            "serialNumber": machine.serial,
            "materialNumber": machine.material,
            "resourceOwnerAssetId": f"{machine.model} at hall {int(machine.serial)}",
        },
        "deviceTypeSpecific": {
            "deviceImage": {
                "fullSizeImage": {
                    "title": machine.model,
                    "description": "Front view",
                    "fileName": "front.png",
                    "contentType": "png",
                    "width": 5245,
                    "height": 3497,
                    "size": 567,
                }
            }
        },
    }


def status(machine: Machine, now: float, battery: float) -> dict[str, Any]:
    """Kärcher's API document, «Retrieves the current statuses»: values are strings, each with its own time."""
    state = machine.robot.at(now)
    changing, lasting = {
        "kira": _kira_states,
        "cv50": _cv50_states,
        "other": _other_states,
    }[machine.family](machine, state, now, battery)
    contact = now - now % 1  # machines report once per second
    return {
        "machineId": machine.machine_id,
        "lastConnected": rfc3339(machine.registered_at if machine.family == "other" else now - now % 3600),
        "lastContact": rfc3339(contact),
        "states": [
            *({"name": name, "value": text(value), "timestamp": rfc3339(contact)} for name, value in changing.items()),
            *(
                {"name": name, "value": text(value), "timestamp": rfc3339(now - now % 3600)}
                for name, value in lasting.items()
            ),
        ],
    }


def text(value: object) -> str:
    """A state's value as the API gives it: text as it is, everything else as JSON inside a string."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def iso_duration(seconds: float) -> str:
    """``PT4H12M45S``."""
    minutes, whole_seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"PT{hours}H{minutes}M{whole_seconds}S"


def clock_duration(seconds: float) -> str:
    """``98:53:50.295718``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02d}:{minutes:02d}:{rest:09.6f}"


States = tuple[dict[str, object], dict[str, object]]


def _kira_states(machine: Machine, state: RobotState, now: float, battery: float) -> States:
    changing: dict[str, object] = {
        "machineOperatingDuration": iso_duration(state.operating_seconds),
        "machineOperatingHours": int(state.operating_seconds),
        "batteryChargeLevel": round(battery / 100, 4),
        "batteryDischargeStatus": "OK" if battery >= 15 else "LOW",
        "charging": state.charging,
        "docked": state.docked,
        "freshWaterLevel": round(state.fresh_water),
        "robotStatus": robot_status(state),
        "phoneSignal": "-1",
        "wifiSignal": "0.412",
        "machinePosistion": _gps(state),
        "repeatProgress": repeat_progress(machine, state),
        "serviceCounter": _kira_counters(state),
    }
    lasting: dict[str, object] = {
        "softwareVersion": "2.2.1",
        "vda5050Enabled": False,
        "inorbitEnabled": False,
        "scheduledTasks": _scheduled_tasks(machine),
        "routes": [_route(3, "RouteA")],
        "routines": [_routine(74, "trip", [3, 3])],
        "schedules": [_schedule(26, "six", 74)],
        "routesOverflow": [_route(331, "RouteB")],
        "routinesOverflow": [_routine(331, "long", [331, 331])],
        "schedulesOverflow": [_schedule(331, "seven", 331)],
    }
    return changing, lasting


def _cv50_states(machine: Machine, state: RobotState, now: float, battery: float) -> States:
    local = datetime.fromtimestamp(now, timezone(timedelta(hours=3)))
    changing: dict[str, object] = {
        "batteryChargeLevel": round(battery / 100, 4),
        "location": location(machine, state),
        "mcuMainInfo": mcu_main_info(state),
        "serviceCounter": _cv50_counters(state),
        "time": local.strftime("%Y-%m-%dT%H:%M:%S.") + f"{local.microsecond // 1000:03d}+03",
    }
    lasting: dict[str, object] = {
        "cleaningSchedules": [{"scheduleId": uuid_for(machine.seed, "schedule", machine.native_id), "time": "08:00"}],
        "mapId": {"uniqueMapId": machine.map_id},
        "maps": [machine.map_id],
        "savedWifiNetworks": [{"ssid": "HRD", "mac": "24:cf:24:3f:95:ec"}],
        "settings": _cv50_settings(machine),
        "softwareVersion": "1.3.23-1.1.42-1.3.22",
        "wifiStatus": {
            "macAddress": "00:D6:CB:8D:F2:2C",
            "ipv6Address": "fe80::ac02:62ff:fea0:9aaf%dummy0",
            "signalStrength": -57,
            "ipv4Address": "192.168.31.129",
            "networkName": "HRD",
            "subnetMask": 0,
            "defaultGateway": "192.168.31.1",
        },
    }
    return changing, lasting


def _other_states(machine: Machine, state: RobotState, now: float, battery: float) -> States:
    return {"machineOperatingDuration": iso_duration(state.operating_seconds)}, {}


def _gps(state: RobotState) -> dict[str, float]:
    return {
        "accuracy": 12.808,
        "latitude": round(SITE[0] + state.y / METRES_PER_DEGREE, 7),
        "longitude": round(SITE[1] + state.x / METRES_PER_DEGREE, 7),
    }


def _kira_counters(state: RobotState) -> dict[str, Any]:
    worked = state.operating_seconds
    return {
        "cleaning_time": clock_duration(worked * 0.7),
        "operation_time": clock_duration(worked),
        "meter_count": int(worked * 0.4),
        "service_date": "2025-06-10T15:25:06.794977",
        "suction_time": clock_duration(worked * 0.6),
        "brush_time": clock_duration(worked * 0.6),
        "sidebroom_time": "00:00:00",
        "dock_count": state.cycle % 10_000,
    }


def _cv50_counters(state: RobotState) -> dict[str, int]:
    worked = int(state.operating_seconds)
    return {
        "brush": worked,
        "filter": worked // 5,
        "sensors": worked // 20,
        "dirtContainer": worked // 80,
        "rubberLip": worked // 5,
        "version": 1,
        "sideBroom": worked // 3,
    }


def _cv50_settings(machine: Machine) -> dict[str, dict[str, Any]]:
    return {
        "beep": {"status": 0},
        "hmiLanguage": {"language": "fi"},
        "soundOperating": {"status": 1},
        "soundVolume": {"soundVolume": 100},
        "robotName": {"robotName": f"Talvikangas {int(machine.serial)}"},
        "batteryTheftProtection": {"status": 0},
        "lock": {"status": 0},
        "blink": {"status": 0},
        "lockcode": {"code": random_for(machine.seed, "pin", machine.native_id).randrange(1000, 10_000)},
        "theftProtection": {"status": 0},
        "lights": {"status": 1},
        "soundWarning": {"status": 1},
    }


def _scheduled_tasks(machine: Machine) -> list[dict[str, Any]]:
    route = {"routeId": f"{machine.machine_id}-route3", "routeName": "RouteA"}
    return [
        {
            "scheduleId": f"{machine.machine_id}-sched26",
            "machine": machine.machine_id,
            "targetType": "ROUTINE",
            "targetDetails": {
                "routineId": f"{machine.machine_id}-routine74",
                "routeSequence": [route | {"startLandmark": "100", "endLandmark": "200"}],
            },
            "startDateTime": "2025-03-01T08:00:00Z",
            "recurrence": {"rrule": "FREQ=DAILY;INTERVAL=2;COUNT=10"},
        }
    ]


_STAMPS = {"createdAt": "2025-08-15T09:33:34.209849Z", "modifiedAt": "2025-08-30T13:37:05.099357Z"}
_DURATIONS = {"duration": "00:15:00", "postChargingDuration": "00:15:00"}


def _route(number: int, name: str) -> dict[str, Any]:
    files = {"thumbnailZipS3": f"11989085954014531794.{number}_mission.zip", "mapZipS3": f"14862309742.{number}.zip"}
    return {"id": number, "name": name, "startLandmark": "id_4", "endLandmark": "id_4"} | _STAMPS | files | _DURATIONS


def _routine(number: int, name: str, routes: list[int]) -> dict[str, Any]:
    return {"id": number, "name": name, "routeIds": routes, "anonymous": False} | _STAMPS | _DURATIONS


def _schedule(number: int, name: str, routine: int) -> dict[str, Any]:
    rrule = "DTSTART;TZID=Europe/Berlin:20250925T114300\nRRULE:FREQ=DAILY;UNTIL=20300101T235900;INTERVAL=1"
    schedule = {"id": number, "name": name, "idRoutine": routine, "rrule": rrule, "color": "#b1b0a1"}
    return schedule | _STAMPS | {"idParentSchedule": None}


def robot_status(state: RobotState) -> str:
    """One of Idle, Autonomous, Charging, Docking."""
    return {"working": "Autonomous", "docking": "Docking", "charging": "Charging", "idle": "Idle"}[state.phase]


def repeat_progress(machine: Machine, state: RobotState) -> dict[str, Any]:
    """A KIRA's progress through its mission, 0 to 1."""
    return {
        "progress": round(state.progress, 6),
        "routeName": "RouteA",
        "repeatPathId": "3",
        "repeatExecutionId": f"{machine.material}:{machine.serial}-"
        + uuid_for(machine.seed, "execution", machine.native_id, state.cycle),
    }


def pose(state: RobotState) -> dict[str, float]:
    """Metres and degrees (assumed: the document names the datapoint and no more)."""
    return {"x": round(state.x, 3), "y": round(state.y, 3), "yaw": round(state.yaw, 2)}


def location(machine: Machine, state: RobotState) -> dict[str, Any]:
    """Map coordinates, taken for millimetres (assumed)."""
    return {
        "coordinateX": 20_000 + round(state.x * 1000),
        "coordinateY": 20_000 + round(state.y * 1000),
        "mapId": machine.map_id,
    }


def mcu_main_info(state: RobotState) -> dict[str, Any]:
    """A CV50's main information; times in seconds (assumed)."""
    working = state.phase == "working"
    return {
        "machineState": 0 if working else 3,
        "machineStateEnum": "CLEANING_MODE" if working else "CHARGING_MODE" if state.charging else "STANDBY_MODE",
        "mapCount": 5,
        "totalOperation": int(state.operating_seconds),
        "totalCleaningTime": int(state.operating_seconds * 0.7),
        "usedStorage": 56,
    }


def cleaning_report(machine: Machine, job: Job) -> dict[str, Any]:
    """Kärcher's API document, «Retrieves cleaning reports». The socket sends the same object (assumed)."""
    rng = random_for(machine.seed, "report", machine.native_id, job.number)
    return {
        "reportId": f"{machine.material}-{machine.serial}-rep{job.number}",
        "machineId": machine.machine_id,
        "materialNumber": machine.material,
        "serialNumber": machine.serial,
        "actualOperatingTimeInSeconds": round(job.finished_at - job.started_at),
        "battery": rng.uniform(0.55, 0.62),
        "cleanedSquareMeter": round(job.area),
        "detergents": rng.uniform(0.01, 0.03),
        "water": rng.uniform(0.01, 0.03),
        "distance": job.distance,
        "startedAt": rfc3339(job.started_at),
        "finishedAt": rfc3339(job.finished_at),
        "classification": "ROBOT",
        "executionMode": "ROUTINE",
        "executedRoutineId": f"{machine.machine_id}-routine74",
        "mapIds": [f"{machine.machine_id}-map{job.number}"],
        "suctionMode": "Eco",
    }


def notification(machine: Machine, job: Job) -> dict[str, Any]:
    """Kärcher's API document, «Retrieves customer notifications»: a reminder after some jobs, recorded at their end."""
    about = {"reminder": "Reminder is due", "topic": "Hygienic cleaning", "description": "Clean the dirty water tank"}
    return {
        "machineId": machine.machine_id,
        "category": "MAINTENANCE",
        "code": "999998",
        "data": json.dumps(about, separators=(",", ":")),
        "receivedAt": rfc3339(job.finished_at + 0.4),
        "recordedAt": rfc3339(job.finished_at),
        "severity": "Major",
        "status": "OPEN",
        "type": "Reminder",
    }


def datapoints(machine: Machine, turn: int, now: float) -> dict[str, Any]:
    """The socket's next message: the datapoints take turns, positions most often."""
    state = machine.robot.at(now)
    if machine.family == "kira":
        name = ("pose", "robotStatus", "pose", "repeatProgress")[turn % 4]
    else:
        name = ("location", "location", "mcuMainInfo")[turn % 3]
    shapes: dict[str, Callable[[], object]] = {
        "pose": lambda: pose(state),
        "robotStatus": lambda: robot_status(state),
        "repeatProgress": lambda: repeat_progress(machine, state),
        "location": lambda: location(machine, state),
        "mcuMainInfo": lambda: mcu_main_info(state),
    }
    return message({name: shapes[name]()}, now)


def message(data: dict[str, Any], now: float) -> dict[str, Any]:
    """Kärcher's API document, «Datapoints response»."""
    return {"type": "datapoints", "data": data, "timestamp": int(now * 1000)}


def wrong_type(machine: Machine, now: float) -> dict[str, Any]:
    """A datapoint with text instead of a number."""
    state = machine.robot.at(now)
    if machine.family == "kira":
        return message({"repeatProgress": repeat_progress(machine, state) | {"progress": "half"}}, now)
    return message({"location": location(machine, state) | {"coordinateX": "far"}}, now)
