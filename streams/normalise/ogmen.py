"""Ogmen: the device channel (ROS messages as JSON), alerts of the webhook, logs and states of REST (pure).

Source: Ogmen's API document, «This WebSocket connection allows clients …», «This webhook is triggered …», the answers
of REST. The document names the shapes of the ROS messages but does not show them: they are taken as ROS 2 defines them
(assumed), beside `topic`, or below `msg` or `data`. Message types: `ogmen.channel`, `ogmen.alert`, `ogmen.<name>.log`,
`ogmen.<name>`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from schemas.severity import severity_of_number
from schemas.timestamps import from_micros
from streams.normalise.message import Field, Message, Stamp, VendorEvent, into
from streams.normalise.values import (
    FieldError,
    degrees,
    dump_json,
    iso_time_text,
    mapping,
    member,
    moment,
    number,
    shown,
)

# -- the device channel

_POSITION = {"x": into("position.odom_x"), "y": into("position.odom_y"), "z": into("position.odom_z")}
_YAW = into("orientation.odom_yaw")
_LINEAR = {"x": into("velocity.linear_x"), "y": into("velocity.linear_y")}
_ANGULAR = {"z": into("velocity.angular_z")}
_TRANSFORMS = {"tf": into("transform.dynamic"), "tf_static": into("transform.static")}


def ros_time(value: Any) -> datetime | None:
    """The time of a ROS stamp, `{"sec","nanosec"}` or ROS 1's `{"secs","nsecs"}`; zero means that there is none."""
    if not isinstance(value, dict):
        raise FieldError("bad_time", f"a ROS stamp is due, found {shown(value)}")
    sec, nanosec = value.get("sec", value.get("secs")), value.get("nanosec", value.get("nsecs", 0))
    try:
        whole, fraction = number(sec), number(nanosec)
        if whole == 0 and fraction == 0:
            return None
        return from_micros(int(whole) * 1_000_000 + int(fraction) // 1000)
    except (FieldError, OverflowError) as error:
        raise FieldError("bad_time", shown(value)) from error


def yaw_of(quaternion: Any) -> float:
    """Heading of a quaternion in degrees, in (−180, 180]; it need not be normalised."""
    if not isinstance(quaternion, dict):
        raise FieldError("wrong_type", f"a quaternion is due, found {shown(quaternion)}")
    missing = [name for name in "xyzw" if quaternion.get(name) is None]
    if missing:
        raise FieldError("missing", missing[0])
    x, y, z, w = (number(quaternion[name]) for name in "xyzw")
    scale = max(abs(x), abs(y), abs(z), abs(w))
    if scale == 0:
        raise FieldError("out_of_range", "a quaternion of zeros")
    x, y, z, w = x / scale, y / scale, z / scale, w / scale
    return degrees(math.degrees(math.atan2(2 * (w * z + x * y), w * w + x * x - y * y - z * z)))


def channel(message: Message) -> None:
    """One message of the device channel. What has no topic is other clients' chatter and yields nothing."""
    payload = mapping(message.payload())
    topic = payload.get("topic")
    if topic is None:
        command = next((word for key in _COMMANDS if isinstance(word := payload.get(key), str) and word), None)
        if command is not None:
            _relayed(message, command, payload)
        return
    if not isinstance(topic, str):
        message.problem("topic", FieldError("wrong_type", f"a text is due, found {shown(topic)}"))
        return
    name = topic.strip("/")
    body = next((payload[key] for key in ("msg", "data") if isinstance(payload.get(key), dict)), payload)
    if (handler := _TOPICS.get(name)) is not None:
        handler(message, name, body)
    else:
        _relayed(message, name, payload)


# What the ROS messages are defined to have; maps and relayed commands are events and keep what they came with.
_ODOMETRY = {"topic", "header", "child_frame_id", "pose", "twist"}
_TF_MESSAGE = {"topic", "header", "transforms"}

_COMMANDS = ("command", "action")
"""What a relayed command without a topic is known by (assumed: the names that REST has for them)."""
_LARGEST_EVENT = 32_768
"""Characters of JSON that an event may bring; whatever is larger is described, and the raw record has it."""
_LARGEST_MEMBER = 2_048


def _header_stamp(message: Message, body: Mapping[str, Any], path: str = "header") -> Stamp:
    header = body.get("header")
    return message.stamp(header.get("stamp") if isinstance(header, dict) else None, f"{path}.stamp", ros_time)


def _odom(message: Message, name: str, body: dict[str, Any]) -> None:
    """nav_msgs/Odometry: pose in the frame `odom`, twist in the robot's own. Covariances are not taken."""
    stamp = _header_stamp(message, body)
    pose = member(member(body, "pose"), "pose")
    _vector(message, pose.get("position"), _POSITION, "pose.pose.position", stamp)
    if pose.get("orientation") is not None:
        try:
            message.add(_YAW.metric, "number", yaw_of(pose["orientation"]), _YAW.unit, stamp)
        except FieldError as error:
            message.problem("pose.pose.orientation", error)
    twist = body.get("twist")
    twist = twist.get("twist") if isinstance(twist, dict) else None
    if isinstance(twist, dict):
        _vector(message, twist.get("linear"), _LINEAR, "twist.twist.linear", stamp)
        _vector(message, twist.get("angular"), _ANGULAR, "twist.twist.angular", stamp)
    message.keep_others(body, _ODOMETRY, stamp)


def _vector(message: Message, vector: Any, table: Mapping[str, Field], path: str, stamp: Stamp) -> None:
    """Read those members of a vector that the table names; the others of a planar robot have no meaning."""
    if vector is None:
        return
    if not isinstance(vector, dict):
        message.problem(path, FieldError("wrong_type", f"an object is due, found {shown(vector)}"))
        return
    for key, field in table.items():
        message.read(field, vector.get(key), f"{path}.{key}", stamp)


def _transforms(message: Message, name: str, body: dict[str, Any]) -> None:
    """tf2_msgs/TFMessage: all transforms as one reading, with the time of the latest."""
    transforms = body.get("transforms")
    if transforms is None:
        raise FieldError("missing", "transforms")
    if not isinstance(transforms, list):
        raise FieldError("wrong_type", f"transforms: an array is due, found {shown(transforms)}")
    stamps = [
        _header_stamp(message, transform, f"transforms[{index}].header")
        for index, transform in enumerate(transforms)
        if isinstance(transform, dict)
    ]
    stamp = max(stamps, default=message.received)
    message.read(_TRANSFORMS[name], transforms, "transforms", stamp)
    message.keep_others(body, _TF_MESSAGE, stamp)


def _map(message: Message, name: str, body: dict[str, Any]) -> None:
    """nav_msgs/OccupancyGrid: an event with its metadata; the cells stay in the raw topic."""
    info = member(body, "info")
    cells = body.get("data")
    facts = {key: value for key, value in info.items() if len(dump_json(value)) <= _LARGEST_MEMBER}
    facts |= {"frame_id": _frame(body), "cells": len(cells) if isinstance(cells, list) else None}
    message.event(VendorEvent("map", None, _header_stamp(message, body), _bounded(facts), title="Map"))


def _bounded(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts, or a description of what is too large for an event."""
    size = len(dump_json(facts))
    if size <= _LARGEST_EVENT:
        return facts
    small = {
        key: value for key, value in facts.items() if isinstance(value, str | int | float) and len(str(value)) < 200
    }
    members = [key[:100] for key in list(facts)[:100]]
    return {**dict(list(small.items())[:50]), "members": members, "characters": size}


def _frame(body: Mapping[str, Any]) -> Any:
    header = body.get("header")
    return header.get("frame_id") if isinstance(header, dict) else None


def _relayed(message: Message, name: str, body: dict[str, Any]) -> None:
    """What one client sent to the robot, as an event: a goal, a command, or any topic that is not known here."""
    kind = "goal_pose" if name == "goal_pose" else "relayed"
    facts = {key: value for key, value in body.items() if key != "topic"}
    if body.get("topic") is not None:
        facts = {"topic": name, **facts}
    goal = next((body[key] for key in ("msg", "data") if isinstance(body.get(key), dict)), body)
    pose = goal.get("pose")
    if kind == "goal_pose" and isinstance(pose, dict):
        try:
            facts["yaw_deg"] = yaw_of(pose.get("orientation"))
        except FieldError as error:
            message.problem("pose.orientation", error)
    stamp = _command_stamp(message, body, goal)
    message.event(VendorEvent(kind, None, stamp, _bounded(facts), title=name[:200]))


def _command_stamp(message: Message, body: Mapping[str, Any], goal: Mapping[str, Any]) -> Stamp:
    """The time of a ROS header, else the `timestamp` that a command has by the document, beside or within its body."""
    stamp = _header_stamp(message, goal)
    written = next((m["timestamp"] for m in (body, goal) if m.get("timestamp") is not None), None)
    if stamp.source == "vendor" or written is None:
        return stamp
    return message.stamp(written, "timestamp", ros_time if isinstance(written, dict) else moment)


_TOPICS: Mapping[str, Callable[[Message, str, dict[str, Any]], None]] = {
    "odom": _odom,
    "tf": _transforms,
    "tf_static": _transforms,
    "map": _map,
}

# -- alerts


def alert(message: Message) -> None:
    """One alert. Its `uuid`, in any case, recognises a redelivery (docs/contract.md, «Alarms»)."""
    payload = mapping(message.payload())
    name = payload.get("uuid")
    title = payload.get("header")
    message.event(
        VendorEvent(
            "alert",
            name.lower() if isinstance(name, str) and name else None,
            message.stamp(payload.get("timestamp"), "timestamp"),
            payload,
            _severity(message, payload.get("severity")),
            title if isinstance(title, str) else None,
        )
    )


def _severity(message: Message, value: Any) -> str | None:
    try:
        if value is None:
            raise FieldError("missing", "severity")
        level = number(value)
        if not level.is_integer():
            raise ValueError(f"severity must be 1 to 5, got {level}")
        return severity_of_number(int(level))
    except FieldError as error:
        message.problem("severity", error)
    except ValueError as error:
        message.problem("severity", FieldError("out_of_range", str(error)))
    return None


# -- logs and states of REST

_FIELDS = {
    "battery_level": into("battery.level"),
    "battery_health": into("battery.health"),
    "charging_status": into("battery.charging_status"),
    "charging_source": into("battery.charging_source"),
    "voltage": into("battery.voltage"),
    "temperature": into("battery.temperature"),
    "last_charging_time": into("battery.last_charged", iso_time_text),
    "connection_status": into("network.connection_status"),
    "signal_strength": into("network.signal_strength"),
    "network_type": into("network.type"),
    "security_protocol": into("network.security"),
    "is_connected": into("network.connected"),
    "room_name": into("location.room"),
    "position_x": into("position.x"),
    "position_y": into("position.y"),
    "orientation_angle": into("orientation.yaw", degrees),
    "floor_level": into("location.floor"),
    "movement_status": into("robot.movement"),
    "cpu_usage_percent": into("cpu.usage"),
    "npu_usage_percent": into("npu.usage"),
    "gpu_usage_percent": into("gpu.usage"),
    "memory_usage_mb": into("memory.used"),
    "system_load_avg": into("cpu.load"),
    "cpu_temperature": into("cpu.temperature"),
    "power_state": into("power.state"),
    "os_version": into("software.version"),
    "last_restart_time": into("device.last_restart", iso_time_text),
    "storage_capacity_gb": into("device.storage_capacity"),
    "total_storage_gb": into("storage.capacity"),
    "available_storage_gb": into("storage.available"),
    "used_storage_gb": into("storage.used"),
    "treat_bin_level": into("treat_bin.level"),
    "status": into("camera.status"),
    "cam_head_position": into("camera.angle"),
    "shutter_status": into("camera.shutter"),
    "privacy_status": into("privacy.enabled"),
    "privacy_mode_enabled": into("privacy.enabled"),
    "privacy_keep_until_disabled": into("privacy.until_disabled"),
    "volume": into("audio.volume"),
    "display_brightness": into("display.brightness"),
    "status_light_brightness": into("light.brightness"),
}
_ONLY_IN = {"status": "cam", "temperature": "battery", "voltage": "battery"}
"""Fields whose name says too little: they mean what `_FIELDS` says in answers whose name begins so only."""
_TIMES = ("recorded_at", "timestamp", "last_robot_synced_time")
_NOT_TELEMETRY = {
    # identity, of the entry or of somebody; attributes of the device, which the registry has
    *("log_id", "location_id", "storage_id", "network_id", "insight_id", "task_id", "device_id", "dog_id", "user_id"),
    *("serial_number", "model", "manufacturer", "secure_enclave_id", "registration_key", "house_no", "triggered_by"),
    *("ssid", "ip_address", "mac_address", "is_synced", "synced_at", "last_connected_at", "command"),
    *("privacy_enabled_by", "last_device_settings_changed_by", "last_device_settings_changed_at"),
    *("privacy_mode_enabled_by", "privacy_mode_disabled_by", "privacy_mode_enabled_at", "privacy_mode_disabled_at"),
    *("last_cam_head_rotated_time", *_TIMES),
}
_REDACTED = "[redacted]"
"""What the connector leaves of a secret."""
_EVENTS = {
    "activity": ("activity", "log_id", "activity_type"),
    "insight": ("dog_insight", "insight_id", "activity_detected"),
}


def entry(message: Message) -> None:
    """One entry of a log, or one state, bare or in the envelope `{code, status, message, data}`."""
    payload = message.payload()
    if isinstance(payload, dict) and "data" in payload and payload.keys() & {"code", "status", "message"}:
        payload = payload["data"]
    if payload is None or payload == "null":  # sic: `"data": "null"`
        return
    state = mapping(payload)
    path, value = next(((name, state[name]) for name in _TIMES if state.get(name) is not None), ("", None))
    stamp = message.stamp(value, path)
    message.polled(stamp)
    kind = next((known for known in _EVENTS if known in message.envelope.type), None)
    if kind is not None:
        _entry_event(message, _EVENTS[kind], state, stamp)
    elif changed := message.envelope.attributes.get("changed"):
        message.event(VendorEvent("log_entry_changed", None, stamp, state, title=changed))
    else:
        message.is_polled_state = state.get("log_id") is None
        members = {k: v for k, v in state.items() if k not in _NOT_TELEMETRY and v != _REDACTED}
        _keep_ambiguous(message, members, stamp)
        message.read_object(_FIELDS, members, "", stamp)
        if isinstance(state.get("privacy_mode_enabled"), bool):
            _privacy_event(message, state)


def _keep_ambiguous(message: Message, members: dict[str, Any], stamp: Stamp) -> None:
    """Take out the members that mean something in another answer only: `ogmen.<answer>.<member>`."""
    answer = message.envelope.type.split(".")[1]
    for name in [name for name in members if not answer.startswith(_ONLY_IN.get(name, ""))]:
        message.keep(f"{answer}.{name}", members.pop(name), name, stamp)


def _privacy_event(message: Message, state: dict[str, Any]) -> None:
    """The privacy mode went on or off; the connector hands its answer on whenever it changes."""
    word = "enabled" if state["privacy_mode_enabled"] else "disabled"
    path = f"privacy_mode_{word}_at"
    message.event(
        VendorEvent("privacy_mode", None, message.stamp(state.get(path), path), state, title=f"Privacy mode {word}")
    )


def _entry_event(message: Message, names: tuple[str, str, str], entry: dict[str, Any], stamp: Stamp) -> None:
    """An entry that reports a fact. A changed one (`resolved`) is a new version of the same event."""
    kind, id_field, title_field = names
    vendor_id, title = entry.get(id_field), entry.get(title_field)
    message.event(
        VendorEvent(
            kind,
            None if vendor_id is None else str(vendor_id),
            stamp,
            entry,
            title=title if isinstance(title, str) else None,
        )
    )


HANDLERS: Mapping[str, Callable[[Message], None]] = {"ogmen.channel": channel, "ogmen.alert": alert, "ogmen.*": entry}
