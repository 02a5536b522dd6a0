"""Requests that arrive together are answered by one pass of the network."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class BusyError(Exception):
    """The queue is full; the caller should come back later."""


class Batcher(Generic[Item, Result]):
    """Hand single items to a function that works on many.

    Args:
        compute: maps a sequence of items to as many results, in order; runs in one thread.
        max_batch: most items of one call.
        max_wait: seconds that a first item waits for others.
        max_waiting: most items in the queue.
    """

    def __init__(
        self, compute: Callable[[Sequence[Item]], Sequence[Result]], max_batch: int,
        max_wait: float, max_waiting: int,
    ) -> None:  # fmt: skip
        self.compute = compute
        self.max_batch = max_batch
        self.max_wait = max_wait
        self.queue: asyncio.Queue[tuple[Item, asyncio.Future[Result]]] = asyncio.Queue(max_waiting)

    async def submit(self, item: Item) -> Result:
        """Return the item's result.

        Raises `BusyError` when the queue is full, and whatever `compute` raised for its batch.
        """
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        try:
            self.queue.put_nowait((item, answer))
        except asyncio.QueueFull:
            raise BusyError from None
        return await answer

    async def run(self) -> None:
        """Serve the queue until cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "score") as pool:
            while True:
                waiting = [
                    (item, answer)
                    for item, answer in await self._collect()
                    if not answer.cancelled()
                ]
                if not waiting:
                    continue
                try:
                    results = await loop.run_in_executor(
                        pool, self.compute, [item for item, _ in waiting]
                    )
                except Exception as error:
                    for _, answer in waiting:
                        if not answer.done():
                            answer.set_exception(error)
                    continue
                for (_, answer), result in zip(waiting, results, strict=True):
                    if not answer.done():
                        answer.set_result(result)

    async def _collect(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch = [await self.queue.get()]
        try:
            async with asyncio.timeout(self.max_wait):
                while len(batch) < self.max_batch:
                    batch.append(await self.queue.get())
        except TimeoutError:
            pass
        return batch
