"""What a handler does with a message whose values are not known yet (pure).

The handler gets a message in which a `Hole` stands for each value. A hole says whether it is a text or a number and
nothing else: whoever asks for more gets `ValueNeeded`, and so does no branch of a handler depend on a value unnoticed.
A text that is needed (the name of a ROS topic, the type of a sensor) becomes part of the shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, NoReturn

from schemas.metrics import UNKNOWN_UNIT, vendor_metric
from schemas.metrics import Kind as ValueKind
from streams.normalise.columnar.template import Kind, Template, structure_of
from streams.normalise.message import Field, Message, Options, Stamp
from streams.normalise.values import moment, number, text

_MAX_NEEDED = 8
_LONGEST_NAME = 200


class ValueNeeded(BaseException):
    """The handler needs to know the value of a hole; or of anything else that differs between messages (None).

    No `Exception`, so that no handler takes it for a bad field.
    """

    def __init__(self, hole: int | None) -> None:
        super().__init__()
        self.hole = hole


def _needed(self: Any, *_: Any) -> NoReturn:
    raise ValueNeeded(object.__getattribute__(self, "number"))


class Hole:
    """A value that is not known."""

    __slots__ = ("kind", "number")

    def __init__(self, number: int, kind: Kind) -> None:
        object.__setattr__(self, "number", number)
        object.__setattr__(self, "kind", kind)

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return (str, int, float)[object.__getattribute__(self, "kind")]
        _needed(self)

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _needed
    __hash__ = __bool__ = __len__ = __iter__ = __contains__ = __getitem__ = _needed
    __str__ = __repr__ = __format__ = __int__ = __float__ = __index__ = _needed
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _needed
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __pos__ = __abs__ = _needed
    __and__ = __rand__ = __or__ = __ror__ = __round__ = __trunc__ = __bytes__ = _needed


def is_hole(value: object) -> bool:
    """Whether a value is not known."""
    return type(value) is Hole


class Time:
    """When a reading was observed: by the vendor's time, which is sound in all messages of a shape, or by receipt."""

    quality = "ok"

    number = None  # of a hole that could become part of the shape

    def __init__(self, *holes: int) -> None:
        self.holes = holes
        """Numbers of the holes that have the vendor's times, of which it is the latest; none: when it was received."""
        self.source = "vendor" if holes else "received"

    @property
    def at(self) -> NoReturn:
        """Is not known."""
        raise ValueNeeded(None)

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _needed


class TracedReading(NamedTuple):
    """A reading that each message of the shape has."""

    metric: str
    kind: ValueKind
    unit: str | None
    value: Any
    """The value, where it is the same in all messages."""
    hole: int | None
    """Number of the hole that has the value."""
    parse: Callable[[Any], Any] | None
    """How the value in the hole is read."""
    time: Time


class _NoEnvelope:
    """All that is known of the envelope is its type."""

    def __init__(self, message_type: str) -> None:
        self.type = message_type

    def __getattr__(self, name: str) -> NoReturn:
        raise ValueNeeded(None)


class _TracedMessage(Message):
    """Notes what would be read. What yields anything but sound readings is not for the columnar path."""

    __slots__ = ("payload_", "traced")

    def __init__(self, message_type: str, vendor: str, options: Options, payload: Any) -> None:
        envelope: Any = _NoEnvelope(message_type)
        super().__init__(envelope, vendor, options)
        self.payload_ = payload
        self.traced: list[TracedReading] = []

    def payload(self) -> Any:
        return self.payload_

    def polled(self, *contacts: Stamp) -> NoReturn:
        raise ValueNeeded(None)

    contact = event = problem = vendor_time = result = polled  # type: ignore[assignment]

    @property
    def received(self) -> Any:
        return Time()

    def stamp(self, value: Any, path: str, read: Callable[[Any], datetime | None] = moment) -> Any:
        if value is None:
            return self.received
        if read is not moment:
            raise ValueNeeded(None)
        return self.written_time(value)

    def latest(self, stamps: Sequence[Any]) -> Any:
        holes = sorted({hole for stamp in stamps for hole in stamp.holes})
        if holes and not all(stamp.holes for stamp in stamps):
            raise ValueNeeded(None)  # one of them is the time of receipt, which may be later or not
        return Time(*holes)

    def written_time(self, value: Any) -> Any:
        if not is_hole(value):
            raise ValueNeeded(None)
        return Time(_number(value))

    def read(self, into: Field, value: Any, path: str, stamp: Any) -> None:
        if is_hole(value):
            self.traced.append(
                TracedReading(into.metric, into.kind, into.unit, None, _number(value), into.parse, stamp)
            )
        elif value is not None:
            parsed = into.parse(value)  # FieldError: no message of this shape is sound
            if parsed is not None:
                self.add(into.metric, into.kind, parsed, into.unit, stamp)

    def read_object(
        self, table: Mapping[str, Field], members: Mapping[str, Any], path: str, stamp: Stamp, name: str = ""
    ) -> None:
        for key, value in members.items():
            field = table.get(key)
            if field is None:
                self.keep(f"{name}.{key}" if name else key, value, path, stamp)
            else:
                self.read(field, value, path, stamp)

    def keep(self, name: str, value: Any, path: str, stamp: Any) -> None:
        if not is_hole(value):
            super().keep(name, value, path, stamp)
        elif len(name) > _LONGEST_NAME:
            raise ValueNeeded(None)
        else:
            metric = vendor_metric(self.vendor, name)
            if isinstance(value, str):
                unknown = TracedReading(metric, "text", None, None, _number(value), text, stamp)
            else:
                unknown = TracedReading(metric, "number", UNKNOWN_UNIT, None, _number(value), number, stamp)
            self.traced.append(unknown)

    def add(self, metric: str, kind: ValueKind, value: Any, unit: str | None, stamp: Any) -> None:
        if is_hole(value):
            raise ValueNeeded(None)
        self.traced.append(TracedReading(metric, kind, unit, value, None, None, stamp))


def _number(hole: Any) -> int:
    value: int = object.__getattribute__(hole, "number")
    return value


class Trace(NamedTuple):
    """What a handler does with all messages of a shape."""

    template: Template
    readings: list[TracedReading]


class Traced(NamedTuple):
    """Whose messages are traced, and how."""

    handler: Callable[[Message], None]
    message_type: str
    vendor: str
    options: Options


def trace(subject: Traced, template: Template, values: list[bytes]) -> Trace | None:
    """What the handler does with messages of the template; None where that depends on more than a few texts.

    `values` are those of one such message: texts that the handler needs become part of the template.
    """
    known: dict[int, bytes] = {}
    while len(known) <= _MAX_NEEDED:
        narrowed = template.with_text(known)
        unknown = [number for number in range(len(values)) if number not in known]
        try:
            readings = _run(subject, narrowed)
        except ValueNeeded as needed:
            number = None if needed.hole is None else unknown[needed.hole]
            if number is None or template.kinds[number] is not Kind.TEXT:
                return None
            known[number] = values[number]
        except Exception:  # whatever it is, the general path has it, too
            return None
        else:
            return None if readings is None else Trace(narrowed, readings)
    return None


def _run(subject: Traced, template: Template) -> list[TracedReading] | None:
    holes = [Hole(number, kind) for number, kind in enumerate(template.kinds)]
    payload = structure_of(template, holes)
    message = _TracedMessage(subject.message_type, subject.vendor, subject.options, payload)
    subject.handler(message)
    metrics = {reading.metric for reading in message.traced}
    sound = not message.is_polled_state and 0 < len(message.traced) == len(metrics)
    return message.traced if sound else None
