"""Which alarm events become deliveries (pure).

A policy's cool-down holds back repeated notifications of an alarm: an event is delivered unless the policy planned one
of the same alarm less than `cooldown_seconds` before *and* the alarm's status is still the same. Therefore a
`triggered` never holds back the `resolved` that follows, but holds back a `repeated`. The events' own times are
compared, so that the result does not depend on when they are read. The end of a snooze is never held back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from uuid import UUID, uuid5

from alarm_service.notify.settings import NotifySettings, Policy
from schemas import wire

_NAMESPACE = UUID("0b7c5f7e-6c0e-5d0a-9a55-3c1d2f4e8a60")
"""Namespace of delivery ids. Changing it changes them all."""

_SNOOZE_ENDED = "snooze_ended"
"""The alarm is open still, and is notified again like one that has triggered."""
_STATE_ENDS = ("resolved", "reopened")


@dataclass(frozen=True)
class Memberships:
    """Groups and profiles: id to devices (ids, or patterns with `*`), as the rules use them."""

    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    profiles: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class LastNotified:
    """The event of an alarm for which a policy last planned a delivery: its time, and the alarm's status then.

    Whether that delivery has been made by now is not asked.
    """

    at: datetime
    status: str


@dataclass(frozen=True)
class Delivery:
    """An event to deliver over a channel. The id derives from the three; receivers recognise duplicates by it."""

    id: str
    event: wire.AlarmEvent
    policy_id: str
    channel_id: str
    channel_type: str


def delivery_id(event_id: str, policy_id: str, channel_id: str) -> str:
    """UUIDv5 of event, policy and channel; the keys of the last two hold no `/`."""
    return str(uuid5(_NAMESPACE, f"{event_id}/{policy_id}/{channel_id}"))


def matching(event: wire.AlarmEvent, settings: NotifySettings, members: Memberships) -> Iterator[tuple[str, Policy]]:
    """The enabled policies whose severities, rules and scope match the event; event types and cool-downs apart."""
    for key, policy in settings.policies.items():
        if (
            policy.is_enabled
            and (policy.severity_filter is None or event.alarm.severity in policy.severity_filter)
            and (policy.rule_ids is None or event.alarm.rule_id in policy.rule_ids)
            and _in_scope(event.alarm, policy, members)
        ):
            yield key, policy


def channels_for(event: wire.AlarmEvent, policy: Policy, settings: NotifySettings) -> list[str]:
    """The policy's channels that get an event of this type.

    An Alertmanager shows open alarms, so it also gets the end, and the reopening, of each alarm that it was sent.
    """
    is_requested = event.event_type in policy.event_types or (
        event.event_type == _SNOOZE_ENDED and "triggered" in policy.event_types
    )
    return [
        key
        for key in policy.channel_ids
        if settings.channels[key].is_enabled
        and (
            is_requested or (settings.channels[key].channel_type == "alertmanager" and event.event_type in _STATE_ENDS)
        )
    ]


def is_snoozed(event: wire.AlarmEvent) -> bool:
    """Whether the alarm is snoozed, so that the event is not delivered. The snoozing itself and the end are."""
    until = event.alarm.snoozed_until
    return until is not None and until > event.created_at and event.event_type not in ("snoozed", "resolved")


def is_cooling(event: wire.AlarmEvent, policy: Policy, last: LastNotified | None) -> bool:
    """Whether the policy's cool-down holds the event back."""
    if last is None or last.status != event.alarm.status or event.event_type == _SNOOZE_ENDED:
        return False
    return event.created_at - last.at < timedelta(seconds=policy.cooldown_seconds)


def plan_deliveries(
    event: wire.AlarmEvent,
    settings: NotifySettings,
    members: Memberships,
    last_notified: Mapping[str, LastNotified],
) -> list[Delivery]:
    """The deliveries of an event. `last_notified` holds what was last planned of the alarm, by policy."""
    if is_snoozed(event):
        return []
    return [
        Delivery(
            delivery_id(event.event_id, key, channel), event, key, channel, settings.channels[channel].channel_type
        )
        for key, policy in matching(event, settings, members)
        if not is_cooling(event, policy, last_notified.get(key))
        for channel in channels_for(event, policy, settings)
    ]


def _in_scope(alarm: wire.Alarm, policy: Policy, members: Memberships) -> bool:
    chosen = policy.scope_ids or ()
    match policy.scope_type:
        case "fleet":
            return True
        case "device":
            return alarm.device_id in chosen
        case "vendor":
            return alarm.vendor in chosen
        case "group":
            return _is_member(alarm.device_id, chosen, members.groups)
        case "profile":
            return _is_member(alarm.device_id, chosen, members.profiles)


def _is_member(device: str, names: Iterable[str], sets: Mapping[str, Sequence[str]]) -> bool:
    return any(fnmatchcase(device, pattern) for name in names for pattern in sets.get(name, ()))
