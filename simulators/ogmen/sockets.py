"""Ogmen's relayed sockets: a robot's messages, and those of the other clients on its channel."""

import asyncio
from typing import Any

from aiohttp import WSMsgType, web

from simulators.fault_injection import FaultySender, MessageVariants
from simulators.net import Channel, Channels, Clock, Pump, ticks
from simulators.ogmen import payloads
from simulators.ogmen.answers import problem
from simulators.ogmen.payloads import OroRobot
from simulators.ogmen.robots import RobotFleet
from simulators.settings import SimulatorSettings
from simulators.wire import encode

MAX_MESSAGE = 4 << 20
"""Largest message of a client in bytes."""

_POLL_SECONDS = 0.02


class RobotSockets:
    """The sockets of all robots."""

    def __init__(self, fleet: RobotFleet, settings: SimulatorSettings, clock: Clock) -> None:
        self._fleet = fleet
        self._settings, self._late_by = settings.ogmen, settings.faults.late_by
        self._clock = clock
        self.channels = Channels(self._pump, (oro.device_id for oro in fleet.robots))
        self.handshakes: list[float] = []
        """When each socket was asked for, by the loop's clock."""

    @property
    def listening(self) -> set[str]:
        """The robots that somebody listens to."""
        return {device for device, count in self.channels.listeners().items() if count}

    async def send(self, device_id: str, payload: bytes) -> None:
        """Send any bytes on a robot's channel, as soon as somebody listens."""
        channel = self.channels.of(device_id)
        while not len(channel):
            await asyncio.sleep(_POLL_SECONDS)
        await channel.send(payload)

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Serve one socket until it is closed: greeting, fixed transforms and map first, then the channel."""
        oro = self._fleet.by_id.get(request.match_info["device_id"])
        if oro is None:
            return problem(404, "Device not found.")
        socket = web.WebSocketResponse(compress=False, max_msg_size=MAX_MESSAGE)
        await socket.prepare(request)
        now = self._clock()
        self._fleet.faults[oro.device_id].contact(now)
        try:
            for latched in (payloads.greeting(oro), payloads.tf_static(oro, now), self._map(oro, now)):
                await socket.send_frame(encode(latched), WSMsgType.TEXT)
        except ConnectionError:
            return socket
        channel = self.channels.of(oro.device_id)
        async with channel.joined(socket, request):
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    await channel.send(message.data.encode(), besides=socket)
        return socket

    def _map(self, oro: OroRobot, now: float) -> dict[str, Any]:
        return payloads.occupancy_map(oro, now, self._settings.map_cells)

    def _pump(self, device_id: str) -> Pump:
        async def pump(channel: Channel) -> None:
            oro = self._fleet.by_id[device_id]
            sender = FaultySender(channel, self._fleet.faults[device_id], _variants(oro), self._late_by)
            turn, mapped_at, chatter_every = 0, self._clock(), self._settings.chatter_every
            async for _ in ticks(self._settings.rate):
                now = self._clock()
                await sender.carry_out_due(now)
                if now - mapped_at >= self._settings.map_seconds:
                    mapped_at = now
                    await channel.send(encode(self._map(oro, now)))
                if turn % chatter_every == chatter_every - 1:
                    chatter = payloads.chatter(oro, turn // chatter_every)
                    await channel.send(encode(self._fleet.with_leaks(oro, chatter)))
                await sender.send(payloads.odom(oro, now) if turn % 2 == 0 else payloads.tf(oro, now))
                turn += 1

        return pump


def _variants(oro: OroRobot) -> MessageVariants:
    return MessageVariants(
        good=lambda now: payloads.odom(oro, now),
        wrong_type=lambda now: payloads.odom_of_wrong_type(oro, now),
        missing_field=lambda now: payloads.odom_without_pose(oro, now),
    )
