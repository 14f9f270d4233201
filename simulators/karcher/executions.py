"""The executions of commands: sent, carried out with time, or cancelled."""

from dataclasses import dataclass
from typing import Any

from simulators.karcher import payloads
from simulators.karcher.answers import NotFound
from simulators.karcher.payloads import Machine
from simulators.net import Clock
from simulators.wire import rfc3339

QUEUED_AFTER, DONE_AFTER = 1.0, 5.0
"""Seconds from the request of a command to these steps."""


@dataclass
class Execution:
    """One command sent to one machine."""

    execution_id: str
    machine_id: str
    name: str
    parameters: dict[str, Any]
    created_at: float
    cancelled_at: float | None = None

    def fields(self, *names: str) -> dict[str, Any]:
        """The documented fields of these names."""
        documented = {
            "executionId": self.execution_id,
            "deviceId": self.machine_id,
            "commandName": self.name,
            "commandParameters": self.parameters,
            "createdAt": rfc3339(self.created_at),
        }
        return {name: documented[name] for name in names}

    def events(self, now: float, cancelled: str = "CANCELLED") -> list[dict[str, str]]:
        """What has happened until now, newest first, as documented; ``cancelled`` is the word for a cancellation."""
        created = self.created_at
        steps = [("REQUESTED", created), ("QUEUED", created + QUEUED_AFTER), ("SUCCEEDED", created + DONE_AFTER)]
        if self.cancelled_at is not None:
            steps = [*steps[:2], (cancelled, self.cancelled_at)]
        return [{"status": name, "updatedAt": rfc3339(at)} for name, at in steps if at <= now][::-1]


class Executions:
    """All executions of the account, in the order in which their commands were sent."""

    def __init__(self, seed: int, clock: Clock) -> None:
        self._seed, self._clock = seed, clock
        self._all: list[Execution] = []

    def send(self, machine: Machine, name: str, parameters: dict[str, Any]) -> Execution:
        """Send a command to a machine."""
        execution_id = payloads.base58_id(self._seed, "command", len(self._all))
        execution = Execution(execution_id, machine.machine_id, name, parameters, self._clock())
        self._all.append(execution)
        return execution

    def cancel(self, execution_id: str) -> None:
        """Cancel an execution, whatever its state."""
        self.named(execution_id).cancelled_at = self._clock()

    def named(self, execution_id: str) -> Execution:
        """The execution of this id. NotFound where there is none."""
        for execution in self._all:
            if execution.execution_id == execution_id:
                return execution
        raise NotFound

    def of_machine(self, machine: Machine) -> list[Execution]:
        """The executions of one machine, oldest first."""
        return [execution for execution in self._all if execution.machine_id == machine.machine_id]
