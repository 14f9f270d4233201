"""Kärcher's sockets: each robot sends its datapoints to whoever listens."""

from collections import Counter

from aiohttp import web

from simulators.fault_injection import FaultySender, MessageVariants
from simulators.karcher import payloads
from simulators.karcher.answers import problem
from simulators.karcher.machines import MachineFleet
from simulators.karcher.payloads import Machine
from simulators.net import Channel, Channels, Clock, Pump, ticks
from simulators.settings import SimulatorSettings
from simulators.wire import encode


class MachineSockets:
    """The sockets of all robots; ``requests`` counts the connections."""

    def __init__(
        self, fleet: MachineFleet, settings: SimulatorSettings, clock: Clock, requests: Counter[tuple[str, int]]
    ) -> None:
        self._fleet = fleet
        self._rate, self._late_by = settings.karcher.rate, settings.faults.late_by
        self._clock = clock
        self._requests = requests
        self.channels = Channels(self._pump, (machine.native_id for machine in fleet.robots))

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Serve one socket until it is closed; 400 where there is no such robot."""
        query = request.query
        native_id = f"{query.get('materialNumber')}/{query.get('serialNumber')}"
        if native_id not in self._fleet.faults:
            return problem(400, "invalid_parameter")
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        self._requests["socket", 101] += 1
        self._fleet.faults[native_id].contact(self._clock())
        async with self.channels.of(native_id).joined(socket, request):
            async for _ in socket:
                pass  # clients have no messages to send, by the document
        return socket

    def listeners(self, machine: Machine) -> int:
        """The number of a robot's open sockets."""
        return len(self._channel(machine))

    async def send(self, machine: Machine, payload: bytes) -> None:
        """Send any bytes on a robot's sockets; waits while one of them is full."""
        await self._channel(machine).send(payload)

    async def flood(self, machine: Machine, messages: int) -> None:
        """Send many messages of a robot at once."""
        for number in range(messages):
            state = payloads.message({"robotStatus": f"Idle {number}"}, self._clock())
            await self.send(machine, encode(state))

    def _channel(self, machine: Machine) -> Channel:
        return self.channels.of(machine.native_id)

    def _pump(self, native_id: str) -> Pump:
        async def pump(channel: Channel) -> None:
            machine, planted = self._fleet.robot(native_id), self._fleet.faults[native_id]
            sender = FaultySender(channel, planted, _variants(machine), self._late_by)
            seen, turn = self._clock(), 0
            async for _ in ticks(self._rate):
                now = self._clock()
                await sender.carry_out_due(now)
                for job in machine.robot.jobs(seen, now):
                    report = payloads.cleaning_report(machine, job)
                    await channel.send(encode(payloads.message({"cleaningReport": report}, now)))
                await sender.send(payloads.datapoints(machine, turn, now))
                seen, turn = now, turn + 1

        return pump


def _variants(machine: Machine) -> MessageVariants:
    return MessageVariants(
        good=lambda now: payloads.datapoints(machine, 0, now),
        wrong_type=lambda now: payloads.wrong_type(machine, now),
        missing_field=lambda now: {"type": "datapoints", "timestamp": int(now * 1000)},
    )
