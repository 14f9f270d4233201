"""ORo robots and their messages, as in Ogmen's API document (pure). ROS messages are JSON, field by field (assumed)."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from simulators.fleet import Robot, RobotState, random_for, uuid_for
from simulators.wire import rfc3339

LOG_SECONDS = 10.0
"""Assumed: a robot writes an entry of each log this often."""

_ROOMS = ("Living Room", "Kitchen", "Hall", "Bedroom")
_ALERTS = (
    (1, "battery", "Battery critically hot", "The battery is above its safe temperature.", "Switch the robot off"),
    (2, "navigation", "Robot is stuck", "ORo cannot free itself.", "Lift the robot onto free floor"),
    (3, "treats", "Treat bin is low", "Fewer than five treats are left.", "Refill the treat bin"),
    (4, "dog", "Barking detected", "Your dog has been barking for two minutes.", "Look at the live view"),
    (5, "system", "Update installed", "ORo runs the new version.", "None"),
)


@dataclass(frozen=True)
class OroRobot:
    """One robot with its household. ``slashes``: it names topics ``/odom`` rather than ``odom``."""

    seed: int
    device_id: str
    account_id: str
    dog_id: str
    serial: str
    slashes: bool
    robot: Robot

    def topic(self, name: str) -> str:
        """The topic's name, the way this robot writes it."""
        return f"/{name}" if self.slashes else name


def build_fleet(seed: int, devices: int, cycle_seconds: float) -> list[OroRobot]:
    """Robots with UUIDs as ids, save every tenth, whose id is a plain word (the document has ``device123``)."""
    fleet = []
    for number in range(devices):
        device = f"oro-{number + 1:04d}" if number % 10 == 9 else uuid_for(seed, "oro", number)
        fleet.append(
            OroRobot(
                seed=seed,
                device_id=device,
                account_id=uuid_for(seed, "account", number // 2),
                dog_id=uuid_for(seed, "dog", number),
                serial=f"SN{number + 1:09d}",
                slashes=number % 3 == 2,
                robot=Robot(seed, f"ogmen/{device}", cycle_seconds),
            )
        )
    return fleet


# --- socket ------------------------------------------------------------------------------------------------------


def greeting(oro: OroRobot) -> dict[str, str]:
    """The first message on a socket; it has no topic."""
    return {"message": f"Websocket Connected Successfully to {oro.device_id}."}


def header(now: float, frame: str) -> dict[str, Any]:
    """std_msgs/Header."""
    nanoseconds = round(now * 1e6) * 1000
    return {"stamp": {"sec": nanoseconds // 10**9, "nanosec": nanoseconds % 10**9}, "frame_id": frame}


def quaternion(yaw: float) -> dict[str, float]:
    """A turn by ``yaw`` degrees about the vertical."""
    half = math.radians(yaw) / 2
    return {"x": 0.0, "y": 0.0, "z": math.sin(half), "w": math.cos(half)}


def odom(oro: OroRobot, now: float) -> dict[str, Any]:
    """nav_msgs/Odometry."""
    state = oro.robot.at(now)
    return {
        "topic": oro.topic("odom"),
        "header": header(now, "odom"),
        "child_frame_id": "base_link",
        "pose": {
            "pose": {"position": _position(state), "orientation": quaternion(state.yaw)},
            "covariance": [0.0] * 36,
        },
        "twist": {
            "twist": {
                "linear": {"x": round(state.speed, 4), "y": 0.0, "z": 0.0},
                "angular": {"x": 0.0, "y": 0.0, "z": round(math.radians(state.turn_rate), 4)},
            },
            "covariance": [0.0] * 36,
        },
    }


def odom_of_wrong_type(oro: OroRobot, now: float) -> dict[str, Any]:
    """Odometry whose position is a word."""
    message = odom(oro, now)
    message["pose"]["pose"]["position"]["x"] = "left"
    return message


def odom_without_pose(oro: OroRobot, now: float) -> dict[str, Any]:
    """Odometry that lacks what it is about."""
    message = odom(oro, now)
    del message["pose"]
    return message


class Link(NamedTuple):
    """The place of a frame in its parent frame: metres, degrees."""

    parent: str
    child: str
    x: float
    y: float
    yaw: float = 0.0


def tf(oro: OroRobot, now: float) -> dict[str, Any]:
    """tf2_msgs/TFMessage."""
    state = oro.robot.at(now)
    return {
        "topic": oro.topic("tf"),
        "transforms": [_transform(now, Link("odom", "base_link", state.x, state.y, state.yaw))],
    }


def tf_static(oro: OroRobot, now: float) -> dict[str, Any]:
    """tf2_msgs/TFMessage of the links that never move."""
    links = (Link("base_link", "camera_link", 0.12, 0.0), Link("base_link", "laser_link", 0.05, 0.02))
    return {
        "topic": oro.topic("tf_static"),
        "transforms": [_transform(now, link) for link in links],
    }


def occupancy_map(oro: OroRobot, now: float, cells: int) -> dict[str, Any]:
    """nav_msgs/OccupancyGrid: walls around a free floor with a few obstacles, unknown outside."""
    rng = random_for(oro.seed, "map", oro.device_id)
    wall = max(1, cells // 20)
    data = [0 if wall < i % cells < cells - wall and wall < i // cells < cells - wall else -1 for i in range(cells**2)]
    for _ in range(cells):
        data[rng.randrange(cells**2)] = 100
    origin = {"position": {"x": -3.65, "y": -3.59, "z": 0.0}, "orientation": quaternion(0.0)}
    info = {"map_load_time": header(now, "")["stamp"], "resolution": 0.05, "width": cells, "height": cells}
    return {"topic": oro.topic("map"), "header": header(now, "map"), "info": info | {"origin": origin}, "data": data}


def chatter(oro: OroRobot, turn: int) -> dict[str, Any]:
    """A message of another client of the device: sometimes a command, sometimes one without a topic."""
    if turn % 2:
        return {"message": "app in foreground", "client": "MAPP"}
    rng = random_for(oro.seed, "goal", oro.device_id, turn)
    pose = {
        "position": {"x": rng.uniform(-3, 3), "y": rng.uniform(-2, 2), "z": 0.0},
        "orientation": quaternion(rng.uniform(-180, 180)),
    }
    return {"topic": oro.topic("goal_pose"), "header": {"frame_id": "map"}, "pose": pose}


def _position(state: RobotState) -> dict[str, float]:
    return {"x": round(state.x, 4), "y": round(state.y, 4), "z": 0.0}


def _transform(now: float, link: Link) -> dict[str, Any]:
    return {
        "header": header(now, link.parent),
        "child_frame_id": link.child,
        "transform": {
            "translation": {"x": round(link.x, 4), "y": round(link.y, 4), "z": 0.0},
            "rotation": quaternion(link.yaw),
        },
    }


# --- alerts ------------------------------------------------------------------------------------------------------


def alert_time(oro: OroRobot, number: int, every: float) -> float:
    """When alert ``number`` happens: once in each slot of ``every`` seconds."""
    return (number + random_for(oro.seed, "alert-time", oro.device_id, number).random()) * every


def alert(oro: OroRobot, number: int, every: float) -> dict[str, Any]:
    """Ogmen's API document, «This webhook is triggered when a robot generates an alert». The path has the device id."""
    severity, source, title, body, action = random_for(oro.seed, "alert", oro.device_id, number).choice(_ALERTS)
    return {
        "timestamp": rfc3339(alert_time(oro, number, every)),
        "uuid": uuid_for(oro.seed, "alert", oro.device_id, number),
        "source": source,
        "severity": severity,
        "header": title,
        "body": body,
        "action_required": action,
        "link_for_favicon": f"https://assets.example.com/{source}.png",
    }


# --- REST --------------------------------------------------------------------------------------------------------


def envelope(message: str, data: object) -> dict[str, Any]:
    """The standard answer ``{code, status, message, data}``."""
    return {"code": 200, "status": "success", "message": message, "data": data}


def device(oro: OroRobot, now: float) -> dict[str, Any]:
    """What the robot is."""
    return {
        "device_id": oro.device_id,
        "model": "ORo",
        "manufacturer": "Ogmen Robotics",
        "os_version": "1.2.3",
        "serial_number": oro.serial,
        "battery_health": 95,
        "last_restart_time": rfc3339(now - now % 86_400),
        "secure_enclave_id": uuid_for(oro.seed, "enclave", oro.device_id),
        "storage_capacity_gb": 256,
    }


def storage(oro: OroRobot, now: float) -> dict[str, Any]:
    """Storage, in GB; no time."""
    used = round(60 + now % 86_400 / 10_000, 1)
    return {
        "storage_id": 50,
        "device_id": oro.device_id,
        "total_storage_gb": 128,
        "available_storage_gb": round(128 - used, 1),
        "used_storage_gb": used,
    }


def network(oro: OroRobot, now: float) -> dict[str, Any]:
    """Network; holds addresses that connectors redact."""
    return {
        "network_id": 20,
        "device_id": oro.device_id,
        "ssid": "HomeWiFi",
        "security_protocol": "WPA2",
        "ip_address": "192.168.1.2",
        "mac_address": "24:cf:24:3f:95:ec",
        "is_connected": True,
        "last_connected_at": rfc3339(now - now % 3600),
    }


@dataclass(frozen=True)
class Privacy:
    """The privacy mode of a robot; epoch seconds, None where it was never switched so."""

    enabled: bool = False
    enabled_at: float | None = None
    disabled_at: float | None = None


def privacy_at(now: float, period: float) -> Privacy:
    """A privacy mode that goes on and off every ``period`` seconds; 0: it was never on."""
    if not period:
        return Privacy()
    turn = int(now // period)
    switched, before = turn * period, (turn - 1) * period
    return Privacy(True, switched, before) if turn % 2 else Privacy(False, before, switched)


def device_settings(oro: OroRobot, now: float, privacy: Privacy = Privacy()) -> dict[str, Any]:
    """Settings; holds names that connectors redact."""
    return {
        "device_id": oro.device_id,
        "privacy_status": privacy.enabled,
        "privacy_enabled_by": "John Doe",
        "volume": 40,
        "display_brightness": 75,
        "status_light_brightness": 80,
        "last_device_settings_changed_by": "John Doe",
        "last_device_settings_changed_at": rfc3339(now - now % 86_400),
        "last_robot_synced_time": rfc3339(now - now % 60),
    }


def battery_status(oro: OroRobot, now: float, battery: float) -> dict[str, Any]:
    """Battery; %, V, °C. It has no log id, and no time of its own."""
    state = oro.robot.at(now)
    return {
        "device_id": oro.device_id,
        "battery_level": round(battery),
        "charging_status": "Charging" if state.charging else "Discharging",
        "charging_source": "Wireless",
        "voltage": round(22 + 5 * battery / 100, 1),
        "temperature": 35 if state.charging else 31,
        "last_charging_time": rfc3339(now - now % 3600),
    }


def treat_bin(oro: OroRobot, now: float) -> dict[str, Any]:
    """Fill of the treat bin, %."""
    left = 100 - int(now % 86_400 / 1000)
    return {"device_id": oro.device_id, "treat_bin_level": left, "last_robot_synced_time": rfc3339(now - now % 60)}


def cam_head(oro: OroRobot, now: float) -> dict[str, Any]:
    """Position of the camera head, degrees."""
    return {
        "device_id": oro.device_id,
        "status": "OK",
        "cam_head_position": round(45 * math.sin(now / 60)),
        "shutter_status": True,
        "last_cam_head_rotated_time": rfc3339(now - now % 20),
        "last_robot_synced_time": rfc3339(now - now % 60),
    }


def privacy_mode(oro: OroRobot, now: float, privacy: Privacy = Privacy()) -> dict[str, Any]:
    """Privacy mode. It names no device and has no time of its own."""
    return {
        "command": "enable_privacy" if privacy.enabled else "disable_privacy",
        "privacy_mode_enabled": privacy.enabled,
        "privacy_mode_enabled_at": _time(privacy.enabled_at),
        "privacy_mode_enabled_by": "MAPP",
        "privacy_mode_disabled_at": _time(privacy.disabled_at),
        "privacy_mode_disabled_by": "MAPP",
        "privacy_keep_until_disabled": True,
    }


def _time(moment: float | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def active_map(oro: OroRobot, now: float) -> dict[str, Any]:
    """The map in use; holds an address that connectors redact."""
    address = {"first_line": "1 High Street", "second_line": "", "city": "Oslo", "pincode": "0150", "country": "NO"}
    map_id = uuid_for(oro.seed, "map-id", oro.device_id)
    return {
        "map_id": map_id,
        "device_id": oro.device_id,
        "map_name": "Home",
        "description": "Ground floor",
        "address": address,
        "mode": "trinary",
        "resolution": 0.05,
        "origin": [-3.65, -3.59, 0],
        "negate": 0,
        "occupied_thresh": 0.65,
        "free_thresh": 0.25,
        "created_at": "2026-01-15T10:00:00Z",
        "active_map": True,
        "last_modified_at": "2026-01-16T10:00:00Z",
        "s3_path": f"users_data/maps/{oro.device_id}/map.pgm",
    }


def dog(oro: OroRobot, now: float) -> dict[str, Any]:
    """The dog of the household."""
    return {
        "dog_id": oro.dog_id,
        "owner_id": oro.account_id,
        "name": "Buddy",
        "breed": "Golden Retriever",
        "age": 3,
        "weight": 18,
        "medical_history": {},
        "activity_level": "Low",
        "dietary_preferences": "Grain-Free Kibble",
        "last_updated": rfc3339(now - now % 86_400),
    }


def log_entries(now: float, history: float) -> list[int]:
    """Numbers of the log entries that exist, newest first; entry ``n`` was written at ``n * LOG_SECONDS``."""
    newest = int(now // LOG_SECONDS)
    return list(range(newest, newest - int(history // LOG_SECONDS) - 1, -1))


def activity(oro: OroRobot, entry: int, now: float) -> dict[str, Any]:
    """An entry is resolved a minute after it was written: the same entry, changed."""
    at = entry * LOG_SECONDS
    failed = entry % 7 == 0
    return {
        "log_id": entry,
        "device_id": oro.device_id,
        "recorded_at": rfc3339(at),
        "activity_type": "Error" if failed else "Movement",
        "description": f"Device moved to {_room(oro, entry).lower()}",
        "task_id": uuid_for(oro.seed, "task", oro.device_id, entry),
        "triggered_by": "System",
        "user_id": oro.account_id,
        "error_code": "ORoError420" if failed else None,
        "resolved": now - at >= 60,
    }


def connectivity(oro: OroRobot, entry: int, now: float) -> dict[str, Any]:
    """An entry is synced half a minute after it was written: the same entry, changed."""
    at = entry * LOG_SECONDS
    return {
        "log_id": entry,
        "device_id": oro.device_id,
        "recorded_at": rfc3339(at),
        "connection_status": "Connected",
        "signal_strength": -50 - entry % 5,
        "network_type": "WIFI",
        "ip_address": "192.168.1.2",
        "is_synced": now - at >= 30,
        "synced_at": rfc3339(at + 30) if now - at >= 30 else None,
    }


def location(oro: OroRobot, entry: int, now: float) -> dict[str, Any]:
    """Where the robot was; metres, degrees."""
    at = entry * LOG_SECONDS
    state = oro.robot.at(at)
    return {
        "log_id": entry,
        "location_id": 600 + entry % 4,
        "device_id": oro.device_id,
        "recorded_at": rfc3339(at),
        "house_no": 1,
        "room_name": _room(oro, entry),
        "position_x": round(state.x, 3),
        "position_y": round(state.y, 3),
        "orientation_angle": round(state.yaw, 1),
        "floor_level": 1,
        "movement_status": "Moving" if state.phase == "working" else "Stationary",
    }


def system_usage(oro: OroRobot, entry: int, now: float) -> dict[str, Any]:
    """Load of the computer; %, MB, °C."""
    rng = random_for(oro.seed, "usage", oro.device_id, entry)
    working = oro.robot.at(entry * LOG_SECONDS).phase == "working"
    load = rng.uniform(40, 70) if working else rng.uniform(5, 15)
    return {
        "log_id": entry,
        "device_id": oro.device_id,
        "timestamp": rfc3339(entry * LOG_SECONDS),
        "cpu_usage_percent": round(load, 1),
        "npu_usage_percent": round(load * 0.8, 1),
        "gpu_usage_percent": round(load * 0.6, 1),
        "memory_usage_mb": 900 + round(load * 10),
        "system_load_avg": round(load / 30, 2),
        "cpu_temperature": round(40 + load / 4),
        "power_state": "Active Mode" if working else "Sleep Mode",
    }


def insight(oro: OroRobot, entry: int, now: float) -> dict[str, Any]:
    """What the dog did; names the dog only, not the device."""
    rng = random_for(oro.seed, "insight", oro.dog_id, entry)
    return {
        "insight_id": entry,
        "dog_id": oro.dog_id,
        "recorded_at": rfc3339(entry * LOG_SECONDS),
        "activity_detected": rng.choice(("Playing", "Sleeping", "Barking", "Eating")),
        "confidence_score": round(rng.uniform(0.7, 0.99), 2),
        "emotion": rng.choice(("Happy", "Calm", "Anxious")),
        "severity_level": "Low",
        "location": _room(oro, entry),
        "description": "Seen by the camera",
    }


# --- account data, which nobody should ask for or keep -------------------------------------------------------------


def account(oro: OroRobot) -> dict[str, Any]:
    """Ogmen's API document, «Returns User Account Details Associated With the Given Device ID»."""
    return {
        "account_id": oro.account_id,
        "device_id": oro.device_id,
        "ogmen_id": "OGM123",
        "email": "user@example.com",
        "display_name": "John Doe",
        "password_hash": "Who are you",
        "last_login_time": "2025-03-12T08:00:00Z",
        "two_factor_enabled": True,
    }


def subscription(oro: OroRobot) -> dict[str, Any]:
    """The account's subscription."""
    return {
        "subscription_id": 500,
        "account_id": oro.account_id,
        "subscription_plan": "Premium Plus",
        "subscription_status": "Active",
        "start_date": "2025-01-01T00:00:00Z",
        "end_date": "2026-01-01T00:00:00Z",
        "storage_limit_gb": 100,
        "billing_cycle": "Monthly",
        "auto_renewal": True,
    }


def pet_profile(oro: OroRobot) -> dict[str, Any]:
    """The pet's profile, by its owner."""
    return {
        "pet_name": "Buddy",
        "species": "Dog",
        "breed": "Golden Retriever",
        "pet_date_of_birth": "2019-08-24",
        "veterinarian_contact": "Dr Vet, Main Road 5",
        "known_medical_conditions": "Epilepsy",
        "insurance_policy_number": "POL-778",
        "profile_photo_url": "https://photos.example.com/buddy.jpg",
        "emergency_instructions": "The key is under the mat",
        "account_id": oro.account_id,
    }


def with_account(oro: OroRobot, message: dict[str, Any]) -> dict[str, Any]:
    """A message among whose fields account data has turned up."""
    return {
        **account(oro),
        **message,
        "owner": {**account(oro), "address": {"first_line": "1 High Street", "city": "Oslo", "pincode": "0150"}},
        "subscription": subscription(oro),
        "pets": [pet_profile(oro), dog(oro, 0.0)],
        "device_id": oro.device_id,
    }


def _room(oro: OroRobot, entry: int) -> str:
    return random_for(oro.seed, "room", oro.device_id, entry).choice(_ROOMS)
