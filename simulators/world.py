"""What the simulator of a vendor is given, and what it says of itself."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field

from simulators.faults import Record
from simulators.net import Clock
from simulators.settings import SimulatorSettings


@dataclass(frozen=True)
class World:
    """The settings of all simulators, the clock they go by, and where planted faults are noted."""

    settings: SimulatorSettings
    clock: Clock
    record: Record


@dataclass(frozen=True)
class Running:
    """A vendor's cloud that serves."""

    endpoints: Mapping[str, str] = field(default_factory=dict)
    """What connectors need to know, by name: ``karcher.rest_url``…"""
    clients: Sequence[AbstractAsyncContextManager[None]] = ()
    """The devices that are clients; each is entered when somebody listens."""


Start = Callable[[AsyncExitStack, World], Awaitable[Running]]
"""Starts a vendor's cloud; what it serves ends with the stack. Raises ValueError where a setting is missing, OSError
where a port is taken.
"""
