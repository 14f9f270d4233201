"""Messages that a connector refused, taken again: with today's program, and what the registry knows by now. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from connectors.climasense import protocol as climasense
from connectors.common.dead_letters import MessageSource, dead_letter
from connectors.common.decoded import Decoded
from connectors.karcher import protocol as karcher
from schemas.wire import Problem

_NAMES_MACHINE = {
    karcher.STATUS: karcher.status,
    karcher.NOTIFICATION: karcher.notification,
    karcher.REPORT: karcher.cleaning_report,
}


def taken_again(
    message_type: str, payload: bytes, device: str | None, received_at: datetime, machines: Mapping[str, str]
) -> Decoded | None:
    """What the connector would make of the whole payload of a dead letter; None where it takes more than the payload
    to know (an MQTT topic, a robot's privacy mode, the state of a command).

    `machines` joins Kärcher's `machineId` to device id. The envelopes have the ids that the messages would have had,
    so that a message which the vendor tells again meanwhile is the same one.
    """
    if take := _NAMES_MACHINE.get(message_type):
        return take(payload, machines, received_at)
    if message_type == karcher.DATAPOINTS and device:
        return karcher.socket_message(payload, device, received_at, 0)
    if message_type == karcher.COMMAND and device:
        return karcher.execution(payload, device, received_at).decoded
    if message_type == climasense.TELEMETRY and device:
        return _telemetry(payload, device, received_at)
    return None


def _telemetry(payload: bytes, device: str, received_at: datetime) -> Decoded:
    try:
        return Decoded([climasense.telemetry(payload, device, received_at, 0).envelope])
    except climasense.InvalidRequest as wrong:
        source = MessageSource(climasense.VENDOR, climasense.TELEMETRY, received_at, device)
        problem = Problem(path=wrong.path, reason=wrong.reason, detail=str(wrong))
        return Decoded(dead_letters=[dead_letter(payload, source, problem)])
