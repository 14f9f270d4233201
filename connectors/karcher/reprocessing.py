"""Kärcher's messages that the connector refused, read again (pure)."""

from __future__ import annotations

from connectors.common.read_message import ReadMessage
from connectors.common.reprocessing import Devices, RefusedMessage
from connectors.karcher import protocol

_NAMES_MACHINE = {
    protocol.STATUS: protocol.status,
    protocol.NOTIFICATION: protocol.notification,
    protocol.REPORT: protocol.cleaning_report,
}


class KarcherReprocessor:
    """See `connectors.common.reprocessing.Reprocessor`. The devices join Kärcher's `machineId` to the device id."""

    def __init__(self, devices: Devices) -> None:
        self._machines = {
            str(attributes["machineId"]): device
            for device, attributes in devices.items()
            if attributes.get("machineId") is not None
        }

    def __call__(self, refused: RefusedMessage) -> ReadMessage | None:
        """Read one message."""
        kind, payload, device = refused.message_type, refused.payload, refused.device_id
        if read := _NAMES_MACHINE.get(kind):
            return read(payload, self._machines, refused.received_at)
        if kind == protocol.DATAPOINTS and device:
            return protocol.socket_message(payload, device, refused.received_at, 0)
        if kind == protocol.COMMAND and device:
            return protocol.execution(payload, device, refused.received_at).message
        return None
