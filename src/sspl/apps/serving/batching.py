"""Requests that arrive together are answered by one pass of the network."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

from sspl.apps.serving.rooms import BusyError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Hand single items to a function that works on many.

    Args:
        compute: maps a sequence of items to as many results, in order; runs in one thread.
        max_batch: most items of one call.
        max_wait: seconds that a first item waits for others.
        max_waiting: most items in the queue.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Sequence[Result]],
        max_batch: int,
        max_wait: float,
        max_waiting: int,
    ) -> None:
        self.compute = compute
        self.max_batch = max_batch
        self.max_wait = max_wait
        self.max_waiting = max_waiting
        self._queue: dict[asyncio.Future[Result], Item] = {}
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    async def submit(self, item: Item) -> Result:
        """Return the item's result; an item whose caller is cancelled leaves the queue.

        Raises `BusyError` when the queue is full, and whatever `compute` raised for its batch.
        """
        if len(self._queue) >= self.max_waiting:
            raise BusyError
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue[answer] = item
        self._arrived.set()
        try:
            return await answer
        finally:
            self._queue.pop(answer, None)

    async def run(self) -> None:
        """Serve the queue until cancelled."""
        with ThreadPoolExecutor(1, "score") as pool:
            while True:
                await self._answer(pool, await self._collect())

    async def _answer(
        self, pool: ThreadPoolExecutor, batch: dict[asyncio.Future[Result], Item]
    ) -> None:
        if not batch:
            return
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(pool, self.compute, list(batch.values()))
        except Exception as error:
            for answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        for answer, result in zip(batch, results, strict=True):
            if not answer.done():
                answer.set_result(result)

    async def _collect(self) -> dict[asyncio.Future[Result], Item]:
        while not self._queue:
            await self._next()
        try:
            async with asyncio.timeout(self.max_wait):
                while len(self._queue) < self.max_batch:
                    await self._next()
        except TimeoutError:
            pass
        first = list(islice(self._queue, self.max_batch))
        return {answer: self._queue.pop(answer) for answer in first}

    async def _next(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()
