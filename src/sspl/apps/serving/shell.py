"""What every local page here has in common: which requests it hears, and how it refuses others."""

import asyncio
import base64
import hashlib
import json
import logging
import re
import socket
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Final

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as PlainHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sspl.apps.serving.connections import IDLE_SECONDS, Connection
from sspl.apps.serving.guards import from_another_site
from sspl.apps.serving.quiet import Sparing
from sspl.errors import SsplError

log = logging.getLogger(__name__)

BACKLOG: Final = 512
STOP_SECONDS: Final = 8
"""How long requests may go on when the server is told to stop; then they are refused."""

MOST_DIGITS: Final = 15
"""Of an announced length; more are more than any limit."""

ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every answer."""


async def read_body(
    request: Request, max_bytes: int, seconds: float, what: str, keep: Callable[[bytes], object]
) -> None:
    """Hand the body to `keep` as it arrives; refuse one that is too large, or too slow to arrive.

    `what` is the noun for it in the refusal.
    """
    too_large = HTTPException(413, f"the {what} is larger than {max_bytes} bytes.")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and (len(announced) > MOST_DIGITS or int(announced) > max_bytes):
        raise too_large
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > max_bytes:
                    raise too_large
                keep(chunk)
    except TimeoutError:
        raise HTTPException(408, f"the {what} did not arrive within {seconds:g} s.") from None


def refuse_other_sites(request: Request) -> None:
    """Refuse what a browser sent for a page of another site."""
    headers = request.headers
    if from_another_site(headers.get("host"), headers.get("origin"), headers.get("sec-fetch-site")):
        raise HTTPException(403, "requests from pages of other sites are not answered.")


def page(package: str) -> tuple[str, str]:
    """Return `page.html` of a package of apps, and its Content-Security-Policy.

    The policy lets the page do no more than it does: run its own script, talk to its server.
    """
    text = (resources.files("sspl.apps") / package / "page.html").read_text(encoding="utf-8")

    def allowed(tag: str) -> str:
        blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digests = (hashlib.sha256(b.encode()).digest() for b in blocks)
        return " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests)

    policy = (
        f"default-src 'none'; script-src {allowed('script')}; style-src {allowed('style')}; "
        "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return text, policy


class Shell:
    """What surrounds an application: headers, HEAD, and an end for every request.

    A client that leaves is a line in the log, a failure one trace of it, and a request that is
    cut off because the server stops is refused.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, bare=scope["method"] == "HEAD")
        if answer.bare:
            scope = {**scope, "method": "GET"}
        try:
            await self.app(scope, receive, answer)
        except ClientDisconnect:
            log.warning("a client left before it had its answer")
        except asyncio.CancelledError:
            # Of the server, which stops; nothing here cancels a request from within.
            await answer.refuse(503, "the server stops; ask again when it is back.", stops=True)
        except Exception as error:
            log.error("a request failed", exc_info=error)
            await answer.refuse(500, "the server failed on this request; its log says how.")


class _Answer:
    """Sends an answer with the headers that every answer has; to HEAD without a body."""

    def __init__(self, send: Send, bare: bool) -> None:
        self.bare = bare
        self._send = send
        self._begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            headers = MutableHeaders(scope=message)
            headers.update(ALWAYS)
            allowed = headers.get("Allow", "").split(", ")
            if "GET" in allowed and "HEAD" not in allowed:
                headers["Allow"] = ", ".join([*allowed, "HEAD"])
        elif self.bare:
            message = {**message, "body": b""}
        await self._send(message)

    async def refuse(self, status: int, sentence: str, stops: bool = False) -> None:
        """Send a refusal, unless an answer has begun."""
        if self._begun:
            return
        body = json.dumps({"error": sentence}).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        if stops:
            headers |= {"Retry-After": "5", "Connection": "close"}
        pairs = [(k.lower().encode(), v.encode()) for k, v in headers.items()]
        await self({"type": "http.response.start", "status": status, "headers": pairs})
        await self({"type": "http.response.body", "body": body})


def add_shell(app: FastAPI, hosts: Sequence[str]) -> None:
    """Let an application answer to these host names alone, and refuse in one JSON sentence."""
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_middleware(Shell)

    @app.exception_handler(PlainHTTPException)
    async def refuse(_: Request, error: PlainHTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def refuse_query(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"error": f"{field}: {first['msg']}"}, 422)


class _Server(uvicorn.Server):
    """A server that says where the page is once it can be opened."""

    def __init__(self, config: uvicorn.Config, fragment: str) -> None:
        super().__init__(config)
        self.fragment = fragment

    def _log_started_message(self, listeners: Sequence[socket.SocketType]) -> None:
        # Its address has no key, and one that does not open the page is none to give.
        if not self.fragment:
            super()._log_started_message(listeners)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self.fragment:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"open http://{shown}:{port}/{self.fragment}", flush=True)


def run_app(app: FastAPI, host: str, port: int, fragment: str = "") -> None:
    """Serve an application until interrupted.

    With a `fragment` of the address, such as `#key`, the whole address is printed. Raises
    `SsplError` when the address cannot be listened on.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Connection,
        ws="none",
        timeout_keep_alive=IDLE_SECONDS,
        backlog=BACKLOG,
        timeout_graceful_shutdown=STOP_SECONDS,
        server_header=False,
        access_log=False,
        log_level="info",
    )
    for noisy in (log, logging.getLogger("uvicorn.error")):
        noisy.addFilter(Sparing())
    server = _Server(config, fragment)
    try:
        server.run()
    except KeyboardInterrupt:
        # uvicorn raises the signal anew once every request is answered: an end, and nothing is cut.
        if not server.should_exit:
            raise
    except SystemExit:
        # uvicorn has said which address is taken.
        raise SsplError(f"cannot listen on {host}:{port}; choose another --port.") from None
