"""What a step is given before and beside its input: its restored state, and the records of its side inputs."""

from __future__ import annotations

import asyncio

from faust.types import TP

from schemas.consumed import Record
from streams.engine.step import Step


class CatchUp:
    """A step's wish to have read all that side inputs hold which are ahead of its input, and its fulfilment."""

    def __init__(self) -> None:
        self._wanted = self._reached = 0
        self._asked, self._answered = asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        """Wait until all is read that those side inputs hold now."""
        self._wanted += 1
        wanted = self._wanted
        self._asked.set()
        while self._reached < wanted:
            self._answered.clear()
            await self._answered.wait()

    async def asked(self) -> int:
        """Wait for a wish; its number."""
        await self._asked.wait()
        self._asked.clear()
        return self._wanted

    def answer(self, number: int) -> None:
        """Say that all is read that they held when the wish of this number was made."""
        self._reached = number
        self._answered.set()


class StepInputs:
    """Gives one step its state first and then its side inputs; with all there is of both, it can begin.

    Records of side inputs that arrive before the state is restored are kept until then, since they may change it.
    """

    def __init__(self, tp: TP, step: Step) -> None:
        self.tp = tp
        """The step's input partition."""
        self.step = step
        self.restored = asyncio.Event()
        """Set when the step has its state and all that its side inputs held at the assignment."""
        self.first_unread = 0
        """Offset of the first input record to process, once it is known."""
        self.is_positioned = asyncio.Event()
        """Set when `first_unread` is known."""
        self.partitions: dict[str, set[int]] = {}
        """Partitions of the side inputs' topics."""
        self.changed = asyncio.Event()
        """Set when a side input brought a record; whoever waits for it clears it."""
        self.catch_up = CatchUp()
        self._early: list[Record] = []
        self._has_state = False
        self._has_side_inputs = not step.side_inputs

    def assign(self, partitions: dict[str, set[int]]) -> None:
        """Take the partitions of the side inputs' topics."""
        self.partitions = partitions
        self.step.assign_side_inputs(partitions)

    def position(self, first_unread: int) -> None:
        """Take the offset at which the input will begin."""
        self.first_unread = first_unread
        self.is_positioned.set()

    def state_restored(self) -> None:
        """The step has its whole state."""
        self._has_state = True
        early, self._early = self._early, []
        for record in early:
            self.process_side_input(record)
        self._resolve()

    def side_inputs_read(self) -> None:
        """All that the side inputs held at the assignment was handed over."""
        self._has_side_inputs = True
        self._resolve()

    def process_side_input(self, record: Record) -> None:
        """Hand the step a record of a side input, or keep it until the state is restored."""
        if self._has_state:
            self.step.process_side_input(record)
            self.changed.set()
        else:
            self._early.append(record)

    def _resolve(self) -> None:
        if self._has_state and self._has_side_inputs:
            self.restored.set()
