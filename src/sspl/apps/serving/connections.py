"""Connections of a server: how many there are, and how long they may be idle."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

IDLE_SECONDS: Final = 30
"""How long a connection may be without a whole request: more than in clients that keep theirs, or
requests meet its end."""

MOST_ANSWERED: Final = 700
"""Connections beyond which a request is answered with 503."""

MOST_OPEN: Final = 900
"""Connections beyond which one is closed unheard: a process may often have no more than 1,024
files open."""


class Connection(H11Protocol):
    """A connection that is closed when it brings no request in time, and of which there are few."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, or refuse the connection."""
        super().connection_made(transport)
        if len(self.connections) > MOST_OPEN:
            transport.abort()
        elif len(self.connections) > MOST_ANSWERED:
            self.app = _too_many
        self._watch()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Begin to count anew; data that make no whole request do not."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(IDLE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


async def _too_many(scope: Any, receive: Any, send: Any) -> None:
    body = b'{"error":"too many connections; try again."}'
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", b"5"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
