"""The envelopes of many records at once: those that our own connectors write (pure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from runtime.kafka_records.columns import Field, Flags, Ints, RecordColumns, distinct, rows
from schemas.envelope import HEADERS_AS_WRITTEN
from streams.normalise.columnar.template import PLAIN
from streams.normalise.columnar.times import written_times
from streams.normalise.duplicates import Route, device_mark, message_digest

_NAMES = tuple(name.encode() for name in HEADERS_AS_WRITTEN)
_SAFE = bytes(byte for byte in PLAIN if byte != ord('"'))
"""A text of these bytes is written in JSON as it is."""
_ID = 32
_MAX_DEVICES = 65_536
_HEX = b"0123456789abcdefABCDEF"


@dataclass(frozen=True, slots=True)
class Device:
    """What is known of a device by its id."""

    id: str
    json: bytes
    """The id as it is written within a JSON string."""
    mark: int
    """What distinguishes the digests of its messages' ids."""
    is_ours: bool
    """Whether it is a device of the vendor."""


@dataclass(frozen=True, slots=True)
class Envelopes:
    """The parts of envelopes that the columnar path needs."""

    routes: list[tuple[Route, Flags]]
    """Message types with their sources, and which of them have each."""
    ids: list[bytes]
    digests: list[int]
    """By which duplicates are recognised."""
    devices: list[Device]
    keys: list[bytes]
    received: list[bytes]
    """When they were received, as the outputs have it."""
    received_us: Ints
    sound: Flags
    """Which of them are as they should be; the others go the general path."""


class Devices(dict[bytes, Device]):
    """What is known of the devices of a vendor; bounded."""

    def __init__(self, vendor: str, vendor_of: Callable[[str], str | None]) -> None:
        super().__init__()
        self._vendor = vendor
        self._vendor_of = vendor_of

    def __missing__(self, written: bytes) -> Device:
        if len(self) >= _MAX_DEVICES:
            self.clear()
        try:
            name = written.decode()
        except UnicodeDecodeError:
            name = ""
        ours = self._vendor_of(name) == self._vendor
        device = self[written] = Device(name, msgspec.json.encode(name)[1:-1], device_mark(name), ours)
        return device


def read_envelopes(columns: RecordColumns, devices: Devices) -> Envelopes | None:
    """The envelopes of records that have the usual headers; None where none has."""
    if columns.names not in (_NAMES, _NAMES[:-1]):
        return None
    _, identity, kind, source, subject, received, content, *time = columns.headers
    received_us, sound = written_times(columns.buffer, received.start, received.length)
    for field in time:
        sound &= written_times(columns.buffer, field.start, field.length)[1]
    sound &= columns.regular
    sound &= (identity.length > 0) & (subject.length > 0) & (columns.key.length > 0) & (columns.value.length > 0)
    sound &= _are_texts(columns, content)
    if not sound.any():
        return None
    known = [devices[written] for written in columns.texts(subject)]
    sound &= np.fromiter((device.is_ours for device in known), np.bool_, len(known))
    ids = columns.texts(identity)
    if b"".join(ids).translate(None, _SAFE):
        sound &= np.fromiter((not each.translate(None, _SAFE) for each in ids), np.bool_, len(ids))
    sources = _texts_of(columns, source)
    routes = [
        ((message_type, name), which & there)
        for message_type, which in _texts_of(columns, kind)
        for name, there in sources
    ]
    digests = _digests(columns, identity, ids, known, sound)
    keys, at = columns.texts(columns.key), columns.texts(received)
    return Envelopes(routes, ids, digests, known, keys, at, received_us, sound)


def _texts_of(columns: RecordColumns, field: Field) -> list[tuple[str, Flags]]:
    """The different texts of a field and in which records they are; not empty, of ASCII."""
    return [(text.decode(), which) for text, which in distinct(columns, field) if text and text.isascii()]


def _are_texts(columns: RecordColumns, field: Field) -> Flags:
    """In which records a field is a text of ASCII, and not empty."""
    are = np.zeros(len(columns), np.bool_)
    for _, which in _texts_of(columns, field):
        are |= which
    return are


def _digests(
    columns: RecordColumns, field: Field, ids: Sequence[bytes], devices: Sequence[Device], sound: Flags
) -> list[int]:
    """`duplicates.message_digest` of each sound message."""
    found = rows(columns.buffer, field.start, _ID // 2).tobytes()  # there is padding behind the last
    if (field.length == _ID).all() and not found.translate(None, _HEX):
        numbers = np.frombuffer(bytes.fromhex(found.decode()), "<u8")
        marks = np.fromiter((device.mark for device in devices), np.uint64, len(devices))
        digests: list[int] = (numbers ^ marks).tolist()
        return digests
    return [
        message_digest(device.id, each.decode()) if usable else 0
        for each, device, usable in zip(ids, devices, sound.tolist(), strict=True)
    ]
