"""What a server takes on at once, how it refuses the rest, and clients that leave."""

import asyncio
import contextlib
import io
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI, HTTPException
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from tests.apps.test_serving import JPEG, client_of, picture
from tests.apps.test_serving import run as run

from sspl.apps.serving import connections, reader
from sspl.apps.serving.app import make_app
from sspl.apps.serving.batching import Batcher
from sspl.apps.serving.connections import Connection
from sspl.apps.serving.costs import (
    DEEP_PIXEL_BYTES,
    PIXEL_BYTES,
    WEBP_PIXEL_BYTES,
    decoding_bytes,
)
from sspl.apps.serving.quiet import Sparing
from sspl.apps.serving.reader import LookedUpload, Reader
from sspl.apps.serving.rooms import BusyError, Room
from sspl.apps.serving.serving_settings import ServeSettings
from sspl.apps.serving.uploads import check_kind
from sspl.data.pictures import Content
from sspl.faces.face import Face, Pixels

ROUTES = ["/v1/predict", "/v1/explain?attribute=Smiling"]


async def later(seconds: float = 60.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_room_is_given_in_the_order_of_asking() -> None:
    async def ask() -> list[str]:
        room, got = Room(10), []

        async def take(name: str, amount: int) -> None:
            await room.wait_for(amount, await later())
            got.append(name)

        await take("a", 6)
        tasks = [asyncio.create_task(take(name, n)) for name, n in [("b", 8), ("c", 2), ("d", 2)]]
        await asyncio.sleep(0)
        # c and d would fit, but would keep b away for ever.
        with pytest.raises(BusyError):
            room.take(1)
        tasks[1].cancel()
        room.give(6)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert room.used == 10
        return got

    assert asyncio.run(ask()) == ["a", "b", "d"]


def test_who_waits_too_long_for_room_is_sent_away_and_the_next_comes() -> None:
    async def ask() -> None:
        room = Room(10)
        room.take(5)
        large = asyncio.create_task(room.wait_for(8, await later(0.01)))
        await asyncio.sleep(0)
        small = asyncio.create_task(room.wait_for(5, await later()))
        with pytest.raises(BusyError):
            await large
        await small
        assert room.used == 10
        with pytest.raises(BusyError):
            await room.wait_for(11, await later())

    asyncio.run(ask())


@given(
    st.lists(
        st.tuples(st.integers(1, 12), st.sampled_from(["keep", "cancel", "brief"])), max_size=30
    )
)
@settings(max_examples=60, deadline=None)
def test_no_more_than_all_of_a_room_is_in_use_and_all_comes_back(
    asked: list[tuple[int, str]],
) -> None:
    async def ask() -> None:
        room = Room(12)

        async def use(amount: int, until: float) -> None:
            with room.share() as share:
                await share.wait_for(amount, until)
                assert room.used <= room.size
                await asyncio.sleep(0)
                share.keep(amount // 2)
                await asyncio.sleep(0)

        now = await later(0)
        tasks = []
        for amount, how in asked:
            tasks.append(asyncio.create_task(use(amount, now + (0 if how == "brief" else 60))))
            await asyncio.sleep(0)
            if how == "cancel":
                tasks[len(tasks) // 2].cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [e for e in ends if e and not isinstance(e, BusyError | asyncio.CancelledError)]
        assert room.used == 0

    asyncio.run(ask())


def test_an_item_whose_caller_left_is_not_computed() -> None:
    async def ask() -> list[list[int]]:
        seen: list[list[int]] = []

        def note(items: Any) -> Any:
            seen.append(list(items))
            return items

        batcher: Batcher[int, int] = Batcher(note, 8, 0.0, 2)
        tasks = [asyncio.create_task(batcher.submit(i)) for i in (1, 2)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        assert len(batcher) == 1
        serving = asyncio.create_task(batcher.run())
        await batcher.submit(3)
        serving.cancel()
        return seen

    assert [i for items in asyncio.run(ask()) for i in items] == [2, 3]


def png(mode: str, size: tuple[int, int], notes: str = "") -> bytes:
    file, info = io.BytesIO(), PngImagePlugin.PngInfo()
    if notes:
        info.add_text("notes", notes, zip=True)
    Image.new(mode, size, 1).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def test_memory_of_decoding_by_hand() -> None:
    def of(content: bytes) -> int:
        return decoding_bytes(Content(content, "it"))

    assert of(png("1", (10, 20))) == 200 * PIXEL_BYTES
    assert of(png("RGB", (10, 20))) == 200 * PIXEL_BYTES
    assert of(png("I;16", (10, 20))) == 200 * DEEP_PIXEL_BYTES
    file = io.BytesIO()
    Image.new("RGB", (10, 20)).save(file, "WEBP")
    assert of(file.getvalue()) == 200 * WEBP_PIXEL_BYTES
    assert of(png("L", (10, 20), "n" * 50_000)) - 200 * PIXEL_BYTES >= 50_000


Receive = Callable[[], Awaitable[dict[str, Any]]]


async def ask(
    app: FastAPI, path: str, body: list[bytes], headers: dict[str, str], left: asyncio.Event
) -> list[dict[str, Any]]:
    """Send a request as a server does, whose client leaves when `left` is set.

    With no last piece of the body, None, the client leaves in the middle of it.
    """
    pieces, sent = list(body), []

    async def receive() -> dict[str, Any]:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": True}
        if not left.is_set() and not told:
            told.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    told: list[bool] = []
    route, _, query = path.partition("?")
    given = {"host": "localhost"} | {k.lower(): v for k, v in headers.items()}
    scope = {
        "type": "http", "method": "POST", "path": route, "raw_path": route.encode(),
        "query_string": query.encode(), "root_path": "", "scheme": "http", "http_version": "1.1",
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "state": {},
        "headers": [(k.encode(), v.encode()) for k, v in given.items()],
    }  # fmt: skip
    await app(scope, receive, send)
    return sent


class Slow(Reader):
    """Looks at a picture when it is told to, and notes how many are looked at at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, None, "cpu", "fp32")
        self.go = threading.Event()
        self.now = self.most = self.looked = 0
        self._count = threading.Lock()

    def look(self, content: bytes, max_pixels: int, max_faces: int) -> LookedUpload:
        with self._count:
            self.now += 1
            self.looked += 1
            self.most = max(self.most, self.now)
        self.go.wait(20)
        with self._count:
            self.now -= 1
        return super().look(content, max_pixels, max_faces)


async def until(true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never true")


@pytest.mark.parametrize("path", ROUTES)
def test_what_a_client_that_left_had_asked_is_dropped(
    run: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Work that a thread has begun keeps its memory until it ends, other work is not begun."""
    slow = Slow(run)
    content = picture()
    each = decoding_bytes(Content(content, "it"))

    async def clients() -> None:
        app = make_app(slow, ServeSettings(readers=1, max_decoded=2 * each))
        async with app.router.lifespan_context(app):
            service, left, stays = app.state.service, asyncio.Event(), asyncio.Event()
            leaving = [asyncio.create_task(ask(app, path, [content], JPEG, left)) for _ in range(6)]
            await until(lambda: slow.now == 1 and service.memory.used == 2 * each)
            staying = asyncio.create_task(ask(app, path, [content], JPEG, stays))
            left.set()
            # The one in a thread and the one that came later are there still.
            await until(lambda: service.requests.used == 2)
            assert service.memory.used >= each
            slow.go.set()
            answer = await staying
            assert answer[0]["status"] == 200
            assert await asyncio.gather(*leaving) == [[]] * 6
            await until(lambda: service.memory.used == 0)
            assert (service.uploads.used, service.requests.used) == (0, 0)

    with caplog.at_level(logging.INFO):
        asyncio.run(clients())
    assert slow.looked == 2
    said = [r for r in caplog.records if r.name.startswith("sspl")]
    assert {r.getMessage() for r in said} == {"a client left before it had its answer"}
    assert not [r for r in said if r.exc_info]


@pytest.mark.parametrize("path", ROUTES)
def test_pictures_wait_for_memory_or_are_refused(run: Path, path: str) -> None:
    slow = Slow(run)
    content = picture()
    each = decoding_bytes(Content(content, "it"))

    async def replies(patience: float, count: int) -> list[httpx.Response]:
        limits = ServeSettings(max_decoded=2 * each, patience=patience, readers=4)
        app = make_app(slow, limits)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                asks = [asyncio.create_task(http.post(path, content=content)) for _ in range(count)]
                if not patience:
                    await until(lambda: sum(a.done() for a in asks) == count - slow.now)
                slow.go.set()
                return [await a for a in asks]

    found = asyncio.run(replies(60, 8))
    assert [r.status_code for r in found] == [200] * 8
    assert slow.most <= 2
    slow.go.clear()
    found = asyncio.run(replies(0, 8))
    refused = [r for r in found if r.status_code == 503]
    assert len(refused) >= 6
    assert {r.headers["Retry-After"] for r in refused} == {"2"}
    assert refused[0].json() == {"error": "too many pictures are waiting; try again."}


def test_more_requests_than_may_wait_are_refused_at_once(run: Path) -> None:
    slow = Slow(run)

    async def clients() -> list[int]:
        app = make_app(slow, ServeSettings(max_waiting=3))
        async with app.router.lifespan_context(app):
            stays = asyncio.Event()
            asks = [
                asyncio.create_task(ask(app, ROUTES[0], [picture()], JPEG, stays)) for _ in range(5)
            ]
            await until(lambda: sum(a.done() for a in asks) == 2)
            slow.go.set()
            return sorted([(await a)[0]["status"] for a in asks])

    assert asyncio.run(clients()) == [200, 200, 200, 503, 503]


@pytest.mark.parametrize("kind", ["image/jpeg", "multipart/form-data; boundary=b"])
def test_bytes_of_uploads_are_bounded(run: Path, kind: str) -> None:
    """What has arrived counts and not what was announced; slow clients hold little."""
    head = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'

    async def drip(size: int, go: asyncio.Event) -> AsyncIterator[bytes]:
        if "multipart" in kind:
            yield head
        yield b"x" * size
        await go.wait()

    async def clients() -> None:
        app = make_app(
            Reader(run, None, "cpu", "fp32"), ServeSettings(max_uploads=10_000, max_bytes=8000)
        )
        async with app.router.lifespan_context(app):
            service, go = app.state.service, asyncio.Event()
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:

                def post(size: int) -> asyncio.Task[httpx.Response]:
                    sent = http.post(ROUTES[0], content=drip(size, go), headers=headers)
                    return asyncio.create_task(sent)

                headers = {"Content-Type": kind, "Content-Length": "7999"}
                slow = [post(1000), post(7000)]
                await until(lambda: 8000 <= service.uploads.used <= 8000 + 2 * len(head))
                assert (await post(3000)).status_code == 503
                assert 8000 <= service.uploads.used <= 8000 + 2 * len(head)
                go.set()
                assert [(await a).status_code for a in slow] == [400, 400]
                assert service.uploads.used == 0

    asyncio.run(clients())


def test_a_picture_that_could_never_be_decoded_is_refused_with_the_reason(run: Path) -> None:
    with client_of(Reader(run, None, "cpu", "fp32"), max_decoded=3_000_000) as client:
        reply = client.post(ROUTES[0], content=png("I;16", (300, 300)))
        assert reply.status_code == 400
        assert "would take 3 MB of memory, more than 3" in reply.json()["error"]
        assert client.post(ROUTES[0], content=png("L", (300, 300))).status_code == 200


class Crowd:
    """A detector that finds the same five faces, the third the largest."""

    def detect(self, image: Pixels) -> list[Face]:
        return [Face((0.0, 0.0, side, side), 0.9) for side in (10.0, 30.0, 50.0, 40.0, 20.0)]


def test_of_many_faces_the_largest_are_looked_at(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(most: int) -> dict[str, Any]:
        with client_of(Reader(run, Crowd(), "cpu", "fp32"), max_faces=most) as client:
            found: dict[str, Any] = client.post(ROUTES[0], content=picture()).json()
            return found

    everybody = answer(5)
    assert (len(everybody["faces"]), everybody["left_out"]) == (5, 0)
    monkeypatch.setattr(reader, "MOST_SCORED", 2)
    largest = answer(3)
    assert [face["box"][2] for face in largest["faces"]] == [50, 40, 30]
    assert largest["left_out"] == 2
    for one, other in zip(largest["faces"], everybody["faces"], strict=False):
        for a, b in zip(one["attributes"], other["attributes"], strict=True):
            assert a["probability"] == pytest.approx(b["probability"], abs=2e-4)


@pytest.fixture(scope="module")
def client(run: Path) -> Iterator[httpx.Client]:
    with client_of(Reader(run, None, "cpu", "fp32"), max_bytes=200_000) as found:
        yield found


@pytest.mark.parametrize(
    "kind",
    ["image/jpg", "image/pjpeg", "image/png", "IMAGE/JPEG; q=1", "application/octet-stream",
     "binary/octet-stream", "image/x-unknown", "", None],
)  # fmt: skip
def test_what_a_picture_is_called_does_not_matter(client: httpx.Client, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    reply = client.post(ROUTES[0], content=picture(), headers=headers)
    assert reply.json() == client.post(ROUTES[0], content=picture(), headers=JPEG).json()
    assert (reply.status_code, reply.json()["width"]) == (200, 64)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("field", ["file", "image", "", "ä"])
def test_a_form_with_one_file_is_the_picture(client: httpx.Client, field: str, route: str) -> None:
    reply = client.post(route, files={field: ("ü.jpg", picture())}, data={"other": "x"})
    assert reply.status_code == 200
    assert reply.json() == client.post(route, content=picture(), headers=JPEG).json()


BOUNDARY = {"Content-Type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="f"; filename="%b"\r\n\r\n%b\r\n'


@pytest.mark.parametrize(
    ("body", "headers", "status", "sentence"),
    [
        (PART % (b"a", b"x") + PART % (b"b", b"y") + b"--b--\r\n", BOUNDARY, 400, "holds 2 files"),
        (PART % (b"", b"") + b"--b--\r\n", BOUNDARY, 400, "holds no file"),
        (b"--b--\r\n", BOUNDARY, 400, "holds no file"),
        (PART % (b"a", b"") + b"--b--\r\n", BOUNDARY, 400, "no bytes came"),
        (PART % (b"a", b"x") + b"--b--\r\n", BOUNDARY, 400, "not a picture"),
        (PART % (b"a", picture()), BOUNDARY, 400, "breaks off"),
        (PART % (b"a", picture())[:300], BOUNDARY, 400, "breaks off"),
        (b"", BOUNDARY, 400, "breaks off"),
        (b"no form at all", BOUNDARY, 400, "damaged"),
        (PART % (b"n" * 9000, b"x") + b"--b--\r\n", BOUNDARY, 400, "damaged"),
        (PART % (b"a", b"x"), {"Content-Type": "multipart/form-data"}, 400, "without a boundary"),
        (b"x", {"Content-Type": "multipart/form-data; boundary=" + "b" * 300}, 400, ""),
        (PART % (b"a", b"x" * 200_001) + b"--b--\r\n", BOUNDARY, 413, "larger than 200000"),
        (PART % (b"a", b"x" * 300_000) + b"--b--\r\n", BOUNDARY, 413, "larger than"),
    ],
)
def test_forms_that_cannot_be_read(
    client: httpx.Client, body: bytes, headers: dict[str, str], status: int, sentence: str
) -> None:
    reply = client.post(ROUTES[0], content=body, headers=headers)
    assert (reply.status_code, list(reply.json())) == (status, ["error"])
    assert sentence in reply.json()["error"]


@given(st.binary(max_size=200), st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_no_form_fails_the_server(client: httpx.Client, content: bytes, at: int) -> None:
    whole = PART % (b"a", b"xyz" * 50) + b"--b--\r\n"
    reply = client.post(ROUTES[0], content=whole[:at] + content + whole[at:], headers=BOUNDARY)
    assert reply.status_code == 400
    assert json.loads(reply.text)["error"]


@given(st.text(max_size=80))
@settings(max_examples=30, deadline=None)
def test_a_content_type_is_taken_or_refused_in_ascii(kind: str) -> None:
    plain = kind.split(";")[0].strip().lower()
    if not plain or plain.startswith("image/"):
        check_kind(kind)
        return
    with pytest.raises(HTTPException) as refused:
        check_kind(kind)
    assert refused.value.status_code == 415
    assert str(refused.value.detail).isascii()


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_newer_formats_are_served(client: httpx.Client, kind: str) -> None:
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    image = Image.open(io.BytesIO(picture()))
    if kind == "HEIF":
        heif.from_pillow(image).save(file)
    else:
        image.save(file, "AVIF")
    found = client.post(ROUTES[0], content=file.getvalue()).json()
    assert (found["width"], found["height"]) == (64, 64)


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/model", "/openapi.json"])
def test_head_is_get_without_a_body(client: httpx.Client, path: str) -> None:
    head, whole = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == whole.headers
    assert int(whole.headers["Content-Length"]) == len(whole.content) > 0
    for method in ("OPTIONS", "PUT"):
        refused = client.request(method, path)
        assert refused.status_code == 405
        assert set(refused.headers["Allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("method", ["HEAD", "GET", "OPTIONS", "DELETE"])
def test_pictures_are_posted(client: httpx.Client, method: str) -> None:
    reply = client.request(method, ROUTES[0])
    assert (reply.status_code, reply.headers["Allow"]) == (405, "POST")


def test_a_kind_of_event_is_written_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = logging.getLogger("sspl.tests.sparing")
    log.addFilter(Sparing(10.0, lambda: now[0]))
    with caplog.at_level(logging.DEBUG, log.name):
        for i in range(5):
            log.info("client %d left", i)
            log.debug("beside it")
        log.warning("another")
        now[0] = 10.0
        log.info("client %d left", 7)
        now[0] = 20.0
        log.info("client %d left", 8)
    said = [r.getMessage() for r in caplog.records if r.levelno > logging.DEBUG]
    assert said == [
        "client 0 left",
        "another",
        "client 7 left (4 more like it since the last line)",
        "client 8 left",
    ]
    assert len(caplog.records) == 9


@contextlib.contextmanager
def listening(app: Any) -> Iterator[int]:
    """A server of this process on the loopback; yields its port."""
    config = uvicorn.Config(app, log_level="error", http=Connection, ws="none")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield bound.getsockname()[1]
        server.should_exit = True
        thread.join()


async def hello(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hi"})


def test_connections_are_few_and_may_not_be_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    monkeypatch.setattr(connections, "MOST_ANSWERED", 2)
    monkeypatch.setattr(connections, "MOST_OPEN", 3)

    def connect(port: int) -> socket.socket:
        return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))

    def answered(connection: socket.socket) -> None:
        connection.sendall(request)
        got = b""
        while not got.endswith(b"hi"):
            got += connection.recv(4096)
        assert got.startswith(b"HTTP/1.1 200")

    with listening(hello) as port, contextlib.ExitStack() as stack:
        first = connect(port)
        answered(first)
        connect(port)
        third = connect(port)
        third.sendall(request)
        answer = third.recv(4096)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 5" in answer
        monkeypatch.setattr(connections, "MOST_OPEN", 1)
        with contextlib.suppress(ConnectionResetError):
            assert connect(port).recv(10) == b""
        answered(first)


def test_a_connection_that_brings_no_whole_request_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However often it sends something."""
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.2)
    with (
        listening(hello) as port,
        socket.create_connection(("127.0.0.1", port), timeout=20) as slow,
        contextlib.suppress(ConnectionError),
    ):
        slow.sendall(b"GET / HTTP/1.1\r\n")
        slow.settimeout(0.05)
        for number in range(400):
            with contextlib.suppress(TimeoutError):
                assert slow.recv(10) == b""
                return
            slow.sendall(b"X-%d: a\r\n" % number)
        raise AssertionError("the connection stays")


def test_a_stopped_server_answers_or_refuses_what_is_in_flight(run: Path) -> None:
    """Clients that left, were no HTTP or sent half a picture leave a line each kind in the log."""
    command = [sys.executable, "-m", "sspl", "serve", str(run), "--no-detect", "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if "running on " in line:
            break
    address = line.split("running on ")[1].split()[0]
    place = ("127.0.0.1", int(address.rpartition(":")[2]))
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n"
    for number in range(40):
        with socket.create_connection(place) as half:
            half.sendall(head + b"x" * 100 if number % 2 else b"\0no http\r\n\r\n")
    file = io.BytesIO()
    Image.fromarray(np.zeros((2500, 2500), np.uint8)).save(file, "PNG")

    async def clients() -> list[str]:
        async with httpx.AsyncClient(base_url=address, timeout=60) as http:
            asks = [
                asyncio.create_task(http.post("/v1/predict", content=file.getvalue()))
                for _ in range(12)
            ]
            await asyncio.wait(asks, return_when=asyncio.FIRST_COMPLETED)
            server.send_signal(signal.SIGTERM)
            found = await asyncio.gather(*asks, return_exceptions=True)
            return [str(getattr(r, "status_code", repr(r))) for r in found]

    statuses = asyncio.run(clients())
    log = server.stderr.read()
    assert server.wait(60) == 0
    assert set(statuses) <= {"200", "503"}
    assert "200" in statuses
    assert "Traceback" not in log
    assert "a client left" in log
    assert log.count("a client left") < 3
    assert log.count("Invalid HTTP request") < 3
