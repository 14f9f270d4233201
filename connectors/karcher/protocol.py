"""Kärcher's messages: bytes in, envelopes out. Pure. Source: Kärcher's API document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import msgspec

from connectors.common.dead_letters import MessageSource, dead_letter, unparsable
from connectors.common.read_message import ReadMessage
from schemas.device import device_id, karcher_native_id
from schemas.envelope import Envelope, message_id
from schemas.json_reading import NotJson, elements, encode, members, read_json, without_bom
from schemas.redact import redact, redact_value
from schemas.timestamps import format_iso, from_millis, parse_iso
from schemas.wire import Device, Problem

VENDOR = "karcher"
DATAPOINTS = "karcher.datapoints"
STATUS = "karcher.status"
NOTIFICATION = "karcher.notification"
REPORT = "karcher.cleaning.report"
COMMAND = "karcher.command"

MACHINES_PER_REQUEST = 10
"""Machines per request. Kärcher's API document: «machineIds: <= 10 items» (statuses)."""

_FINISHED = frozenset(
    {"SUCCEEDED", "FAILED", "CANCELLED", "REJECTED", "TIMED_OUT", "TIMEOUT", "EXPIRED", "REMOVED", "DELETED"}
)
"""Final statuses. The document names SUCCEEDED and CANCELLED (also spelt CANCELED)."""

_IDENTITY = ("machineId", "materialNumber", "serialNumber")


class AnswerError(ValueError):
    """A REST answer that differs from the document."""


@dataclass(frozen=True)
class Machine:
    """A machine of the registry (`GET /machines/specifications`)."""

    machine_id: str
    material_number: str
    serial_number: str
    device: Device

    @property
    def device_id(self) -> str:
        """`karcher:<material>/<serial>`."""
        return self.device.device_id


@dataclass
class Page:
    """One page of a paged answer: its elements as they stand in the answer, byte for byte."""

    items: list[bytes]
    errors: list[tuple[str, str]] = field(default_factory=list)
    """Machine id and message, of `errors` (statuses)."""
    next_cursor: str | None = None


def socket_url(base: str, material_number: str, serial_number: str, token: str) -> str:
    """The WebSocket's URL. It contains the token and must never be logged."""
    query = {"materialNumber": material_number, "serialNumber": serial_number, "accessToken": token}
    return f"{base}?{urlencode(query)}"


class _PageInfo(msgspec.Struct):
    hasNextPage: bool = False
    endCursor: str | None = None


class _Answer(msgspec.Struct):
    data: list[msgspec.Raw] | None = None
    errors: list[dict[str, Any]] | None = None
    pageInfo: _PageInfo | None = None


def read_page(body: bytes) -> Page:
    """A list answer: `{"data": […], "errors": […], "pageInfo": {…}}`, or a bare array. AnswerError otherwise."""
    try:
        if without_bom(body).lstrip()[:1] == b"[":
            return Page(elements(body))
        answer, items = _answer(body)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise AnswerError(str(error)) from error
    more = answer.pageInfo is not None and answer.pageInfo.hasNextPage
    return Page(
        items,
        [(_id(e.get("machineId")), str(e.get("message", ""))) for e in answer.errors or []],
        answer.pageInfo.endCursor if more and answer.pageInfo else None,
    )


def _answer(body: bytes) -> tuple[_Answer, list[bytes]]:
    """An answer and the elements of its `data`; one that holds NaN or follows a byte order mark is read, too."""
    try:
        answer = msgspec.json.decode(body, type=_Answer)
        return answer, [bytes(raw) for raw in answer.data or []]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        fields = members(body)
    rest = {name: read_json(fields[name]) for name in ("errors", "pageInfo") if name in fields}
    data = fields.get("data", b"null")
    return msgspec.convert(rest, type=_Answer), [] if data == b"null" else elements(data)


def read_machine(item: bytes, now: datetime) -> Machine:
    """A machine of the specifications. AnswerError where its ids are missing. The owner's asset id becomes the name."""
    fields = _object(item)
    generic = fields.get("generic")
    generic = generic if isinstance(generic, dict) else {}
    material, serial = _numbers(generic)
    machine_id = _id(fields.get("machineId"))
    if not (machine_id and material and serial):
        raise AnswerError("a machine needs machineId, materialNumber and serialNumber")
    known = ("model", "serialNumber", "resourceOwnerAssetId")
    attributes = {name: value for name, value in generic.items() if name not in known and value is not None}
    device = Device(
        device_id=device_id(VENDOR, karcher_native_id(material, serial)),
        vendor=VENDOR,
        updated_at=now,
        name=_text(generic.get("resourceOwnerAssetId")),
        model=_text(generic.get("model")),
        serial_number=serial,
        attributes=redact_value({**attributes, "machineId": machine_id}),
    )
    return Machine(machine_id, material, serial, device)


@dataclass(frozen=True)
class MachineNames:
    """What an element of the specifications that cannot be read says of which machine it is."""

    machine_id: str | None
    device_id: str | None

    def may_mean(self, machine_id: object, device: str) -> bool:
        """Whether the element may be that of a machine."""
        if self.machine_id is None and self.device_id is None:
            return True
        return machine_id == self.machine_id or device == self.device_id


def names_of(item: bytes) -> MachineNames:
    """Which machine an element of the specifications may be about that `read_machine` does not read."""
    fields = _object_or_none(item) or {}
    material, serial = _numbers(fields.get("generic"))
    device = device_id(VENDOR, karcher_native_id(material, serial)) if material and serial else None
    return MachineNames(_id(fields.get("machineId")) or None, device)


def _numbers(generic: object) -> tuple[str, str]:
    """Material and serial number; `serial` («material;serial») replaces missing ones."""
    fields = generic if isinstance(generic, dict) else {}
    material, _, serial = _id(fields.get("serial")).partition(";")
    return _id(fields.get("materialNumber")) or material, _id(fields.get("serialNumber")) or serial


def _id(value: object) -> str:
    """An id or number of a machine: text or an integer; "" for anything else, which may hold what must not be shown."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def received_time(item: bytes) -> datetime | None:
    """`receivedAt` of a notification, by which the list of them is sorted."""
    return _time((_object_or_none(item) or {}).get("receivedAt"))


def socket_message(payload: bytes, device: str, received_at: datetime, sequence: int) -> ReadMessage:
    """A message of a machine's WebSocket. `sequence` is its number on this connection.

    A cleaning report in it becomes an envelope of its own, with the id of the same report read by REST. The rest is
    kept unchanged.
    """
    try:
        clean = redact(payload)
    except NotJson as error:
        letter = unparsable(payload, error, MessageSource(VENDOR, DATAPOINTS, received_at, device))
        return ReadMessage(dead_letters=[letter])
    report, rest = _take_report(clean)
    envelopes = [] if report is None else [_report(report, device, received_at, "karcher/websocket")]
    if rest is not None:
        envelopes.append(_datapoints(rest, device, received_at, sequence))
    return ReadMessage(envelopes)


@dataclass(frozen=True)
class _Element:
    """An element of a list, of a known machine; `clean` is the redacted element."""

    device: str
    clean: bytes
    fields: dict[str, Any]
    received_at: datetime

    def envelope(self, message_type: str, identity: str, time: object) -> Envelope:
        """The element as an envelope; `time` is its time as the vendor writes it."""
        return Envelope(identity, message_type, "karcher/rest", self.device, self.received_at, self.clean, _time(time))


def status(item: bytes, devices: Mapping[str, str], received_at: datetime) -> ReadMessage:
    """One machine's element of the statuses; `devices` joins `machineId` to device id."""

    def envelope(element: _Element) -> Envelope:
        # All of its times are the vendor's, so a status that has not changed is the same message.
        identity = message_id([STATUS, element.device, element.clean])
        return element.envelope(STATUS, identity, element.fields.get("lastContact"))

    return _of_machine(item, MessageSource(VENDOR, STATUS, received_at), devices, envelope)


def notification(item: bytes, devices: Mapping[str, str], received_at: datetime) -> ReadMessage:
    """One customer notification. It has no id: device, category, code, type and `recordedAt` identify it, and its
    `status` and `severity` a version of it (docs/contract.md, «Alarms»).
    """

    def envelope(element: _Element) -> Envelope:
        names = ("category", "code", "type", "recordedAt", "status", "severity")
        parts = [str(element.fields.get(name)) for name in names]
        identity = message_id([NOTIFICATION, element.device, *parts])
        return element.envelope(NOTIFICATION, identity, element.fields.get("recordedAt"))

    return _of_machine(item, MessageSource(VENDOR, NOTIFICATION, received_at), devices, envelope)


def cleaning_report(item: bytes, devices: Mapping[str, str], received_at: datetime) -> ReadMessage:
    """One cleaning report of REST. It names the machine by material and serial number as well."""
    fields = _object_or_none(item) or {}
    material, serial = _id(fields.get("materialNumber")), _id(fields.get("serialNumber"))
    if material and serial:
        native = karcher_native_id(material, serial)
        # where the registry knows the machine's id, it decides: a report may have the family's first material number
        devices = {str(fields.get("machineId")): device_id(VENDOR, native), **devices}

    def envelope(element: _Element) -> Envelope:
        return _report(element.clean, element.device, received_at, "karcher/rest")

    return _of_machine(item, MessageSource(VENDOR, REPORT, received_at), devices, envelope)


@dataclass(frozen=True)
class Execution:
    """A command that was sent to a machine, as in the machine's history."""

    execution_id: str
    created_at: datetime | None
    item: bytes


def read_execution(item: bytes) -> Execution:
    """An element of a machine's command history. AnswerError where it has no id."""
    fields = _object(item)
    execution_id = fields.get("executionId")
    if not isinstance(execution_id, str) or not execution_id:
        raise AnswerError("an execution needs an executionId")
    return Execution(execution_id, _time(fields.get("createdAt")), item)


@dataclass
class ExecutionDetails:
    """The outcome of an execution's details: an envelope for each of its events, oldest first."""

    message: ReadMessage
    finished: bool


def execution(details: bytes, device: str, received_at: datetime) -> ExecutionDetails:
    """Read an execution's details, with or without `data` around them (the document shows both), or its element of the
    history. The latter has no events and becomes one envelope.

    The same event has the same id in every answer, however its status is spelt.
    """
    source = MessageSource(VENDOR, COMMAND, received_at, device)
    try:
        clean = redact(details)
    except NotJson as error:
        return ExecutionDetails(ReadMessage(dead_letters=[unparsable(details, error, source)]), finished=False)
    fields = _object_or_none(clean) or {}
    data = fields.get("data")
    fields = data if isinstance(data, dict) and "executionId" in data else fields
    execution_id = fields.get("executionId")
    if not isinstance(execution_id, str):
        letter = dead_letter(clean, source, Problem(path="executionId", reason="missing", detail="no executionId"))
        return ExecutionDetails(ReadMessage(dead_letters=[letter]), finished=False)
    listed = fields.get("executionEvents")
    events: list[Any] = listed[::-1] if isinstance(listed, list) else [None]
    envelopes = [_execution_event(fields, event, execution_id, device, received_at) for event in events]
    return ExecutionDetails(ReadMessage(envelopes), any(_status_of(event) in _FINISHED for event in events))


def _execution_event(
    fields: dict[str, Any], event: Any, execution_id: str, device: str, received_at: datetime
) -> Envelope:
    at = event.get("updatedAt") if isinstance(event, dict) else fields.get("createdAt")
    body = {**fields, "executionEvents": [] if event is None else [event]}
    what = _status_of(event) or ("" if event is None else json.dumps(event, sort_keys=True, default=_as_written))
    identity = message_id([COMMAND, device, execution_id, what, str(at)])
    return Envelope(identity, COMMAND, "karcher/rest", device, received_at, encode(body), _time(at))


def _status_of(event: Any) -> str:
    """An event's status, with one spelling for «cancelled» (Kärcher's API document has two)."""
    status = str(event.get("status") or "").upper() if isinstance(event, dict) else ""
    return "CANCELLED" if status == "CANCELED" else status


def chunks(machine_ids: list[str]) -> Iterator[list[str]]:
    """The machine ids of each request."""
    for start in range(0, len(machine_ids), MACHINES_PER_REQUEST):
        yield machine_ids[start : start + MACHINES_PER_REQUEST]


def _of_machine(
    item: bytes, source: MessageSource, devices: Mapping[str, str], envelope: Callable[[_Element], Envelope]
) -> ReadMessage:
    """Read an element that names its `machineId`; a dead letter where it is no JSON or the machine is not known."""
    try:
        clean = redact(item)
    except NotJson as error:
        return ReadMessage(dead_letters=[unparsable(item, error, source)])
    fields = _object_or_none(clean)
    machine_id = fields.get("machineId") if fields else None
    device = devices.get(machine_id) if isinstance(machine_id, str) else None
    if fields is not None and device is not None:
        return ReadMessage([envelope(_Element(device, clean, fields, source.received_at))])
    if isinstance(machine_id, str):
        problem = Problem("machineId", "unknown_machine", "the registry does not know this machineId")
    else:
        problem = Problem("machineId", "missing", "no machineId")
    return ReadMessage(dead_letters=[dead_letter(clean, source, problem, redacted=True)])


def _take_report(payload: bytes) -> tuple[bytes | None, bytes | None]:
    """The cleaning report of a socket message, and what is left of the message; byte for byte where there is none."""
    if b'"cleaningReport"' not in payload:
        return None, payload
    try:
        message = members(payload)
        data = members(message["data"])
        report = data.pop("cleaningReport")
        if not read_json(report).get("reportId"):
            return None, payload
    except (NotJson, KeyError, AttributeError):  # not shaped as documented: the normaliser reports that
        return None, payload
    if not data:
        return report, None
    return report, _joined({**message, "data": _joined(data)})


def _joined(fields: Mapping[str, bytes]) -> bytes:
    return encode({name: msgspec.Raw(value) for name, value in fields.items()})


def _as_written(number: msgspec.Raw) -> str:
    """A number that no double holds, for an identity."""
    return bytes(number).decode()


def _report(report: bytes, device: str, received_at: datetime, source: str) -> Envelope:
    """The envelope of a report. Its id covers the vendor's id and the content: a changed report is a new version."""
    fields = _object(report)
    content = {name: value for name, value in fields.items() if name not in _IDENTITY}
    canonical = json.dumps(content, sort_keys=True, default=_as_written)
    identity = message_id([REPORT, device, str(fields.get("reportId")), canonical])
    return Envelope(identity, REPORT, source, device, received_at, report, _time(fields.get("finishedAt")))


def _datapoints(payload: bytes, device: str, received_at: datetime, sequence: int) -> Envelope:
    stamp = (_object_or_none(payload) or {}).get("timestamp")
    time = _epoch(stamp)
    parts: list[str | bytes] = [DATAPOINTS, device, payload]
    if time is None:  # equal payloads without a time are no duplicates
        parts += [format_iso(received_at), str(sequence)]
    return Envelope(message_id(parts), DATAPOINTS, "karcher/websocket", device, received_at, payload, time)


def _object(item: bytes) -> dict[str, Any]:
    fields = _object_or_none(item)
    if fields is None:
        raise AnswerError("not a JSON object")
    return fields


def _object_or_none(item: bytes) -> dict[str, Any] | None:
    try:
        fields = read_json(item)
    except NotJson:
        return None
    return fields if isinstance(fields, dict) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _time(value: object) -> datetime | None:
    try:
        return parse_iso(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def _epoch(value: object) -> datetime | None:
    """Epoch milliseconds as number or string."""
    try:
        return from_millis(float(value)) if isinstance(value, (int, float, str)) and value is not True else None
    except (ValueError, OverflowError):
        return None
