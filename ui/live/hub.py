"""What the topics bring, coalesced and passed on to browsers.

Twice per second, what has changed becomes one frame for all who look at the fleet, and one per device that somebody
looks at; so a device changes at most twice per second however often it reports. A viewer that takes its frames too
slowly loses them, and is asked to read the tables anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from schemas import wire
from ui.answers import json_bytes
from ui.live.records import alarm_fields, event_fields, milliseconds, reading_fields, reading_value
from ui.queries import SHOWN_METRICS

_QUEUED_FRAMES = 8
_MOST_ALARMS = 20_000
_MOST_EVENTS = 200
_MOST_READINGS = 2_000
_SHOWN = frozenset(SHOWN_METRICS)


@dataclass(eq=False)
class Subscriber:
    """One open page. `device` is the device it shows, if any."""

    device: str = ""
    frames: deque[bytes] = field(default_factory=deque)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    dropped: int = 0

    def offer(self, frame: bytes) -> None:
        """Add a frame; where too many wait, drop them all and ask for a fresh start."""
        if len(self.frames) >= _QUEUED_FRAMES:
            self.dropped += len(self.frames)
            self.frames.clear()
            frame = sse("resync", b"{}")
        self.frames.append(frame)
        self.ready.set()

    async def take(self, seconds: float) -> bytes:
        """The frames that wait, joined; empty if none came in time."""
        try:
            await asyncio.wait_for(self.ready.wait(), seconds)
        except TimeoutError:
            return b""
        self.ready.clear()
        joined = b"".join(self.frames)
        self.frames.clear()
        return joined


def sse(event: str, data: bytes) -> bytes:
    """A server-sent event."""
    return b"event: %s\ndata: %s\n\n" % (event.encode(), data)


class Hub:
    """The newest of each device since the start, what has changed since the last frame, and who wants to know.

    Used from one event loop.
    """

    def __init__(self) -> None:
        self.subscribers: set[Subscriber] = set()
        self.alarms: dict[str, dict[str, Any]] = {}
        """The alarms that changed since the start, by id: they are newer than the published table."""
        self.timelines: dict[str, list[dict[str, Any]]] = {}
        self.done: dict[str, wire.AlarmEvent] = {}
        """The alarm events by the id of the action that caused them."""
        self.acted = asyncio.Condition()
        self.newest_received: int = 0
        self._latest: dict[str, dict[str, Any]] = {}
        self._fleet: dict[str, dict[str, Any]] = {}
        self._readings: dict[str, dict[str, dict[str, Any]]] = {}
        self._changed_alarms: dict[str, dict[str, Any]] = {}
        self._events: deque[dict[str, Any]] = deque(maxlen=_MOST_EVENTS)

    @contextmanager
    def subscribed(self, device: str) -> Iterator[Subscriber]:
        """A subscriber while the block lasts. It begins with what is known of the fleet since the start."""
        one = Subscriber(device)
        one.offer(sse("changes", json_bytes({"devices": self._latest})))
        self.subscribers.add(one)
        try:
            yield one
        finally:
            self.subscribers.discard(one)

    def add_observation(self, observation: wire.Observation) -> None:
        """Take an observation."""
        self.newest_received = max(self.newest_received, milliseconds(observation.received_at))
        heard_at = observation.device_heard_at
        heard = milliseconds(heard_at) if heard_at is not None else 0  # 0: we asked, and heard nothing of the device
        shown = {r.metric: reading_value(r) for r in observation.readings if r.metric in _SHOWN and _counts(r)}
        for devices in (self._latest, self._fleet):
            known = devices.setdefault(observation.device_id, {"vendor": observation.vendor, "heard": 0, "metrics": {}})
            known["heard"] = max(known["heard"], heard)
            known["metrics"] |= shown
        if any(one.device == observation.device_id for one in self.subscribers):
            changed = self._readings.setdefault(observation.device_id, {})
            changed |= {r.metric: reading_fields(r) for r in observation.readings if _counts(r)}
            while len(changed) > _MOST_READINGS:
                del changed[next(iter(changed))]

    def add_events(self, events: wire.EventSet) -> None:
        """Take the events of one message."""
        self.newest_received = max(self.newest_received, milliseconds(events.received_at))
        self._events.extend(event_fields(events.device_id, events.vendor, one) for one in events.events)

    async def add_alarm_event(self, event: wire.AlarmEvent) -> None:
        """Take an entry of an alarm's timeline, and wake those who wait for the action that caused it."""
        known = self.alarms.get(event.alarm.alarm_id)
        if known is not None and known["sequence"] >= event.sequence:
            return
        fields = alarm_fields(event)
        self.alarms[event.alarm.alarm_id] = self._changed_alarms[event.alarm.alarm_id] = fields
        self.timelines.setdefault(event.alarm.alarm_id, []).append(fields["entry"])
        while len(self.alarms) > _MOST_ALARMS:
            oldest = next(iter(self.alarms))
            del self.alarms[oldest]
            self.timelines.pop(oldest, None)
        action_id = (event.metadata or {}).get("action_id")
        if action_id is not None:
            self.done[str(action_id)] = event
            while len(self.done) > _MOST_ALARMS:
                del self.done[next(iter(self.done))]
            async with self.acted:
                self.acted.notify_all()

    def flush(self) -> None:
        """Pass on what has changed since the last call."""
        devices, self._fleet = self._fleet, {}
        alarms, self._changed_alarms = self._changed_alarms, {}
        readings, self._readings = self._readings, {}
        events = list(self._events)
        self._events.clear()
        if not self.subscribers or not (devices or alarms or events):
            return
        frame = sse("changes", json_bytes({"devices": devices, "alarms": list(alarms.values())}))
        own: dict[str, bytes] = {}
        for one in self.subscribers:
            one.offer(frame)
            if one.device and (frame_of_device := self._device_frame(one.device, readings, events, own)):
                one.offer(frame_of_device)

    def announce(self, event: str, content: Any) -> None:
        """Send an event to every subscriber."""
        frame = sse(event, json_bytes(content))
        for one in self.subscribers:
            one.offer(frame)

    def _device_frame(
        self,
        device: str,
        readings: dict[str, dict[str, dict[str, Any]]],
        events: list[dict[str, Any]],
        own: dict[str, bytes],
    ) -> bytes:
        if device not in own:
            content = {
                "device_id": device,
                "readings": readings.get(device, {}),
                "events": [one for one in events if one["device_id"] == device],
            }
            empty = not content["readings"] and not content["events"]
            own[device] = b"" if empty else sse("device", json_bytes(content))
        return own[device]


def _counts(reading: wire.Reading) -> bool:
    return reading.time_quality != "future"
