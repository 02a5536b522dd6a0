"""The server on a real socket: against its own description, many clients and hostile ones."""

import asyncio
import importlib
import io
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from hypothesis import HealthCheck, given, settings
from PIL import Image

from sspl.apps.serving.app import make_app
from sspl.apps.serving.reader import Reader
from sspl.apps.serving.serving_settings import ServeSettings
from sspl.domain.attributes import AttributeSchema
from sspl.models.bundle import AttributeModel, save_model
from sspl.models.network_settings import BackboneSettings, HeadSettings
from sspl.models.splnet import build_attribute_network


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on the loopback with a tiny model."""
    torch.manual_seed(0)
    schema = AttributeSchema(("Smiling",), ("whole",))
    backbone, one = BackboneSettings(width=0.05, stem_stride=2), np.ones(1)
    network = build_attribute_network("sspl", backbone, HeadSettings(), schema).eval()
    folder = tmp_path_factory.mktemp("served")
    save_model(folder, AttributeModel(network, schema, (0, 0, 1, 1), 40, 32, True, one / 2, one))
    app = make_app(Reader(folder, None, "cpu", "fp32"), ServeSettings(max_bytes=50_000))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()


def test_answers_are_as_described(address: str) -> None:
    """Each route is asked what its description allows, and some things that it does not."""
    schemathesis = pytest.importorskip("schemathesis")
    importlib.import_module("schemathesis.checks").load_all_checks()
    checks = importlib.import_module("schemathesis.specs.openapi.checks")
    api = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [found.ok() for found in api.get_all_operations()]
    assert {operation.path for operation in operations} >= {"/healthz", "/v1/predict"}
    for operation in operations:

        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def answers(case: Any) -> None:
            response = case.call()
            # No description can say which bytes are a picture.
            unasked = [checks.positive_data_acceptance] if case.method == "POST" else []
            case.validate_response(response, excluded_checks=unasked)
            assert "Traceback" not in response.text
            assert "site-packages" not in response.text

        answers()


@pytest.mark.parametrize("path", ["/../etc/passwd", "/%2e%2e/x", "/v1/", "/docs", "/static/x"])
def test_there_is_nothing_else(address: str, path: str) -> None:
    reply = httpx.get(f"{address}{path}")
    assert reply.status_code == 404
    assert reply.json() == {"error": "Not Found"}


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), (90, 60, 40)).save(file, "PNG")
    return file.getvalue()


PNG = {"Content-Type": "image/png"}


def test_two_hundred_clients_at_once_are_all_answered(address: str) -> None:
    """`benchmarks/serving.py` does it for a minute, and looks at the memory."""

    async def ask() -> list[httpx.Response]:
        content, limits = picture(), httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=120) as http:
            asks = [http.post("/v1/predict", content=content, headers=PNG) for _ in range(200)]
            return list(await asyncio.gather(*asks))

    replies = asyncio.run(ask())
    assert [reply.status_code for reply in replies] == [200] * 200
    # A face's company in a batch changes the order of sums, and so the last digits.
    first = replies[0].json()
    own = first["faces"][0]["attributes"]
    for answer in (reply.json() for reply in replies):
        found = answer["faces"][0]["attributes"]
        for mine, other in zip(own, found, strict=True):
            assert other["probability"] == pytest.approx(mine["probability"], abs=1e-6)
            other["probability"] = mine["probability"]
        assert answer == first


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1"])
@pytest.mark.parametrize("path", ["/", "/v1/model", "/v1/predict", "/openapi.json"])
def test_no_other_site_may_read_answers(address: str, path: str, origin: str) -> None:
    """Without these headers a browser keeps answers from the pages of other sites."""
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    for reply in (
        httpx.options(f"{address}{path}", headers=asked),
        httpx.get(f"{address}{path}", headers={"Origin": origin}),
        httpx.post(f"{address}{path}", headers={"Origin": origin} | PNG, content=picture()),
    ):
        assert not [name for name in reply.headers if name.startswith("access-control-")]
    assert httpx.options(f"{address}{path}", headers=asked).status_code == 405


WATCHED = ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.truncate")
"""What changes files, beside opening them for writing."""


class Watch:
    """Notes files that this process changes or makes, while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.changed: list[str] = []
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.on:
            return
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if event in WATCHED or (event == "open" and int(arguments[2]) & writes):  # type: ignore[call-overload]
            self.changed.append(f"{event} {arguments[0]}")


def test_the_server_writes_no_file(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in a thread of this process, whose every file is heard of."""
    monkeypatch.chdir(tmp_path)
    watch = Watch()
    large = picture() + b"\0" * 60_000
    watch.on = True
    for content in (picture(), picture()[:50], b"../../x", large):
        httpx.post(f"{address}/v1/predict", content=content, headers=PNG)
    httpx.get(f"{address}/v1/model")
    httpx.put(f"{address}/x.txt", content=b"x")
    assert not watch.changed
    (tmp_path / "heard").touch()
    watch.on = False
    assert watch.changed == [f"open {tmp_path / 'heard'}"]


def test_a_client_that_sends_its_headers_byte_by_byte_holds_up_nobody(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(50)]
    try:
        for connection in slow:
            connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: 127")
        begun = time.monotonic()
        assert httpx.get(f"{address}/healthz", timeout=20).json()["status"] == "ok"
        assert time.monotonic() - begun < 20
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.parametrize(
    "start",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 4096,
        b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_http_is_refused_and_the_server_goes_on(address: str, start: bytes) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(start)
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = connection.recv(65536)
        except ConnectionResetError:
            answer = b""
    assert b"Traceback" not in answer
    assert answer[:12] in {b"", b"HTTP/1.1 400", b"HTTP/1.1 415", b"HTTP/1.1 431"}
    assert httpx.get(f"{address}/healthz", timeout=20).status_code == 200
