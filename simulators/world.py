"""What the simulator of a vendor receives, and what it returns."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field

from simulators.faults import Record
from simulators.net import Clock
from simulators.settings import SimulatorSettings


@dataclass(frozen=True)
class World:
    """The settings of all simulators, their clock, and the recorder of planted faults."""

    settings: SimulatorSettings
    clock: Clock
    record: Record


@dataclass(frozen=True)
class Running:
    """A vendor's running cloud."""

    endpoints: Mapping[str, str] = field(default_factory=dict)
    """What connectors need, by name: ``karcher.rest_url``…"""
    clients: Sequence[AbstractAsyncContextManager[None]] = ()
    """The devices that are clients; each is entered when the product listens."""


Start = Callable[[AsyncExitStack, World], Awaitable[Running]]
"""Starts a vendor's cloud; what it serves ends with the stack. Raises ValueError where a setting is missing, OSError
where a port is taken.
"""
