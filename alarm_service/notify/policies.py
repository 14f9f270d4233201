"""Which alarm events become deliveries (pure).

A policy's cool-down holds back the same news of the same alarm: an event is told unless the policy told one of the
same alarm less than `cooldown_seconds` before *and* the alarm's status is still the one told then. So a `resolved` is
never held back by the `triggered` before it, and repeats are. Times are those of the events, so that it does not depend
on when they are read.
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
"""Of the ids of deliveries. Changing it changes them all."""

_STATE_ENDS = ("resolved", "reopened")


@dataclass(frozen=True)
class Memberships:
    """Groups and profiles: id to devices (ids, or patterns with `*`), as the rules know them."""

    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    profiles: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """What a policy last told of an alarm."""

    at: datetime
    status: str


@dataclass(frozen=True)
class Delivery:
    """An event that is to be told over a channel. The id derives from the three: the receiver's key to repeats."""

    id: str
    event: wire.AlarmEvent
    policy_id: str
    channel_id: str
    channel_type: str


def delivery_id(event_id: str, policy_id: str, channel_id: str) -> str:
    """UUIDv5 of event, policy and channel; the keys of the last two hold no `/`."""
    return str(uuid5(_NAMESPACE, f"{event_id}/{policy_id}/{channel_id}"))


def matching(event: wire.AlarmEvent, settings: NotifySettings, members: Memberships) -> Iterator[tuple[str, Policy]]:
    """The policies in force that concern the event, but for their event types and cool-downs."""
    for key, policy in settings.policies.items():
        if (
            policy.is_enabled
            and (policy.severity_filter is None or event.alarm.severity in policy.severity_filter)
            and (policy.rule_ids is None or event.alarm.rule_id in policy.rule_ids)
            and _in_scope(event.alarm, policy, members)
        ):
            yield key, policy


def channels_told(event: wire.AlarmEvent, policy: Policy, settings: NotifySettings) -> list[str]:
    """The policy's channels that are told an event of this type.

    An Alertmanager shows what is open, so it is told the end of what it was told the begin of, and the new begin.
    """
    asked = event.event_type in policy.event_types
    return [
        key
        for key in policy.channel_ids
        if settings.channels[key].is_enabled
        and (asked or (settings.channels[key].channel_type == "alertmanager" and event.event_type in _STATE_ENDS))
    ]


def is_snoozed(event: wire.AlarmEvent) -> bool:
    """Whether nothing is to be told of the alarm now; that it was snoozed may be told itself."""
    until = event.alarm.snoozed_until
    return until is not None and until > event.created_at and event.event_type not in ("snoozed", "resolved")


def is_cooling(event: wire.AlarmEvent, policy: Policy, told: Told | None) -> bool:
    """Whether the policy's cool-down holds the event back."""
    if told is None or told.status != event.alarm.status:
        return False
    return event.created_at - told.at < timedelta(seconds=policy.cooldown_seconds)


def deliveries(
    event: wire.AlarmEvent,
    settings: NotifySettings,
    members: Memberships,
    told: Mapping[str, Told],
) -> list[Delivery]:
    """What the event is to be told as. `told` is what each policy last told of the alarm."""
    if is_snoozed(event):
        return []
    return [
        Delivery(
            delivery_id(event.event_id, key, channel), event, key, channel, settings.channels[channel].channel_type
        )
        for key, policy in matching(event, settings, members)
        if not is_cooling(event, policy, told.get(key))
        for channel in channels_told(event, policy, settings)
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
