"""What every local page here has in common: which requests it hears, and how it refuses others."""

import asyncio
import base64
import hashlib
import logging
import re
import socket
from collections.abc import Sequence
from importlib import resources
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as PlainHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from sspl.errors import SsplError
from sspl.serving.guards import from_another_site

log = logging.getLogger(__name__)

KEEP_ALIVE = 30
"""Seconds that an idle connection stays: more than in clients, or requests meet its end."""
BACKLOG = 512


async def read_body(request: Request, max_bytes: int, seconds: float, what: str) -> bytes:
    """Return the body; refuse one that is too large, or too slow to arrive.

    `what` is the noun for it in the refusal.
    """
    too_large = HTTPException(413, f"the {what} is larger than {max_bytes} bytes.")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                content += chunk
                if len(content) > max_bytes:
                    raise too_large
    except TimeoutError:
        raise HTTPException(408, f"the {what} did not arrive within {seconds:g} s.") from None
    return bytes(content)


def refuse_other_sites(request: Request) -> None:
    """Refuse what a browser sent for a page of another site."""
    headers = request.headers
    if from_another_site(headers.get("host"), headers.get("origin"), headers.get("sec-fetch-site")):
        raise HTTPException(403, "requests from pages of other sites are not answered.")


def page(package: str) -> tuple[str, str]:
    """Return `page.html` of a package under `sspl`, and its Content-Security-Policy.

    The policy lets the page do no more than it does: run its own script, talk to its server.
    """
    text = (resources.files("sspl") / package / "page.html").read_text(encoding="utf-8")

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


def add_shell(app: FastAPI, hosts: Sequence[str]) -> None:
    """Let an application answer to these host names alone, and refuse in one JSON sentence."""
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)

    @app.middleware("http")
    async def harden(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.exception_handler(PlainHTTPException)
    async def refuse(_: Request, error: PlainHTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def refuse_query(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"error": f"{field}: {first['msg']}"}, 422)

    @app.exception_handler(Exception)
    async def fail(_: Request, error: Exception) -> JSONResponse:
        log.error("a request failed", exc_info=error)
        return JSONResponse({"error": "the server failed on this request; its log says how."}, 500)


class _Server(uvicorn.Server):
    """A server that says where the page is once it can be opened."""

    def __init__(self, config: uvicorn.Config, fragment: str) -> None:
        super().__init__(config)
        self.fragment = fragment

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
        app, host=host, port=port, timeout_keep_alive=KEEP_ALIVE, backlog=BACKLOG,
        server_header=False, access_log=False, log_level="info",
    )  # fmt: skip
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
