"""Kärcher: datapoints of the WebSocket, elements of statuses, notifications, cleaning reports (pure).

Source: Kärcher's API document, «State» tables of KIRA and CV50, «Retrieves the current statuses», «Establishes a
WebSocket». Message types: `karcher.datapoints` (one socket message), `karcher.status` (one element of the answer's
`data`), `karcher.notification`, `karcher.cleaning.report`, `karcher.command` (a command's execution with one of its
events).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from schemas.severity import severity_of_word
from streams.normalise.message import Field, Message, Stamp, VendorEvent, into
from streams.normalise.values import (
    Divided,
    FieldError,
    degrees,
    iso_time_text,
    load_json,
    mapping,
    member,
    number,
    percent,
    seconds,
    shown,
)

_MAP_ID = into("map.id")
_POSE = {
    "x": into("position.x"),
    "y": into("position.y"),
    "z": into("position.z"),
    "yaw": into("orientation.yaw", degrees),
}
_GPS = {
    "latitude": into("location.latitude"),
    "longitude": into("location.longitude"),
    "accuracy": into("location.accuracy"),
}
_REPEAT_PROGRESS = {
    "progress": into("job.progress", percent),
    "routeName": into("job.route_name"),
    "repeatPathId": into("job.route_id"),
    "repeatExecutionId": into("job.execution_id"),
}
_MCU_MAIN_INFO = {
    "machineState": into("machine.state_code"),
    "machineStateEnum": into("machine.state"),
    "mapCount": into("map.count"),
    "totalOperation": into("device.total_operation"),
    "totalCleaningTime": into("device.total_cleaning_time"),
    "usedStorage": into("storage.usage"),
}
_SERVICE_COUNTER = {
    # KIRA
    "cleaning_time": into("service.cleaning_time", seconds),
    "operation_time": into("service.operation_time", seconds),
    "suction_time": into("service.suction_time", seconds),
    "brush_time": into("service.brush_time", seconds),
    "sidebroom_time": into("service.sidebroom_time", seconds),
    "meter_count": into("service.distance"),
    "dock_count": into("service.dock_count"),
    "service_date": into("service.date", iso_time_text),
    # CV50
    "brush": into("service.brush_counter"),
    "filter": into("service.filter_counter"),
    "sensors": into("service.sensors_counter"),
    "dirtContainer": into("service.dirt_container_counter"),
    "rubberLip": into("service.rubber_lip_counter"),
    "sideBroom": into("service.side_broom_counter"),
    "version": into("service.counter_version"),
}
_WIFI_STATUS = {"signalStrength": into("network.signal_strength")}
_WIFI_IDENTITY = {"macAddress", "ipv4Address", "ipv6Address", "networkName", "subnetMask", "defaultGateway"}
_LANGUAGE = into("settings.language")
_SETTINGS: Mapping[str, Mapping[str, Field]] = {
    "beep": {"status": into("settings.beep")},
    "blink": {"status": into("settings.blink")},
    "lights": {"status": into("settings.lights")},
    "lock": {"status": into("settings.lock")},
    "soundOperating": {"status": into("settings.sound_operating")},
    "soundWarning": {"status": into("settings.sound_warning")},
    "batteryTheftProtection": {"status": into("settings.battery_theft_protection")},
    "batteryTheft": {"status": into("settings.battery_theft_protection")},
    "theftProtection": {"status": into("settings.theft_protection")},
    "soundVolume": {"soundVolume": into("audio.volume")},
    "hmiLanguage": {"language": _LANGUAGE, "hmiLanguage": _LANGUAGE},
    "robotName": {"robotName": into("device.name")},
}
_SETTINGS_SECRET = {"lockcode"}
_ROBOT_STATUS = into("robot.status")
_ROBOT_STATUS_KEYS = {"robotStatus": _ROBOT_STATUS, "status": _ROBOT_STATUS}


def _phone_signal(value: Any) -> float | None:
    """A ratio as percent; −1 means there is none (docs/contract.md, «Values»)."""
    return None if number(value) == -1 else percent(value)


_SCALARS: Mapping[str, Field] = {
    "machineOperatingDuration": into("device.operating_time", seconds),
    "machineOperatingHours": into("device.operating_time", seconds),
    "batteryChargeLevel": into("battery.level", percent),
    "batteryDischargeStatus": into("battery.discharge_status"),
    "charging": into("battery.charging"),
    "docked": into("device.docked"),
    "freshWaterLevel": into("water.fresh"),
    "inorbitEnabled": into("integration.inorbit_enabled"),
    "vda5050Enabled": into("integration.vda5050_enabled"),
    "softwareVersion": into("software.version"),
    "wifiSignal": into("network.wifi_signal", percent),
    "phoneSignal": into("network.phone_signal", _phone_signal),
    "time": into("device.clock", iso_time_text),
    "routes": into("job.routes"),
    "routesOverflow": into("job.routes_overflow"),
    "routines": into("job.routines"),
    "routinesOverflow": into("job.routines_overflow"),
    "schedules": into("job.schedules"),
    "schedulesOverflow": into("job.schedules_overflow"),
    "scheduledTasks": into("job.scheduled_tasks"),
    "cleaningSchedules": into("job.cleaning_schedules"),
    "maps": into("map.available"),
    "savedWifiNetworks": into("network.saved_networks"),
}

_Reader = Callable[[Message, Any, str, Stamp], None]


def _members(table: Mapping[str, Field], name: str) -> _Reader:
    """A reader of an object (or of JSON in a string) by a table of its members."""

    def read(message: Message, value: Any, path: str, stamp: Stamp) -> None:
        message.read_object(table, mapping(value), path, stamp, name)

    return read


def _location(message: Message, value: Any, path: str, stamp: Stamp) -> None:
    """CV50's position on its map; millimetres unless configured otherwise (docs/contract.md, «Values»)."""
    table = _location_table(message.options.cv50_millimetres)
    message.read_object(table, mapping(value), path, stamp, "location")


_LOCATION_TABLES: dict[int, dict[str, Field]] = {}


def _location_table(millimetres: int) -> dict[str, Field]:
    if (table := _LOCATION_TABLES.get(millimetres)) is None:
        metres = Divided(1000 // millimetres)
        table = {"coordinateX": into("position.x", metres), "coordinateY": into("position.y", metres), "mapId": _MAP_ID}
        _LOCATION_TABLES[millimetres] = table
    return table


def _map_id(message: Message, value: Any, path: str, stamp: Stamp) -> None:
    """CV50 sends `{"uniqueMapId": …}`; other machines may send the id itself."""
    if isinstance(value, dict) or (isinstance(value, str) and value.lstrip().startswith("{")):
        message.read_object({"uniqueMapId": _MAP_ID}, mapping(value), path, stamp, "mapId")
    else:
        message.read(_MAP_ID, value, path, stamp)


def _robot_status(message: Message, value: Any, path: str, stamp: Stamp) -> None:
    """The status as text; an object's members are kept, the status among them read."""
    if isinstance(value, dict):
        message.read_object(_ROBOT_STATUS_KEYS, value, path, stamp, "robotStatus")
    elif isinstance(value, str) and value.lstrip().startswith("{"):
        message.read_object(_ROBOT_STATUS_KEYS, mapping(value), path, stamp, "robotStatus")
    else:
        message.read(_ROBOT_STATUS, value, path, stamp)


def _settings(message: Message, value: Any, path: str, stamp: Stamp) -> None:
    """Each setting is an object of its own, mostly with one member. The PIN code is not taken, redacted or not."""
    for key, setting in mapping(value).items():
        inner = f"{path}.{key}"
        if key in _SETTINGS_SECRET:
            continue
        fields = _SETTINGS.get(key)
        if fields is None:
            message.keep(f"settings.{key}", setting, inner, stamp)
        elif isinstance(setting, dict):
            message.read_object(fields, setting, inner, stamp, f"settings.{key}")
        else:
            name, field = next(iter(fields.items()))
            message.read(field, setting, f"{inner}.{name}", stamp)


def _wifi_status(message: Message, value: Any, path: str, stamp: Stamp) -> None:
    """Signal strength in dBm. What identifies the network is not taken, redacted or not."""
    members = {key: member for key, member in mapping(value).items() if key not in _WIFI_IDENTITY}
    message.read_object(_WIFI_STATUS, members, path, stamp, "wifiStatus")


def _cleaning_report(message: Message, value: Any, path: str, stamp: Stamp) -> None:
    """A cleaning report as an event; its id makes one event of the socket's and REST's copy."""
    report = mapping(value)
    name = report.get("reportId")
    timed = "finishedAt" if report.get("finishedAt") else "startedAt"
    at = message.stamp(report[timed], f"{path}.{timed}" if path else timed) if report.get(timed) else stamp
    message.event(VendorEvent("cleaning_report", None if name is None else str(name), at, report))


_READERS: Mapping[str, _Reader] = {
    "location": _location,
    "pose": _members(_POSE, "pose"),
    "machinePosition": _members(_GPS, "machinePosition"),
    "machinePosistion": _members(_GPS, "machinePosition"),  # sic
    "repeatProgress": _members(_REPEAT_PROGRESS, "repeatProgress"),
    "mcuMainInfo": _members(_MCU_MAIN_INFO, "mcuMainInfo"),
    "serviceCounter": _members(_SERVICE_COUNTER, "serviceCounter"),
    "robotStatus": _robot_status,
    "mapId": _map_id,
    "settings": _settings,
    "wifiStatus": _wifi_status,
    "cleaningReport": _cleaning_report,
}


def _read_state(message: Message, name: str, value: Any, path: str, stamp: Stamp) -> None:
    """One state or datapoint, whichever way it came."""
    if value is None:
        return
    if (reader := _READERS.get(name)) is not None:
        try:
            reader(message, value, path, stamp)
        except FieldError as error:
            message.problem(path, error)
    elif (field := _SCALARS.get(name)) is not None:
        message.read(field, value, path, stamp)
    else:
        message.keep(name, value, path, stamp)


_DATAPOINTS_FRAME = {"type", "data", "timestamp"}


def datapoints(message: Message) -> None:
    """`{"type":"datapoints","data":{<datapoint>: …},"timestamp":<epoch ms>}`.

    Source: Kärcher's API document, «Datapoints response».
    """
    payload = mapping(message.payload())
    data = member(payload, "data")
    stamp = message.stamp(payload.get("timestamp"), "timestamp")
    for name, value in data.items():
        _read_state(message, name, value, f"data.{name}", stamp)
    if len(payload) > len(_DATAPOINTS_FRAME):
        message.keep_others(payload, _DATAPOINTS_FRAME, stamp)


def status(message: Message) -> None:
    """One machine of the statuses' answer: each state has its own time."""
    message.is_polled_state = True
    payload = mapping(message.payload())
    message.contact("connection.last_connected", payload.get("lastConnected"), "lastConnected")
    contact = message.contact("connection.last_contact", payload.get("lastContact"), "lastContact")
    message.polled(*([contact] if contact is not None else ()))
    message.keep_others(payload, _STATUS_MEMBERS, message.received)
    states = payload.get("states")
    if states is None and (payload.get("lastConnected") or payload.get("lastContact")):
        return  # «only basic information may be available» of non-robotic devices
    if states is None:
        raise FieldError("missing", "states")
    if not isinstance(states, list):
        raise FieldError("wrong_type", f"states: an array is due, found {shown(states)}")
    for index, state in enumerate(states):
        path = f"states[{index}]"
        if not isinstance(state, dict) or not isinstance(state.get("name"), str):
            message.problem(path, FieldError("missing", "name"))
            continue
        stamp = message.stamp(state.get("timestamp"), f"{path}.timestamp")
        if contact is None:
            message.polled(stamp)
        _others(message, state, path, stamp)
        _read_state(message, state["name"], state.get("value"), f"{path}.value", stamp)


_STATUS_MEMBERS = {"machineId", "materialNumber", "serialNumber", "lastConnected", "lastContact", "states"}
_STATE_MEMBERS = {"name", "value", "timestamp"}


def _others(message: Message, state: Mapping[str, Any], path: str, stamp: Stamp) -> None:
    """Members of a state beside the documented ones, under the state's name."""
    for name, value in state.items():
        if name not in _STATE_MEMBERS:
            message.keep(f"{state['name']}.{name}", value, f"{path}.{name}", stamp)


def notification(message: Message) -> None:
    """One notification. It has no id: category, code, type and `recordedAt` make it (docs/contract.md, «Alarms»)."""
    payload = mapping(message.payload())
    recorded = payload.get("recordedAt")
    stamp = message.stamp(recorded if recorded is not None else payload.get("receivedAt"), "recordedAt")
    identity = [payload.get(name) for name in ("category", "code", "type", "recordedAt")]
    known = any(part is not None for part in identity)
    word = payload.get("severity")
    message.event(
        VendorEvent(
            "notification",
            "\x1f".join(str(part) for part in identity) if known else None,
            stamp,
            _inner_json(payload, "data"),
            None if word is None else severity_of_word(word)[0],
            _title(payload),
        )
    )


def _inner_json(payload: dict[str, Any], name: str) -> dict[str, Any]:
    """The payload with JSON in the string `name` read; broken inner JSON stays the text it is."""
    value = payload.get(name)
    if not isinstance(value, str):
        return payload
    try:
        return {**payload, name: load_json(value.encode())}
    except FieldError:
        return payload


def _title(payload: Mapping[str, Any]) -> str | None:
    parts = [str(payload[name]) for name in ("type", "code") if payload.get(name) is not None]
    return " ".join(parts) or None


def cleaning_report(message: Message) -> None:
    """One cleaning report of REST."""
    _cleaning_report(message, message.payload(), "", message.received)


_CANCELLED = ("CANCELED", "CANCELLED")
_FAILED = ("FAILED", "REJECTED", "TIMED_OUT")


def command(message: Message) -> None:
    """A command's execution as events, one for each step it has taken (Kärcher's API document, «execution details»)."""
    payload = mapping(message.payload())
    steps = payload.get("executionEvents")
    if steps is not None and not isinstance(steps, list):
        raise FieldError("wrong_type", f"executionEvents: an array is due, found {shown(steps)}")
    facts = {key: value for key, value in payload.items() if key != "executionEvents"}
    if not steps:  # its history only: that it was sent
        _command_event(message, facts, {"updatedAt": payload.get("createdAt")}, "createdAt")
    for index, step in enumerate(steps or []):
        path = f"executionEvents[{index}]"
        if isinstance(step, dict):
            _command_event(message, facts, step, f"{path}.updatedAt")
        else:
            message.problem(path, FieldError("wrong_type", f"an object is due, found {shown(step)}"))


def _command_event(message: Message, facts: dict[str, Any], step: dict[str, Any], path: str) -> None:
    """The document spells «cancelled» in two ways; they are one status."""
    status = step.get("status")
    status = "CANCELLED" if status in _CANCELLED else status
    execution, name = facts.get("executionId"), facts.get("commandName")
    words = [str(word) for word in (name, status) if word is not None]
    message.event(
        VendorEvent(
            "command_execution",
            None if execution is None else "\x1f".join(map(str, (execution, status, step.get("updatedAt")))),
            message.stamp(step.get("updatedAt"), path),
            {**facts, **step, **({} if status is None else {"status": status})},
            "warning" if status in _FAILED else None,
            " ".join(words) or None,
        )
    )


HANDLERS: Mapping[str, Callable[[Message], None]] = {
    "karcher.datapoints": datapoints,
    "karcher.status": status,
    "karcher.notification": notification,
    "karcher.cleaning.report": cleaning_report,
    "karcher.command": command,
}
