"""The catalogue of metrics: one name and one unit a quantity, whichever vendor it is from (contract.md, «Values»).

`sources` names the vendor's field each metric is read from. A field that no metric here names is kept under the
vendor's own name (`vendor_metric`), with unit `1` if it is a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["number", "boolean", "text", "json"]

UNKNOWN_UNIT = "1"
"""Unit of numbers whose unit no document tells, and of plain counts and indices."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One quantity. `unit` is a UCUM code for numbers and None for the other kinds."""

    name: str
    kind: Kind
    unit: str | None
    description: str
    sources: Mapping[str, str] = field(default_factory=dict)


def _number(name: str, unit: str, description: str, **sources: str) -> Metric:
    return Metric(name, "number", unit, description, sources)


def _boolean(name: str, description: str, **sources: str) -> Metric:
    return Metric(name, "boolean", None, description, sources)


def _text(name: str, description: str, **sources: str) -> Metric:
    return Metric(name, "text", None, description, sources)


def _json(name: str, description: str, **sources: str) -> Metric:
    return Metric(name, "json", None, description, sources)


def _unknown(name: str, description: str, **sources: str) -> Metric:
    return Metric(name, "number", UNKNOWN_UNIT, f"{description}; unit not documented", sources)


_METRICS = (
    # battery and power
    _number(
        "battery.level",
        "%",
        "Charge of the battery.",
        karcher="batteryChargeLevel (ratio)",
        ogmen="battery_level",
        wayscloud="battery_level",
        climasense="battery_level",
    ),
    _boolean("battery.charging", "Whether the battery is being charged.", karcher="charging"),
    _text("battery.charging_status", "Charging status in the vendor's words.", ogmen="charging_status"),
    _text("battery.charging_source", "What charges the battery.", ogmen="charging_source"),
    _text("battery.discharge_status", "Discharge status in the vendor's words.", karcher="batteryDischargeStatus"),
    _number("battery.health", "%", "Health of the battery.", ogmen="battery_health"),
    _number("battery.voltage", "V", "Voltage of the battery.", ogmen="voltage"),
    _number(
        "battery.temperature", "Cel", "Temperature of the battery, not of the room.", ogmen="battery_status temperature"
    ),
    _text("battery.last_charged", "When the battery was last charged (ISO 8601).", ogmen="last_charging_time"),
    _text("power.state", "Power state in the vendor's words.", ogmen="power_state"),
    _boolean("power.available", "Whether mains power is available.", climasense="power_availability (0/1)"),
    # the device itself
    _number(
        "device.operating_time",
        "s",
        "Total time the device has been in operation.",
        karcher="machineOperatingDuration, machineOperatingHours (seconds)",
    ),
    _unknown("device.total_operation", "CV50's counter of operation", karcher="mcuMainInfo.totalOperation"),
    _number(
        "device.total_cleaning_time",
        "s",
        "Total time of cleaning (unit assumed).",
        karcher="mcuMainInfo.totalCleaningTime",
    ),
    _boolean("device.docked", "Whether the robot stands in its charging station.", karcher="docked"),
    _text("device.name", "Name its user gave the device.", karcher="settings.robotName"),
    _text("device.clock", "The device's own clock, as it wrote it.", karcher="time"),
    _text("device.last_restart", "When the device last restarted (ISO 8601).", ogmen="last_restart_time"),
    _text(
        "software.version",
        "Version of the software or firmware running.",
        karcher="softwareVersion",
        ogmen="os_version",
    ),
    _number("ota.progress", "%", "Download of new firmware, how far.", climasense="OTA status progress_percent"),
    _text("robot.status", "High-level status: Idle, Autonomous, Charging, Docking…", karcher="robotStatus"),
    _text("robot.movement", "Movement status in the vendor's words.", ogmen="movement_status"),
    _text("machine.state", "State of the main controller, e.g. CLEANING_MODE.", karcher="mcuMainInfo.machineStateEnum"),
    _unknown("machine.state_code", "State of the main controller as a code", karcher="mcuMainInfo.machineState"),
    _text("device.mode", "Mode of operation in the vendor's words.", wayscloud="mode"),
    _boolean("door.open", "Whether the door is open.", wayscloud="door_open"),
    _boolean("connection.online", "Whether the vendor's cloud takes the device for online.", wayscloud="is_online"),
    _number(
        "device.stability_score", "1", "The vendor's score of the connection, 0 to 100.", wayscloud="stability_score"
    ),
    _number(
        "device.messages_24h", "1", "Messages of the last 24 hours, as the cloud counts.", wayscloud="messages_24h"
    ),
    # health as the vendor scores it: `health.uptime` is a score and no time
    _number("health.score", "1", "The vendor's score of the device's health, 0 to 100.", wayscloud="health_score"),
    _text("health.status", "The device's health in the vendor's words.", wayscloud="health_status"),
    _number("health.uptime", "1", "Health component, 0 to 100; no time.", wayscloud="components.uptime"),
    _number("health.alarm_burden", "1", "Health component, 0 to 100.", wayscloud="components.alarm_burden"),
    _number(
        "health.connection_stability", "1", "Health component, 0 to 100.", wayscloud="components.connection_stability"
    ),
    _number(
        "health.telemetry_freshness", "1", "Health component, 0 to 100.", wayscloud="components.telemetry_freshness"
    ),
    # job
    _number("job.progress", "%", "Progress of the task under way.", karcher="repeatProgress.progress (ratio)"),
    _text("job.route_name", "Name of the route under way.", karcher="repeatProgress.routeName"),
    _text("job.route_id", "The vendor's id of the route under way.", karcher="repeatProgress.repeatPathId"),
    _text(
        "job.execution_id", "The vendor's id of the execution under way.", karcher="repeatProgress.repeatExecutionId"
    ),
    _json("job.routes", "Routes stored on the device.", karcher="routes"),
    _json("job.routes_overflow", "Routes beyond the first 330.", karcher="routesOverflow"),
    _json("job.routines", "Routines stored on the device.", karcher="routines"),
    _json("job.routines_overflow", "Routines beyond the first 330.", karcher="routinesOverflow"),
    _json("job.schedules", "Schedules stored on the device.", karcher="schedules"),
    _json("job.schedules_overflow", "Schedules beyond the first 330.", karcher="schedulesOverflow"),
    _json("job.scheduled_tasks", "Tasks that are scheduled.", karcher="scheduledTasks"),
    _json("job.cleaning_schedules", "Cleaning schedules of a CV50.", karcher="cleaningSchedules"),
    # where it is
    _number(
        "position.x",
        "m",
        "Position in the frame of the device's map or odometry, x.",
        karcher="location.coordinateX (mm, assumed), pose.x",
        ogmen="odom pose.pose.position.x, location log position_x",
    ),
    _number(
        "position.y",
        "m",
        "Position in the frame of the device's map or odometry, y.",
        karcher="location.coordinateY (mm, assumed), pose.y",
        ogmen="odom pose.pose.position.y, location log position_y",
    ),
    _number(
        "position.z",
        "m",
        "Position in the frame of the device's odometry, z.",
        karcher="pose.z",
        ogmen="odom pose.pose.position.z",
    ),
    _number(
        "orientation.yaw",
        "deg",
        "Heading about the vertical axis, counter-clockwise, in (−180, 180].",
        karcher="pose.yaw",
        ogmen="odom pose.pose.orientation (quaternion), location log orientation_angle",
    ),
    _number("velocity.linear_x", "m/s", "Velocity forwards.", ogmen="odom twist.twist.linear.x"),
    _number("velocity.linear_y", "m/s", "Velocity to the left.", ogmen="odom twist.twist.linear.y"),
    _number("velocity.angular_z", "rad/s", "Turning rate about the vertical axis.", ogmen="odom twist.twist.angular.z"),
    _number(
        "location.latitude",
        "deg",
        "Latitude, WGS 84.",
        karcher="machinePosition.latitude (also spelt machinePosistion)",
        climasense="latitude",
    ),
    _number(
        "location.longitude",
        "deg",
        "Longitude, WGS 84.",
        karcher="machinePosition.longitude (also spelt machinePosistion)",
        climasense="longitude",
    ),
    _number("location.accuracy", "m", "Accuracy of latitude and longitude.", karcher="machinePosition.accuracy"),
    _text("location.room", "Room the robot is in.", ogmen="room_name"),
    _number("location.floor", "1", "Floor the robot is on.", ogmen="floor_level"),
    _text("map.id", "The vendor's id of the map in use.", karcher="location.mapId, mapId.uniqueMapId"),
    _json("map.available", "Maps stored on the device.", karcher="maps"),
    _number("map.count", "1", "Number of maps stored on the device.", karcher="mcuMainInfo.mapCount"),
    _json("transform.dynamic", "Coordinate transforms of a robot (ROS tf).", ogmen="tf transforms"),
    _json("transform.static", "Fixed coordinate transforms of a robot (ROS tf_static).", ogmen="tf_static transforms"),
    # consumables and service
    _number("water.fresh", "L", "Fresh water in the tank.", karcher="freshWaterLevel"),
    _number("treat_bin.level", "%", "Fill of the treat bin.", ogmen="treat_bin_level"),
    _number("service.cleaning_time", "s", "Service counter: time of cleaning.", karcher="serviceCounter.cleaning_time"),
    _number(
        "service.operation_time", "s", "Service counter: time of operation.", karcher="serviceCounter.operation_time"
    ),
    _number("service.suction_time", "s", "Service counter: time of suction.", karcher="serviceCounter.suction_time"),
    _number("service.brush_time", "s", "Service counter: time of the brushes.", karcher="serviceCounter.brush_time"),
    _number(
        "service.sidebroom_time",
        "s",
        "Service counter: time of the side broom.",
        karcher="serviceCounter.sidebroom_time",
    ),
    _number("service.distance", "m", "Service counter: distance (unit assumed).", karcher="serviceCounter.meter_count"),
    _number("service.dock_count", "1", "Service counter: dockings.", karcher="serviceCounter.dock_count"),
    _text("service.date", "Date of the last service (ISO 8601).", karcher="serviceCounter.service_date"),
    _unknown("service.brush_counter", "CV50's counter of the brush", karcher="serviceCounter.brush"),
    _unknown("service.filter_counter", "CV50's counter of the filter", karcher="serviceCounter.filter"),
    _unknown("service.sensors_counter", "CV50's counter of the sensors", karcher="serviceCounter.sensors"),
    _unknown(
        "service.dirt_container_counter", "CV50's counter of the dirt container", karcher="serviceCounter.dirtContainer"
    ),
    _unknown("service.rubber_lip_counter", "CV50's counter of the rubber lip", karcher="serviceCounter.rubberLip"),
    _unknown("service.side_broom_counter", "CV50's counter of the side broom", karcher="serviceCounter.sideBroom"),
    _number("service.counter_version", "1", "Version of CV50's service counters.", karcher="serviceCounter.version"),
    # surroundings
    _number(
        "environment.temperature", "Cel", "Temperature of the room.", wayscloud="temperature", climasense="temperature"
    ),
    _number("environment.humidity", "%", "Relative humidity of the room.", wayscloud="humidity", climasense="humidity"),
    _number("environment.pressure", "hPa", "Air pressure.", wayscloud="pressure", climasense="pressure"),
    _number("environment.air_quality_index", "1", "Indoor air quality index.", wayscloud="iaq", climasense="iaq"),
    # network
    _number(
        "network.signal_strength",
        "dB[mW]",
        "Received signal strength.",
        karcher="wifiStatus.signalStrength",
        ogmen="signal_strength",
        wayscloud="signal_strength",
        climasense="signal_strength",
    ),
    _number("network.wifi_signal", "%", "Wi-Fi signal as a share of its best, not dBm.", karcher="wifiSignal (ratio)"),
    _number(
        "network.phone_signal",
        "%",
        "Mobile signal as a share of its best (assumed); −1 means none.",
        karcher="phoneSignal (ratio)",
    ),
    _text(
        "network.connection_status",
        "Connection status in the vendor's words.",
        ogmen="connection_status",
        wayscloud="connection_status",
    ),
    _text("network.type", "Kind of network.", ogmen="network_type"),
    _text("network.security", "Security protocol of the network.", ogmen="security_protocol"),
    _boolean("network.connected", "Whether the device is connected to its network.", ogmen="is_connected"),
    _json("network.saved_networks", "Saved networks, redacted.", karcher="savedWifiNetworks"),
    _text(
        "connection.last_connected",
        "When the device last connected to its cloud (ISO 8601, UTC).",
        karcher="lastConnected",
    ),
    _text(
        "connection.last_contact",
        "When the device last sent data to its cloud (ISO 8601, UTC).",
        karcher="lastContact",
        wayscloud="last_seen",
    ),
    _boolean("integration.inorbit_enabled", "Whether the InOrbit cloud is connected.", karcher="inorbitEnabled"),
    _boolean("integration.vda5050_enabled", "Whether VDA 5050 is enabled.", karcher="vda5050Enabled"),
    # computer
    _number("cpu.usage", "%", "Use of the processor.", ogmen="cpu_usage_percent"),
    _number("npu.usage", "%", "Use of the neural processor.", ogmen="npu_usage_percent"),
    _number("gpu.usage", "%", "Use of the graphics processor.", ogmen="gpu_usage_percent"),
    _number("cpu.load", "1", "Load average of the system.", ogmen="system_load_avg"),
    _number("cpu.temperature", "Cel", "Temperature of the processor.", ogmen="cpu_temperature"),
    _number("memory.used", "MBy", "Memory in use.", ogmen="memory_usage_mb"),
    _number("storage.capacity", "GBy", "Size of the storage.", ogmen="total_storage_gb, storage_capacity_gb"),
    _number("storage.available", "GBy", "Free storage.", ogmen="available_storage_gb"),
    _number("storage.used", "GBy", "Used storage.", ogmen="used_storage_gb"),
    _number("storage.usage", "%", "Share of the storage in use (unit assumed).", karcher="mcuMainInfo.usedStorage"),
    # settings
    _number("audio.volume", "%", "Volume of sounds.", karcher="settings.soundVolume", ogmen="volume"),
    _number("display.brightness", "%", "Brightness of the display.", ogmen="display_brightness"),
    _number("light.brightness", "%", "Brightness of the status light.", ogmen="status_light_brightness"),
    _text("settings.language", "Language of the user interface.", karcher="settings.hmiLanguage"),
    _boolean("settings.beep", "Whether the device beeps to be found.", karcher="settings.beep"),
    _boolean("settings.blink", "Whether the device blinks to be found.", karcher="settings.blink"),
    _boolean("settings.lights", "Whether the status lights are on.", karcher="settings.lights"),
    _boolean("settings.lock", "Whether the device is locked.", karcher="settings.lock"),
    _boolean("settings.sound_operating", "Whether sounds of operation are on.", karcher="settings.soundOperating"),
    _boolean("settings.sound_warning", "Whether warning sounds are on.", karcher="settings.soundWarning"),
    _boolean(
        "settings.battery_theft_protection",
        "Whether the battery's theft protection is on.",
        karcher="settings.batteryTheftProtection, settings.batteryTheft",
    ),
    _boolean(
        "settings.theft_protection", "Whether the robot's theft protection is on.", karcher="settings.theftProtection"
    ),
    _boolean("privacy.enabled", "Whether the privacy mode is on.", ogmen="privacy_status, privacy_mode_enabled"),
    _boolean(
        "privacy.until_disabled",
        "Whether the privacy mode stays on until it is ended.",
        ogmen="privacy_keep_until_disabled",
    ),
    _text("camera.status", "Status of the camera head.", ogmen="cam_head status"),
    _number("camera.angle", "deg", "Position of the camera head.", ogmen="cam_head_position"),
    _boolean("camera.shutter", "State of the camera's shutter.", ogmen="shutter_status"),
)

CATALOGUE: Mapping[str, Metric] = {metric.name: metric for metric in _METRICS}
"""All metrics by name."""


def vendor_metric(vendor: str, field_name: str) -> str:
    """The name under which a field is kept that the catalogue does not know: `karcher.someNewState`."""
    return f"{vendor}.{field_name}"


def unit_of(name: str) -> str | None:
    """UCUM unit of a metric's numbers; `1` for one the catalogue does not know, None for a metric that is no number."""
    metric = CATALOGUE.get(name)
    return UNKNOWN_UNIT if metric is None else metric.unit


def markdown() -> str:
    """The catalogue as the page docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "One name and one unit a quantity, whichever vendor it comes from. Units are UCUM codes; `1` is a count, an",
        "index, or a number whose unit the vendor does not document. A vendor's field that is not listed here is kept",
        "under the vendor's own name, e.g. `karcher.someNewState`. Made from `schemas/metrics.py`; a test holds both",
        "equal.",
        "",
        "| metric | kind | unit | meaning | read from |",
        "| --- | --- | --- | --- | --- |",
    ]
    for metric in _METRICS:
        sources = "; ".join(f"{vendor}: {source}" for vendor, source in metric.sources.items())
        unit = f"`{metric.unit}`" if metric.unit else ""
        lines.append(f"| `{metric.name}` | {metric.kind} | {unit} | {metric.description} | {sources} |")
    return "\n".join(lines) + "\n"
