"""Privacy modes as read by REST: heeded at once, and published whenever they change."""

from __future__ import annotations

import asyncio
from datetime import datetime

from connectors.common.context import Context
from connectors.common.read_message import ReadMessage
from connectors.ogmen import protocol
from connectors.ogmen.endpoints import PRIVACY
from connectors.ogmen.protocol import VENDOR, AnswerError
from connectors.ogmen.robot import Robot
from schemas.envelope import Envelope, message_id


class PrivacyPublisher:
    """Publishes each change of a privacy mode once.

    The answer has neither id nor time, so the state before it is part of the message id. Thus «on» after «off» is never
    taken for a duplicate, but a change that is published again after a crash is.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def publish(self, robot: Robot, entries: list[bytes], received_at: datetime) -> None:
        """Heed an answer, and publish it if it is a change. AnswerError where it does not say what the mode is."""
        if not robot.observe_privacy(entries, received_at):
            raise AnswerError("the answer does not say whether the privacy mode is on")
        for entry in entries:
            message = protocol.read_entry(PRIVACY, entry, robot.device, received_at, robot.gate).message
            for envelope in message.envelopes:
                await self._publish_change(robot, envelope)

    async def _publish_change(self, robot: Robot, envelope: Envelope) -> None:
        content = message_id([envelope.data])
        last_content, _, before = robot.privacy_version.partition(":")
        if content == last_content:
            return
        version = message_id([PRIVACY.type, robot.device, before, envelope.data])
        changed = Envelope(
            version, envelope.type, envelope.source, envelope.device_id, envelope.received_at, envelope.data
        )
        await asyncio.gather(*await self._context.deliver(VENDOR, ReadMessage([changed])))
        robot.privacy_version = f"{content}:{version}"
