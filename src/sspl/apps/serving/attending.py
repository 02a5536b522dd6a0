"""Work for a client that may leave before it has its answer."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

Given = ParamSpec("Given")
Result = TypeVar("Result")


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what `work` returns; give it up when the client leaves.

    The body has been read: nothing else of the client is awaited. Raises `ClientDisconnect`.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait({working, leaving})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def in_thread(
    pool: Executor, work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs
) -> Result:
    """Return what `work` returns in a thread of the pool.

    Cancelled, it is dropped if it has not begun; else its end is awaited, because until then it
    holds its memory.
    """
    begun = pool.submit(work, *given, **named)
    ended = asyncio.wrap_future(begun)
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        if not begun.cancel():
            await asyncio.wait({ended})
            if ended.done() and not ended.cancelled():
                ended.exception()  # Nobody asks for it any more.
        raise
