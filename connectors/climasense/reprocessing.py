"""ClimaSense's messages that the connector refused, read again (pure)."""

from __future__ import annotations

from connectors.climasense import protocol
from connectors.common.dead_letters import MessageSource, dead_letter
from connectors.common.read_message import ReadMessage
from connectors.common.reprocessing import Devices, RefusedMessage
from schemas.wire import Problem


class ClimasenseReprocessor:
    """See `connectors.common.reprocessing.Reprocessor`. Telemetry only: the rest depends on the server's database."""

    def __init__(self, _: Devices) -> None:
        pass

    def __call__(self, refused: RefusedMessage) -> ReadMessage | None:
        """Read one message."""
        if refused.message_type != protocol.TELEMETRY or not refused.device_id:
            return None
        try:
            return ReadMessage(
                [protocol.telemetry(refused.payload, refused.device_id, refused.received_at, 0).envelope]
            )
        except protocol.InvalidRequest as wrong:
            source = MessageSource(protocol.VENDOR, protocol.TELEMETRY, refused.received_at, refused.device_id)
            problem = Problem(path=wrong.path, reason=wrong.reason, detail=str(wrong))
            return ReadMessage(dead_letters=[dead_letter(refused.payload, source, problem)])
