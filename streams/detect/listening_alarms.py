"""The alarm that says that fleetlake itself does not listen, to a vendor or to one device (pure).

It follows from the reports of the listeners alone, so it has the same times whenever it is noticed. It has the life
cycle of the other alarms, and operators act on it likewise.
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas import wire
from schemas.coverage import NOT_LISTENING, vendor_subject
from schemas.timestamps import NEVER, format_iso, from_micros
from streams.detect.actions import carry_out, end_snooze
from streams.detect.device import TrackedDevice
from streams.detect.state import AlarmFacts, RuleState
from streams.detect.timeline import Entry, add_entry, resolve
from streams.normalise.coverage import Unheard

PIPELINE = "pipeline"
SEVERITY = "major"


class ListeningAlarms:
    """The alarm of one subject: a vendor, or a device with a socket of its own. `after` in microseconds."""

    __slots__ = ("_after", "device")

    def __init__(self, device: TrackedDevice, after: int) -> None:
        self.device = device
        self._after = after

    def advance(self, until: int) -> list[wire.AlarmEvent]:
        """Let everything happen that is due before `until`, in event-time order."""
        events: list[wire.AlarmEvent] = []
        due = NEVER
        for begin, end in self._outages():
            at = begin + self._after
            if end < at:
                continue
            for moment, step in ((at, self._trigger), (end, self._resolve)):
                if moment < until:
                    events += self._act(moment)
                    events += step(moment, (begin, end))
                else:
                    due = min(due, moment)
        events += self._act(until)
        self.device.due = min([due, *self._due_actions()])
        return events

    def _outages(self) -> list[Unheard]:
        device = self.device
        own = "" if device.id == vendor_subject(device.vendor) else device.id
        return list(device.coverage.outages(device.vendor, own))

    def _due_actions(self) -> list[int]:
        """When a snooze ends, and when the next action of an operator is due."""
        state = self.device.state
        timers = [timer.at for timer in state.snooze_timers.values()]
        return timers + [held.due for held in state.held_actions[:1]]

    def _act(self, until: int) -> Iterator[wire.AlarmEvent]:
        """Do what operators did before a moment, and end their snoozes."""
        state = self.device.state
        while (moment := min(self._due_actions(), default=NEVER)) < until:
            self.device.changed = True
            timer = state.snooze_timers.get(NOT_LISTENING)
            if timer is not None and timer.at == moment:
                yield from end_snooze(self.device, NOT_LISTENING)
                continue
            held, state.held_actions = state.held_actions[0], state.held_actions[1:]
            yield from carry_out(self.device, held)

    def _trigger(self, at: int, gap: Unheard) -> Iterator[wire.AlarmEvent]:
        rules = self.device.state.rules
        state = rules.get(NOT_LISTENING)
        if state is not None and state.alarm is not None and at <= state.alarm.triggered_at:
            return  # that was noticed before
        subject = self.device.last_subject
        own = self.device.id != vendor_subject(self.device.vendor)
        whom = f"the socket of {self.device.id}" if own else self.device.vendor
        facts = AlarmFacts(
            triggered_at=at,
            last_triggered_at=at,
            rule_name="Not listening",
            severity=SEVERITY,
            title=f"Not listening to {whom}",
            message=f"not listened to since {format_iso(from_micros(gap[0]))}; meanwhile no silence is counted",
            metric=None,
        )
        rules[NOT_LISTENING] = RuleState(alarm=facts)
        self.device.changed = True
        yield add_entry(NOT_LISTENING, facts, Entry("triggered", at, subject, _facts(gap), actor=PIPELINE))

    def _resolve(self, at: int, gap: Unheard) -> Iterator[wire.AlarmEvent]:
        state = self.device.state.rules.get(NOT_LISTENING)
        if state is None or not state.has_open_alarm or state.alarm is None:
            return
        if at < state.alarm.triggered_at:
            return  # the end of an earlier outage
        self.device.changed = True
        entry = Entry("resolved", at, self.device.last_subject, _facts(gap), actor=PIPELINE)
        yield resolve(NOT_LISTENING, state, entry)


def _facts(gap: Unheard) -> dict[str, str]:
    return {"source": PIPELINE, "last_listened_at": format_iso(from_micros(gap[0]))}
