"""The catalogue of metrics: one name and one unit per quantity for all vendors (docs/contract.md, «Values»).

A vendor's `MetricTable` names the field that each metric is read from, and adds the metrics that only this vendor has.
A field that no metric names is kept under the vendor's own name (`vendor_metric`), with unit `1` if it is a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from schemas.vendors import BUILT_IN, RegistrationError, VendorSpec, vendors

Kind = Literal["number", "boolean", "text", "json"]

UNKNOWN_UNIT = "1"
"""Unit of counts, of indices, and of numbers whose unit no document gives."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One quantity. `unit` is a UCUM code for numbers and None for the other kinds."""

    name: str
    kind: Kind
    unit: str | None
    description: str


@dataclass(frozen=True, slots=True)
class MetricTable:
    """What one vendor sends, by metric."""

    sources: Mapping[str, str]
    """Metric to the vendor's field that it is read from, as documentation."""
    own: tuple[Metric, ...] = ()
    """Quantities that the catalogue lacks; the vendor's readings and the rules may use them like any other."""


def _number(name: str, unit: str, description: str) -> Metric:
    return Metric(name, "number", unit, description)


def _boolean(name: str, description: str) -> Metric:
    return Metric(name, "boolean", None, description)


def _text(name: str, description: str) -> Metric:
    return Metric(name, "text", None, description)


def _json(name: str, description: str) -> Metric:
    return Metric(name, "json", None, description)


def _unknown(name: str, description: str) -> Metric:
    return Metric(name, "number", UNKNOWN_UNIT, f"{description}; unit not documented")


_METRICS = (
    # battery and power
    _number("battery.level", "%", "Charge of the battery."),
    _boolean("battery.charging", "Whether the battery is being charged."),
    _text("battery.charging_status", "Charging status in the vendor's words."),
    _text("battery.charging_source", "What charges the battery."),
    _text("battery.discharge_status", "Discharge status in the vendor's words."),
    _number("battery.health", "%", "Health of the battery."),
    _number("battery.voltage", "V", "Voltage of the battery."),
    _number("battery.temperature", "Cel", "Temperature of the battery, not of the room."),
    _text("battery.last_charged", "When the battery was last charged (ISO 8601)."),
    _text("power.state", "Power state in the vendor's words."),
    _boolean("power.available", "Whether mains power is available."),
    # the device itself
    _number("device.operating_time", "s", "Total time the device has been in operation."),
    _unknown("device.total_operation", "CV50's counter of operation"),
    _number("device.total_cleaning_time", "s", "Total time of cleaning (unit assumed)."),
    _boolean("device.docked", "Whether the robot stands in its charging station."),
    _text("device.name", "Name its user gave the device."),
    _text("device.clock", "The device's own clock, as it wrote it."),
    _text("device.last_restart", "When the device last restarted (ISO 8601)."),
    _text("software.version", "Version of the software or firmware running."),
    _number("ota.progress", "%", "Download of new firmware, how far."),
    _text("robot.status", "High-level status: Idle, Autonomous, Charging, Docking…"),
    _text("robot.movement", "Movement status in the vendor's words."),
    _text("machine.state", "State of the main controller, e.g. CLEANING_MODE."),
    _unknown("machine.state_code", "State of the main controller as a code"),
    _text("device.mode", "Mode of operation in the vendor's words."),
    _boolean("door.open", "Whether the door is open."),
    _boolean("connection.online", "Whether the vendor's cloud takes the device for online."),
    _number("device.stability_score", "1", "The vendor's score of the connection, 0 to 100."),
    _number("device.messages_24h", "1", "Messages of the last 24 hours, as the cloud counts."),
    # health as the vendor scores it: `health.uptime` is a score and no time
    _number("health.score", "1", "The vendor's score of the device's health, 0 to 100."),
    _text("health.status", "The device's health in the vendor's words."),
    _number("health.uptime", "1", "Health component, 0 to 100; no time."),
    _number("health.alarm_burden", "1", "Health component, 0 to 100."),
    _number("health.connection_stability", "1", "Health component, 0 to 100."),
    _number("health.telemetry_freshness", "1", "Health component, 0 to 100."),
    # job
    _number("job.progress", "%", "Progress of the task under way."),
    _text("job.route_name", "Name of the route under way."),
    _text("job.route_id", "The vendor's id of the route under way."),
    _text("job.execution_id", "The vendor's id of the execution under way."),
    _json("job.routes", "Routes stored on the device."),
    _json("job.routes_overflow", "Routes beyond the first 330."),
    _json("job.routines", "Routines stored on the device."),
    _json("job.routines_overflow", "Routines beyond the first 330."),
    _json("job.schedules", "Schedules stored on the device."),
    _json("job.schedules_overflow", "Schedules beyond the first 330."),
    _json("job.scheduled_tasks", "Tasks that are scheduled."),
    _json("job.cleaning_schedules", "Cleaning schedules of a CV50."),
    # where it is
    _number("position.x", "m", "Position in the frame of the device's map, x."),
    _number("position.y", "m", "Position in the frame of the device's map, y."),
    _number("position.z", "m", "Position in the frame of the device's map, z."),
    _number("orientation.yaw", "deg", "Heading in the frame of the map, counter-clockwise, in (−180, 180]."),
    _number("position.odom_x", "m", "Position in the frame of the odometry, which drifts against the map, x."),
    _number("position.odom_y", "m", "Position in the frame of the odometry, y."),
    _number("position.odom_z", "m", "Position in the frame of the odometry, z."),
    _number("orientation.odom_yaw", "deg", "Heading in the frame of the odometry, in (−180, 180]."),
    _number("velocity.linear_x", "m/s", "Velocity forwards."),
    _number("velocity.linear_y", "m/s", "Velocity to the left."),
    _number("velocity.angular_z", "rad/s", "Turning rate about the vertical axis."),
    _number("location.latitude", "deg", "Latitude, WGS 84."),
    _number("location.longitude", "deg", "Longitude, WGS 84."),
    _number("location.accuracy", "m", "Accuracy of latitude and longitude."),
    _text("location.room", "Room the robot is in."),
    _number("location.floor", "1", "Floor the robot is on."),
    _text("map.id", "The vendor's id of the map in use."),
    _json("map.available", "Maps stored on the device."),
    _number("map.count", "1", "Number of maps stored on the device."),
    _json("transform.dynamic", "Coordinate transforms of a robot (ROS tf)."),
    _json("transform.static", "Fixed coordinate transforms of a robot (ROS tf_static)."),
    # consumables and service
    _number("water.fresh", "L", "Fresh water in the tank."),
    _number("treat_bin.level", "%", "Fill of the treat bin."),
    _number("service.cleaning_time", "s", "Service counter: time of cleaning."),
    _number("service.operation_time", "s", "Service counter: time of operation."),
    _number("service.suction_time", "s", "Service counter: time of suction."),
    _number("service.brush_time", "s", "Service counter: time of the brushes."),
    _number("service.sidebroom_time", "s", "Service counter: time of the side broom."),
    _number("service.distance", "m", "Service counter: distance (unit assumed)."),
    _number("service.dock_count", "1", "Service counter: dockings."),
    _text("service.date", "Date of the last service (ISO 8601)."),
    _unknown("service.brush_counter", "CV50's counter of the brush"),
    _unknown("service.filter_counter", "CV50's counter of the filter"),
    _unknown("service.sensors_counter", "CV50's counter of the sensors"),
    _unknown("service.dirt_container_counter", "CV50's counter of the dirt container"),
    _unknown("service.rubber_lip_counter", "CV50's counter of the rubber lip"),
    _unknown("service.side_broom_counter", "CV50's counter of the side broom"),
    _number("service.counter_version", "1", "Version of CV50's service counters."),
    # surroundings
    _number("environment.temperature", "Cel", "Temperature of the room."),
    _number("environment.humidity", "%", "Relative humidity of the room."),
    _number("environment.pressure", "hPa", "Air pressure."),
    _number("environment.air_quality_index", "1", "Indoor air quality index."),
    # network
    _number("network.signal_strength", "dB[mW]", "Received signal strength."),
    _number("network.wifi_signal", "%", "Wi-Fi signal as a share of its best, not dBm."),
    _number("network.phone_signal", "%", "Mobile signal as a share of its best (assumed); −1 means none."),
    _text("network.connection_status", "Connection status in the vendor's words."),
    _text("network.type", "Kind of network."),
    _text("network.security", "Security protocol of the network."),
    _boolean("network.connected", "Whether the device is connected to its network."),
    _json("network.saved_networks", "Saved networks, redacted."),
    _text("connection.last_connected", "When the device last connected to its cloud (ISO 8601, UTC)."),
    _text("connection.last_contact", "When the device last sent data to its cloud (ISO 8601, UTC)."),
    _boolean("integration.inorbit_enabled", "Whether the InOrbit cloud is connected."),
    _boolean("integration.vda5050_enabled", "Whether VDA 5050 is enabled."),
    # computer
    _number("cpu.usage", "%", "Use of the processor."),
    _number("npu.usage", "%", "Use of the neural processor."),
    _number("gpu.usage", "%", "Use of the graphics processor."),
    _number("cpu.load", "1", "Load average of the system."),
    _number("cpu.temperature", "Cel", "Temperature of the processor."),
    _number("memory.used", "MBy", "Memory in use."),
    _number("storage.capacity", "GBy", "Size of the storage, as its status says."),
    _number("device.storage_capacity", "GBy", "Size of the storage that the device is sold with."),
    _number("storage.available", "GBy", "Free storage."),
    _number("storage.used", "GBy", "Used storage."),
    _number("storage.usage", "%", "Share of the storage in use (unit assumed)."),
    # settings
    _number("audio.volume", "%", "Volume of sounds."),
    _number("display.brightness", "%", "Brightness of the display."),
    _number("light.brightness", "%", "Brightness of the status light."),
    _text("settings.language", "Language of the user interface."),
    _boolean("settings.beep", "Whether the device beeps so that people find it."),
    _boolean("settings.blink", "Whether the device blinks so that people find it."),
    _boolean("settings.lights", "Whether the status lights are on."),
    _boolean("settings.lock", "Whether the device is locked."),
    _boolean("settings.sound_operating", "Whether sounds of operation are on."),
    _boolean("settings.sound_warning", "Whether warning sounds are on."),
    _boolean("settings.battery_theft_protection", "Whether the battery's theft protection is on."),
    _boolean("settings.theft_protection", "Whether the robot's theft protection is on."),
    _boolean("privacy.enabled", "Whether the privacy mode is on."),
    _boolean("privacy.until_disabled", "Whether the privacy mode stays on until it is ended."),
    _text("camera.status", "Status of the camera head."),
    _number("camera.angle", "deg", "Position of the camera head."),
    _boolean("camera.shutter", "State of the camera's shutter."),
)

COMMON: Mapping[str, Metric] = {metric.name: metric for metric in _METRICS}
"""The common metrics by name."""


@cache
def catalogue() -> Mapping[str, Metric]:
    """All metrics by name: the common ones, then the vendors' own.

    RegistrationError names the vendor whose table is wrong.
    """
    known = dict(COMMON)
    for spec in vendors().values():
        table = _table(spec)
        for metric in table.own:
            if known.setdefault(metric.name, metric) != metric:
                raise RegistrationError(f"{_place(spec)}: {metric.name} is another metric already")
    for spec in vendors().values():
        if unknown := sorted(_table(spec).sources.keys() - known.keys()):
            raise RegistrationError(f"{_place(spec)}: no metric {', '.join(unknown)}; add it to `own`, or correct it")
    return known


def _table(spec: VendorSpec) -> MetricTable:
    table = spec.load("metrics")
    if not isinstance(table, MetricTable):
        raise RegistrationError(f"{_place(spec)}: is {type(table).__name__}, not a schemas.metrics.MetricTable")
    return table


def _place(spec: VendorSpec) -> str:
    return f"vendor {spec.name} (package {spec.package}): metrics {spec.metrics!r}"


def sources(names: Iterable[str]) -> Mapping[str, Mapping[str, str]]:
    """By metric and vendor, the field that it is read from, for the vendors of these names."""
    fields: dict[str, dict[str, str]] = {}
    for name in names:
        for metric, source in _table(vendors()[name]).sources.items():
            fields.setdefault(metric, {})[name] = source
    return fields


def vendor_metric(vendor: str, field_name: str) -> str:
    """The metric name of a field that the catalogue does not know: `karcher.someNewState`."""
    return f"{vendor}.{field_name}"


def unit_of(name: str) -> str | None:
    """UCUM unit of a metric's numbers; `1` for a metric that is not in the catalogue, None for one without numbers."""
    metric = catalogue().get(name)
    return UNKNOWN_UNIT if metric is None else metric.unit


def markdown() -> str:
    """The catalogue as the page docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "One name and one unit per quantity for all vendors. Units are UCUM codes; `1` is a count, an index, or a",
        "number whose unit the vendor does not document. A vendor's field that is not listed here is kept under the",
        "vendor's own name, such as `karcher.someNewState`. Generated from `schemas/metrics.py`; a test keeps both",
        "equal.",
        "",
        "| metric | kind | unit | meaning | read from |",
        "| --- | --- | --- | --- | --- |",
    ]
    fields = sources(BUILT_IN)
    for metric in COMMON.values():
        read_from = "; ".join(f"{vendor}: {source}" for vendor, source in fields.get(metric.name, {}).items())
        unit = f"`{metric.unit}`" if metric.unit else ""
        lines.append(f"| `{metric.name}` | {metric.kind} | {unit} | {metric.description} | {read_from} |")
    return "\n".join(lines) + "\n"
