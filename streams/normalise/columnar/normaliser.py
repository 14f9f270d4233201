"""Which messages go the columnar path, and what comes of them (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import compress, pairwise
from typing import Any

import numpy as np

from runtime.kafka_records.columns import Ints, RecordColumns
from runtime.kafka_records.fetched import RecordRun
from streams.normalise.columnar.envelopes import Devices, Envelopes, read_envelopes
from streams.normalise.columnar.payloads import LARGEST, Payloads
from streams.normalise.columnar.shape import MAX_READINGS, EnvelopeTexts, Origins, Shape
from streams.normalise.columnar.template import Template, template_of
from streams.normalise.columnar.trace import Traced, trace
from streams.normalise.duplicates import Route
from streams.normalise.message import Message, Options

FEWEST = 32
"""So many records are worth the columnar path; fewer cost less one by one."""
_SAMPLES = 16  # messages of no known shape that are looked at in a run of records
_TIMES_SEEN = 3  # before a shape is made of a template
_MAX_TYPES = 64
_MAX_SHAPES = 128
_MAX_VARIANTS = 16  # shapes of one template that differ in texts that a handler needs
_MAX_TEMPLATES = 4096


@dataclass(frozen=True, slots=True)
class ColumnarResults:
    """Records that went the columnar path: by increasing index, all that is needed to put their outputs in order."""

    index: list[int]
    routes: list[Route]
    offsets: list[int]
    keys: list[bytes]
    values: list[bytes]
    """Observations."""
    ids: list[bytes]
    digests: list[int]
    seconds: list[int]
    """When they were received."""
    readings: list[int]
    """Number of readings in each."""

    def runs(self) -> Iterator[tuple[int, int]]:
        """From which to which place records of one route follow one another without a gap."""
        index, routes = self.index, self.routes
        if index[-1] - index[0] == len(index) - 1 and len(set(routes)) == 1:
            yield 0, len(index)
            return
        gaps = [at for at in range(1, len(index)) if index[at] != index[at - 1] + 1 or routes[at] != routes[at - 1]]
        yield from pairwise([0, *gaps, len(index)])

    def part(self, first: int, last: int) -> ColumnarResults:
        """The results from one place up to, not including, another."""
        whole = slice(first, last)
        return self if last - first == len(self.index) else self._picked(lambda column: column[whole])

    def only(self, wanted: Sequence[bool]) -> ColumnarResults:
        """The wanted results."""
        return self._picked(lambda column: list(compress(column, wanted)))

    def _picked(self, pick: Callable[[list[Any]], list[Any]]) -> ColumnarResults:
        return ColumnarResults(*(pick(getattr(self, each.name)) for each in fields(self)))


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose messages are normalised, and how."""

    vendor: str
    handler_of: Callable[[str], Callable[[Message], None] | None]
    vendor_of: Callable[[str], str | None]
    options: Options
    excluded: Sequence[str]
    """Message types whose readings are compared with what was emitted before."""


class ColumnarNormaliser:
    """Learns the shapes of a partition's messages and normalises those that have one."""

    def __init__(self, topic: str, subject: Subject) -> None:
        self._topic = topic
        self._subject = subject
        self._devices = Devices(subject.vendor, subject.vendor_of)
        self._shapes: dict[str, ShapeBook] = {}

    def normalise(self, records: RecordRun) -> ColumnarResults | None:
        """What comes of those of the records that have a known shape; None where there is none of them."""
        if len(records) < FEWEST or (columns := records.columns) is None:
            return None
        if (envelopes := read_envelopes(columns, self._devices)) is None:
            return None
        payloads = Payloads([value if len(value) <= LARGEST else b"" for value in columns.texts(columns.value)])
        found = _Found(columns, envelopes, payloads)
        for route, which in envelopes.routes:
            among = np.flatnonzero(which & envelopes.sound & payloads.sound)
            if len(among) and (book := self._book(route[0], records.partition)) is not None:
                book.learn(columns, found.take(route, book, among))
        return found.results()

    def _book(self, message_type: str, partition: int) -> ShapeBook | None:
        if message_type not in self._shapes:
            handler = self._subject.handler_of(message_type)
            if handler is None or message_type in self._subject.excluded or len(self._shapes) >= _MAX_TYPES:
                return None
            origins = Origins(self._subject.vendor, self._topic, partition)
            subject = Traced(handler, message_type, self._subject.vendor, self._subject.options)
            self._shapes[message_type] = ShapeBook(subject, origins)
        return self._shapes[message_type]


class _Found:
    """Collects what comes of the records of a run, shape by shape."""

    def __init__(self, columns: RecordColumns, envelopes: Envelopes, payloads: Payloads) -> None:
        self._columns = columns
        self._envelopes = envelopes
        self._payloads = payloads
        self._index: list[int] = []
        self._routes: list[Route] = []
        self._values: list[bytes] = []
        self._readings: list[int] = []
        self._is_ordered = True

    def take(self, route: Route, book: ShapeBook, among: Ints) -> Ints:
        """Normalise those of the payloads that have a shape; return the others."""
        for shape in book.shapes:
            fitting = self._payloads.fitting(shape.template, among)
            if not len(fitting.index):
                continue
            made, sound = shape.observations(self._payloads, fitting, self._texts(fitting.index))
            index = fitting.index.tolist()
            if not sound.all():
                index = fitting.index[sound].tolist()
                made = list(compress(made, sound.tolist()))
            shape.hits += len(index)
            self._is_ordered = not self._index
            self._index += index
            self._routes += [route] * len(index)
            self._values += made
            self._readings += [shape.readings] * len(index)
            if len(fitting.index) == len(among):
                return among[:0]
            among = np.setdiff1d(among, fitting.index, assume_unique=True)
        return among

    def _texts(self, index: Ints) -> EnvelopeTexts:
        envelopes, places = self._envelopes, index.tolist()
        return EnvelopeTexts(
            [envelopes.ids[at] for at in places],
            [envelopes.devices[at].json for at in places],
            [envelopes.received[at] for at in places],
            list(map(b"%d".__mod__, self._columns.offsets[index].tolist())),
            envelopes.received_us[index],
        )

    def results(self) -> ColumnarResults | None:
        """All of them in the order of the records; None where there are none."""
        index, routes, values, readings = self._index, self._routes, self._values, self._readings
        if not index:
            return None
        if not self._is_ordered:
            order = sorted(range(len(index)), key=index.__getitem__)
            index, routes = [index[at] for at in order], [routes[at] for at in order]
            values, readings = [values[at] for at in order], [readings[at] for at in order]
        envelopes = self._envelopes
        offsets, seconds = self._columns.offsets.tolist(), (envelopes.received_us // 1_000_000).tolist()
        return ColumnarResults(
            index,
            routes,
            [offsets[at] for at in index],
            [envelopes.keys[at] for at in index],
            values,
            [envelopes.ids[at] for at in index],
            [envelopes.digests[at] for at in index],
            [seconds[at] for at in index],
            readings,
        )


class ShapeBook:
    """The shapes of one message type."""

    def __init__(self, subject: Traced, origins: Origins) -> None:
        self.shapes: list[Shape] = []
        """The most frequent first."""
        self._subject = subject
        self._origins = origins
        self._seen: Counter[Template] = Counter()
        self._made: Counter[Template] = Counter()
        self._hopeless: set[Template] = set()

    def learn(self, columns: RecordColumns, among: Ints) -> None:
        """Look at some of the records that had no known shape."""
        self.shapes.sort(key=lambda shape: -shape.hits)
        if not len(among):
            return
        del self.shapes[_MAX_SHAPES:]
        for at in among[:: max(1, len(among) // _SAMPLES)].tolist():
            start = int(columns.value.start[at])
            self._look_at(columns.data[start : start + int(columns.value.length[at])])

    def _look_at(self, payload: bytes) -> None:
        template, values = template_of(payload)
        if template in self._hopeless or self._made[template] >= _MAX_VARIANTS:
            return
        if len(self._seen) >= _MAX_TEMPLATES:
            self._seen.clear()
            self._made.clear()
            self._hopeless.clear()
        self._seen[template] += 1
        if self._seen[template] < _TIMES_SEEN:
            return
        self._made[template] += 1
        traced = trace(self._subject, template, values)
        if traced is None or len(traced.readings) > min(MAX_READINGS, self._subject.options.max_readings):
            self._hopeless.add(template)
        elif all(shape.template != traced.template for shape in self.shapes):
            self.shapes.append(Shape(traced, self._origins, self._subject.options))
