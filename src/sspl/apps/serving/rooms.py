"""A bounded amount of something that requests share, such as bytes of memory."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


class BusyError(Exception):
    """There is no room; the caller should come back later."""


@dataclass(eq=False)
class _Turn:
    amount: int
    granted: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Room:
    """An amount that is shared; who waits for a part of it gets it in the order of asking.

    Args:
        size: of all of it.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0
        self._waiting: deque[_Turn] = deque()

    def share(self) -> "Share":
        """Return a part of nothing yet, to be used in a `with` block that gives it back."""
        return Share(self)

    def take(self, amount: int) -> None:
        """Take a part at once; raise `BusyError` where that cannot be."""
        if self._waiting or self.used + amount > self.size:
            raise BusyError
        self.used += amount

    async def wait_for(self, amount: int, until: float) -> None:
        """Take a part as there is room.

        Raises `BusyError` when there is none by the time `until` of the running loop.
        """
        if amount > self.size:
            raise BusyError
        turn = _Turn(amount)
        self._waiting.append(turn)
        self._grant()
        try:
            async with asyncio.timeout_at(until):
                await turn.granted
        except BaseException as error:
            if turn in self._waiting:
                self._waiting.remove(turn)
                self._grant()  # A smaller one behind it may have room.
            else:
                self.give(amount)
            if isinstance(error, TimeoutError):
                raise BusyError from None
            raise

    def give(self, amount: int) -> None:
        """Give a part back."""
        self.used -= amount
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self.used + self._waiting[0].amount <= self.size:
            turn = self._waiting.popleft()
            self.used += turn.amount
            if not turn.granted.done():
                turn.granted.set_result(None)


class Share:
    """What one request has of a room; the end of a `with` block gives it back."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.amount = 0

    def take(self, amount: int) -> None:
        """As `Room.take`."""
        self.room.take(amount)
        self.amount += amount

    async def wait_for(self, amount: int, until: float) -> None:
        """As `Room.wait_for`."""
        await self.room.wait_for(amount, until)
        self.amount += amount

    def keep(self, amount: int) -> None:
        """Give back all beyond an amount; what is more than there was is not taken."""
        spare = max(0, self.amount - amount)
        self.amount -= spare
        self.room.give(spare)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.keep(0)
