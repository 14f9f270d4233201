"""The device channel: ROS messages as JSON, relayed commands, other clients' chatter. Pure.

Source: Ogmen's API document, «This WebSocket connection allows clients …». The document only names the messages; their
shapes are assumed to be ROS's own, beside `topic`, or below `msg` or `data` as rosbridge has them. Stamps are those of
ROS 2 or ROS 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from connectors.common.dead_letters import MessageSource
from connectors.common.read_message import ReadMessage
from connectors.ogmen.account_data import clean, unusable
from connectors.ogmen.privacy import PrivacyGate
from connectors.ogmen.protocol import VENDOR
from schemas.envelope import Envelope, message_id
from schemas.json_reading import NotJson, without_bom
from schemas.timestamps import format_iso
from schemas.topics import MAX_MESSAGE_BYTES
from schemas.wire import Problem

CHANNEL = "ogmen.channel"

_GREETING = re.compile(r"\s*websocket connected successfully", re.IGNORECASE)
_TIMED = re.compile(rb'"(?:stamp|timestamp|recorded_at)"\s*:\s*[{"\d]')
_FRAME = re.compile(r"[\w/-]{0,100}", re.ASCII)
"""A frame's name that cannot contain anything else."""
_NUMBERS = b"0123456789-+.eE, \t\r\n"
_ENABLE_PRIVACY = "enable_privacy"
_LARGEST = MAX_MESSAGE_BYTES - 16 * 1024
"""The largest message that Kafka takes, less room for key and headers."""
_MANY_CELLS = 1000


class _Stamp(msgspec.Struct, forbid_unknown_fields=True):
    sec: int | None = None
    nanosec: int = 0
    secs: int | None = None
    nsecs: int = 0

    def seconds(self) -> float:
        """Epoch seconds; 0 where the robot has no time."""
        return (self.sec or self.secs or 0) + (self.nanosec or self.nsecs) / 1e9


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    stamp: _Stamp
    frame_id: str = ""
    seq: int = 0


class _Vector(msgspec.Struct, forbid_unknown_fields=True):
    x: float
    y: float
    z: float


class _Quaternion(msgspec.Struct, forbid_unknown_fields=True):
    x: float
    y: float
    z: float
    w: float


class _Pose(msgspec.Struct, forbid_unknown_fields=True):
    position: _Vector
    orientation: _Quaternion


class _PoseWithCovariance(msgspec.Struct, forbid_unknown_fields=True):
    pose: _Pose
    covariance: list[float] = []


class _Twist(msgspec.Struct, forbid_unknown_fields=True):
    linear: _Vector
    angular: _Vector


class _TwistWithCovariance(msgspec.Struct, forbid_unknown_fields=True):
    twist: _Twist
    covariance: list[float] = []


class _Odometry(msgspec.Struct, forbid_unknown_fields=True):
    """ROS `nav_msgs/Odometry`. A message of any other shape is not sampled but forwarded."""

    header: _Header
    pose: _PoseWithCovariance
    topic: str = ""
    child_frame_id: str = ""
    twist: _TwistWithCovariance | None = None

    def is_plain(self) -> bool:
        """Whether it contains nothing but numbers and the names of frames."""
        return bool(_FRAME.fullmatch(self.header.frame_id) and _FRAME.fullmatch(self.child_frame_id))


class _Wrapped(msgspec.Struct, forbid_unknown_fields=True):
    topic: str
    msg: _Odometry | None = None
    data: _Odometry | None = None
    op: str = ""
    type: str = ""


class _Message(msgspec.Struct):
    topic: Any = None
    message: Any = None
    command: Any = None
    action: Any = None


_decode_odometry = msgspec.json.Decoder(_Odometry).decode
_decode_wrapped = msgspec.json.Decoder(_Wrapped).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError)


@dataclass(frozen=True)
class Sampling:
    """Which odometry of a robot is kept: at most `hz` messages per second, and only of a robot that moves.

    A message is kept when 1/`hz` seconds have passed since the last one kept, and the robot has since moved by `metres`
    or turned by `degrees`. After `still_seconds` it is kept in any case. 0 turns a criterion off.
    """

    hz: float = 0.0
    metres: float = 0.0
    degrees: float = 0.0
    still_seconds: float = 10.0

    @property
    def off(self) -> bool:
        """Whether every message is kept."""
        return not (self.hz or self.metres or self.degrees)


@dataclass(frozen=True, slots=True)
class _Kept:
    """The odometry kept last: the robot's time and ours, in seconds, and the pose."""

    at: float
    received: float
    x: float
    y: float
    z: float
    orientation: tuple[float, float, float, float]


@dataclass
class Channel:
    """The channel of one robot: classifies its messages one by one, and samples odometry by the robot's own time."""

    device: str
    sampling: Sampling = Sampling()
    gate: PrivacyGate = field(default_factory=lambda: PrivacyGate(on=False))
    _sequence: int = 0
    _kept: _Kept | None = None

    def message(self, payload: bytes, received_at: datetime) -> ReadMessage:
        """One message.

        `left_out` is `greeting`, `chatter` (no topic and no command: other clients talking), `privacy`, `sampling`
        (odometry beyond the rate) or `deadband` (odometry of a robot that stands still).
        """
        self._sequence += 1
        payload = without_bom(payload)
        try:
            message = _decode_message(payload) if payload.lstrip()[:1] == b"{" else None
        except _UNREADABLE:
            message = None
        if message is None:
            return self._no_object(payload, received_at)
        topic = message.topic.strip("/") if isinstance(message.topic, str) else None
        if message.topic is None and not self._is_command(message, received_at):
            greeting = isinstance(message.message, str) and _GREETING.match(message.message)
            return ReadMessage(left_out="greeting" if greeting else "chatter")
        if self.gate.hides():
            return ReadMessage(left_out="privacy")
        if topic == "map":
            return self._forward(payload, received_at, _clean_map)
        odometry, plain = _odometry(payload) if topic == "odom" else (None, False)
        if odometry is not None and (left_out := self._left_out(odometry, received_at)):
            return ReadMessage(left_out=left_out)
        return self._forward(payload, received_at, _as_it_is if plain else clean)

    def _is_command(self, message: _Message, now: datetime) -> bool:
        """Whether another client sent the robot a command. One that enables the privacy mode is heeded at once."""
        words = [word for word in (message.command, message.action) if isinstance(word, str) and word]
        if _ENABLE_PRIVACY in words and self.gate.on is False:
            self.gate.observe(True, now)
        return bool(words)

    def _no_object(self, payload: bytes, received_at: datetime) -> ReadMessage:
        """Not a JSON object: plain text is chatter; anything else is forwarded, to be reported by the normaliser."""
        if _is_plain_text(payload):
            return ReadMessage(left_out="chatter")
        return self._forward(payload, received_at, clean)

    def _forward(self, payload: bytes, received_at: datetime, cleaned: Callable[[bytes], bytes]) -> ReadMessage:
        """The message as an envelope; a dead letter where it is too large or cannot be parsed."""
        try:
            if len(payload) > _LARGEST:
                raise NotJson("too_large", f"{len(payload)} bytes; the limit is {_LARGEST}")
            kept = cleaned(payload)
        except NotJson as error:
            source = MessageSource(VENDOR, CHANNEL, received_at, self.device)
            problem = Problem(path="", reason=error.reason, detail=str(error))
            letter = unusable(payload, source, problem, hidden=self.gate.hides())
            return ReadMessage(dead_letters=[letter])
        if self.gate.hides():  # no object, but JSON
            return ReadMessage(left_out="privacy")
        parts: list[str | bytes] = [CHANNEL, self.device, kept]
        if not _TIMED.search(kept):  # equal messages without a time are no duplicates
            parts += [format_iso(received_at), str(self._sequence)]
        return ReadMessage(
            [Envelope(message_id(parts), CHANNEL, f"{VENDOR}/websocket", self.device, received_at, kept)]
        )

    def _left_out(self, odometry: _Odometry, received_at: datetime) -> str | None:
        """Why this odometry is not kept; None where it is."""
        received = received_at.timestamp()
        try:
            at = odometry.header.stamp.seconds() or received
            stamped = datetime.fromtimestamp(at, received_at.tzinfo)
        except (OverflowError, ValueError, OSError):
            return None
        if self.gate.spans and self.gate.hides(stamped):
            return "privacy"
        position, turn = odometry.pose.pose.position, odometry.pose.pose.orientation
        now = _Kept(at, received, position.x, position.y, position.z, (turn.x, turn.y, turn.z, turn.w))
        reason = self._reason_to_leave_out(self._kept, now)
        if reason is None:
            self._kept = now
        return reason

    def _reason_to_leave_out(self, last: _Kept | None, now: _Kept) -> str | None:
        if last is None or self.sampling.off:
            return None
        # a late message counts like an early one; where the robot's clock stands still, ours counts
        passed = max(abs(now.at - last.at), now.received - last.received if now.at == last.at else 0.0)
        if self.sampling.hz and passed < 0.9 / self.sampling.hz:  # a tenth of the period allows for the robot's jitter
            return "sampling"
        if passed >= 0.99 * self.sampling.still_seconds or self._moved(last, now):
            return None
        return "deadband"

    def _moved(self, last: _Kept, now: _Kept) -> bool:
        metres, degrees = self.sampling.metres, self.sampling.degrees
        if not (metres or degrees):
            return True
        far = math.dist((last.x, last.y, last.z), (now.x, now.y, now.z))
        return bool((metres and far >= metres) or (degrees and _angle(last.orientation, now.orientation) >= degrees))


def _angle(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The angle between two orientations in degrees; quaternions need not be normalised, `q` and `−q` are the same."""
    size = math.hypot(*one) * math.hypot(*other)
    if size == 0:
        return 0.0 if one == other else 180.0
    cosine = abs(sum(a * b for a, b in zip(one, other, strict=True))) / size
    return math.degrees(2 * math.acos(min(1.0, cosine)))


def _odometry(payload: bytes) -> tuple[_Odometry | None, bool]:
    """The odometry as ROS defines it, and whether there can be nothing else in it.

    None for any other message, which is forwarded.
    """
    try:
        odometry = _decode_odometry(payload)
        return odometry, odometry.is_plain()
    except _UNREADABLE:
        pass
    try:
        wrapped = _decode_wrapped(payload)
    except _UNREADABLE:
        return None, False
    return wrapped.msg or wrapped.data, False


def _as_it_is(payload: bytes) -> bytes:
    return payload


def _clean_map(payload: bytes) -> bytes:
    """A map without secrets. Its cells, millions of numbers, are set aside: searching them would take seconds."""
    try:
        members = _decode_members(payload)
    except _UNREADABLE:
        return clean(payload)
    cells: dict[str, msgspec.Raw] = {}
    changed = False
    for name, member in members.items():
        raw = bytes(member)
        if len(raw) > _MANY_CELLS and raw[:1] == b"[" and not raw[1:-1].translate(None, _NUMBERS):
            cells[name] = member
            members[name] = msgspec.Raw(b"[]")
        elif name in ("msg", "data") and raw[:1] == b"{":
            inner = _clean_map(raw)
            changed |= inner != raw
            members[name] = msgspec.Raw(inner)
    beside = msgspec.json.encode(members)
    cleaned = clean(beside)
    if cleaned == beside and not changed:
        return payload
    kept = _decode_members(cleaned)
    return msgspec.json.encode(kept | {name: member for name, member in cells.items() if name in kept})


def _is_plain_text(payload: bytes) -> bool:
    """Whether it is a word, a number or a sentence: no broken object or array, no broken text."""
    if payload.lstrip()[:1] in (b"{", b"[", b""):
        return False
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
