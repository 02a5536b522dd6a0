"""The server: what it answers, what it refuses, and that requests share a batch."""

import asyncio
import base64
import hashlib
import io
import json
import re
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.special import logit
from tests.shared import refused

from sspl.apps.serving.app import make_app
from sspl.apps.serving.batching import Batcher, BusyError
from sspl.apps.serving.guards import RateLimit, from_another_site
from sspl.apps.serving.reader import Reader
from sspl.apps.serving.serving_settings import ServeSettings
from sspl.data.images import image_canvas
from sspl.data.synthetic.render import render_face
from sspl.domain.attributes import AttributeSchema
from sspl.faces.face import Face, Pixels
from sspl.inference.attribution import explain_canvases
from sspl.inference.crops import FaceCrop
from sspl.inference.explain import face_parts
from sspl.inference.heat import heat_map
from sspl.models.bundle import AttributeModel, load_model, save_model
from sspl.models.decisions import Decisions
from sspl.models.network_settings import BackboneSettings, HeadSettings, SegmentationSettings
from sspl.models.scoring import logits_of
from sspl.models.splnet import build_attribute_network

SCHEMA = AttributeSchema(("Smiling", "Eyeglasses"), ("whole", "upper"))
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network that tells faces apart."""
    torch.manual_seed(3)
    network = build_attribute_network(
        "sspl",
        BackboneSettings(width=0.125, stem_stride=2),
        HeadSettings(),
        SCHEMA,
        SegmentationSettings(),
        ("background", "skin"),
    ).eval()
    with torch.no_grad():
        network.head.weight.mul_(20)
    folder = tmp_path_factory.mktemp("served")
    save_model(
        folder,
        AttributeModel(
            network,
            SCHEMA,
            (0.0, 0.0, 1.0, 1.0),
            40,
            32,
            True,
            np.full(2, 0.5),
            np.array([1.0, 2.0]),
        ),
    )
    return folder


class TwoFaces:
    """A detector that always finds the same two faces, the smaller one first."""

    def detect(self, image: Pixels) -> list[Face]:
        return [Face((2.0, 2.0, 12.0, 12.0), 0.5), Face((10.0, 10.0, 60.0, 60.0), 0.9)]


def picture(number: int = 0, side: int = 64) -> bytes:
    file = io.BytesIO()
    Image.fromarray(render_face(5, number, side).image).save(file, "JPEG", quality=95)
    return file.getvalue()


def client_of(reader: Reader, **limits: object) -> TestClient:
    return TestClient(
        make_app(reader, ServeSettings(**limits)),  # type: ignore[arg-type]
        base_url="http://localhost",
        raise_server_exceptions=False,
    )


@pytest.fixture(scope="module")
def client(run: Path) -> Iterator[TestClient]:
    with client_of(
        Reader(run, None, "cpu", "fp32"), max_bytes=200_000, max_pixels=500_000
    ) as found:
        yield found


def test_a_picture_gets_the_models_calibrated_probabilities(client: TestClient, run: Path) -> None:
    reader = Reader(run, None, "cpu", "fp32")
    decoded = Image.open(io.BytesIO(picture()))
    canvas = image_canvas(decoded, (0.0, 0.0, 1.0, 1.0), 40)
    pixels = torch.from_numpy(canvas.copy()).permute(2, 0, 1)[None]
    logits = logits_of(reader.model.network, pixels, 32, True, "fp32")[0].numpy()
    expected = 1 / (1 + np.exp(-logits / [1.0, 2.0]))
    answer = client.post("/v1/predict", content=picture(), headers=JPEG).json()
    assert (answer["width"], answer["height"]) == (64, 64)
    (face,) = answer["faces"]
    assert face["box"] is None
    found = face["attributes"]
    assert [a["name"] for a in found] == ["Smiling", "Eyeglasses"]
    np.testing.assert_allclose([a["probability"] for a in found], expected, rtol=1e-6)
    assert [a["present"] for a in found] == [bool(p >= 0.5) for p in expected]


def test_the_decision_follows_from_the_number_that_is_sent(run: Path, tmp_path: Path) -> None:
    """Also where the threshold differs from the probability in the sixth digit alone."""
    with client_of(Reader(run, None, "cpu", "fp32")) as client:
        face = client.post("/v1/predict", content=picture(), headers=JPEG).json()["faces"][0]
    told = {a["name"]: a["probability"] for a in face["attributes"]}
    below, above = np.nextafter(told["Smiling"], 0), told["Eyeglasses"] + 1e-6
    thresholds = {"Smiling": float(below), "Eyeglasses": above}
    model = replace(load_model(run), decisions=Decisions(thresholds=thresholds))
    save_model(tmp_path / "at", model)
    with client_of(Reader(tmp_path / "at", None, "cpu", "fp32")) as client:
        face = client.post("/v1/predict", content=picture(), headers=JPEG).json()["faces"][0]
    for found in face["attributes"]:
        assert found["present"] == (found["probability"] >= thresholds[found["name"]])
    assert [a["present"] for a in face["attributes"]] == [True, False]


def test_faces_come_with_boxes_the_largest_first(run: Path) -> None:
    with client_of(Reader(run, TwoFaces(), "cpu", "fp32")) as client:
        answer = client.post("/v1/predict", content=picture(), headers=JPEG).json()
    assert [face["box"] for face in answer["faces"]] == [[10, 10, 60, 60], [2, 2, 12, 12]]
    large, small = (face["attributes"][0]["probability"] for face in answer["faces"])
    assert large != small


def test_an_explanation_is_the_faces_own(run: Path) -> None:
    """Red is where the places of the chosen face speak for the attribute."""
    reader = Reader(run, TwoFaces(), "cpu", "fp32")
    image = Image.open(io.BytesIO(picture()))
    crops, _ = reader.faces(image, 10)
    parts = face_parts(explain_canvases(reader.model, np.stack([crops[1].canvas])))[0]
    wanted = heat_map(crops[1].canvas, parts.maps[1])
    with client_of(reader) as client:
        asked = {"attribute": "Eyeglasses", "face": 1}
        reply = client.post("/v1/explain", params=asked, content=picture(), headers=JPEG)
        answer = client.post("/v1/predict", content=picture(), headers=JPEG).json()
    found = reply.json()
    assert (found["attribute"], found["parts"]) == ("Eyeglasses", {})
    kind, _, content = found["picture"].partition(",")
    assert kind == "data:image/png;base64"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    np.testing.assert_array_equal(shown, wanted)
    share = answer["faces"][1]["attributes"][1]["probability"]
    assert parts.probabilities[1] == pytest.approx(share, abs=1e-6)
    assert found["baseline"] + parts.maps[1].sum() == pytest.approx(logit(share), abs=1e-5)


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("", 422, "attribute: Field required"),
        ("?attribute=Beautiful", 422, "the model has no 'Beautiful'"),
        ("?attribute=Smiling&face=1", 404, "face: the picture has 1, counted from 0"),
        ("?attribute=Smiling&face=-1", 422, "face: "),
    ],
)
def test_what_cannot_be_explained(
    client: TestClient, query: str, status: int, sentence: str
) -> None:
    reply = client.post(f"/v1/explain{query}", content=picture(), headers=JPEG)
    assert (reply.status_code, list(reply.json())) == (status, ["error"])
    assert sentence in reply.json()["error"]


def test_an_upright_picture_is_what_counts(run: Path) -> None:
    turned = io.BytesIO()
    image = Image.open(io.BytesIO(picture())).crop((0, 0, 64, 48))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.rotate(90, expand=True).save(turned, "PNG", exif=exif)
    with client_of(Reader(run, None, "cpu", "fp32")) as client:
        png = {"Content-Type": "image/png"}
        answer = client.post("/v1/predict", content=turned.getvalue(), headers=png).json()
    assert (answer["width"], answer["height"]) == (64, 48)


def test_requests_that_come_together_share_a_batch(run: Path) -> None:
    class Counting(Reader):
        batches: list[int] = []  # noqa: RUF012

        def probabilities(self, pictures: Sequence[Sequence[FaceCrop]]) -> list[np.ndarray]:
            self.batches.append(len(pictures))
            return super().probabilities(pictures)

    reader = Counting(run, None, "cpu", "fp32")

    async def ask() -> list[dict]:
        app = make_app(reader, ServeSettings(max_wait=0.5, max_batch=12))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                asks = [
                    http.post("/v1/predict", content=picture(i % 3), headers=JPEG)
                    for i in range(12)
                ]
                return [reply.json() for reply in await asyncio.gather(*asks)]

    answers = asyncio.run(ask())
    assert len(reader.batches) < 12
    assert sum(reader.batches) == 12
    shares = [a["faces"][0]["attributes"][0]["probability"] for a in answers]
    np.testing.assert_allclose(shares[:3] * 4, shares, atol=2e-4)
    assert len({round(s, 3) for s in shares[:3]}) == 3


def test_a_batch_keeps_order_and_an_error_reaches_only_its_batch() -> None:
    def double(items: Sequence[int]) -> list[int]:
        if 13 in items:
            raise ValueError("unlucky")
        return [2 * i for i in items]

    async def ask() -> list[object]:
        batcher: Batcher[int, int] = Batcher(double, 4, 0.01, 100)
        serving = asyncio.create_task(batcher.run())
        first = await asyncio.gather(*(batcher.submit(i) for i in range(10)))
        bad = await asyncio.gather(batcher.submit(13), return_exceptions=True)
        last = await batcher.submit(21)
        serving.cancel()
        return [first, bad, last]

    first, bad, last = asyncio.run(ask())
    assert first == [2 * i for i in range(10)]
    assert isinstance(bad[0], ValueError)
    assert last == 42


def test_a_full_queue_is_busy() -> None:
    async def ask() -> None:
        batcher: Batcher[int, int] = Batcher(list, 4, 0.0, 2)
        waiting = [asyncio.create_task(batcher.submit(i)) for i in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await batcher.submit(3)
        for task in waiting:
            task.cancel()

    asyncio.run(ask())


def test_rate_limit_by_hand() -> None:
    now = [0.0]
    limit = RateLimit(rate=2.0, burst=3, clock=lambda: now[0])
    assert [limit.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert limit.wait("b") == 0
    now[0] = 0.5
    assert limit.wait("a") == 0
    assert limit.wait("a") == pytest.approx(0.5)
    now[0] = 100.0
    assert [limit.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_the_rate_limit_forgets_the_longest_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sspl.apps.serving.guards.MOST_ADDRESSES", 2)
    limit = RateLimit(rate=1.0, burst=1, clock=lambda: 0.0)
    for address in "abc":
        assert limit.wait(address) == 0
    assert set(limit.buckets) == {"b", "c"}


@pytest.mark.parametrize(
    ("origin", "site", "foreign"),
    [
        (None, None, False),
        ("http://localhost:8000", None, False),
        ("http://localhost:8000", "same-origin", False),
        ("http://evil.example", None, True),
        ("null", None, True),
        ("http://localhost:9000", None, True),
        (None, "cross-site", True),
        (None, "same-site", True),
        (None, "none", False),
    ],
)
def test_what_comes_from_another_site(origin: str | None, site: str | None, foreign: bool) -> None:
    assert from_another_site("localhost:8000", origin, site) is foreign


def bomb(side: int) -> bytes:
    """A few bytes that say they are a large picture."""
    header = io.BytesIO()
    Image.new("1", (8, 8)).save(header, "PNG")
    content = bytearray(header.getvalue())
    content[16:24] = side.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "headers", "status", "sentence"),
    [
        (b"", JPEG, 400, "no bytes came; send the picture's bytes: curl"),
        (b"no picture at all", JPEG, 400, "not a picture"),
        (picture()[:700], JPEG, 400, "not a picture"),
        (bomb(800), {"Content-Type": "image/png"}, 400, "more than 500000 px"),
        (bomb(30_000), {"Content-Type": "image/png"}, 400, "more than 500000 px"),
        (b"x" * 200_001, JPEG, 413, "larger than 200000 bytes"),
        (picture(), {"Content-Type": "text/html"}, 415, "'text/html' is no picture; send"),
        (picture(), {"Content-Type": "application/x-www-form-urlencoded"}, 415, "--data-binary @"),
        (picture(), {"Content-Type": "application/json"}, 415, "curl -F file=@face.jpg"),
        (picture(), JPEG | {"Origin": "http://evil.example"}, 403, "other sites"),
        (picture(), JPEG | {"Host": "evil.example"}, 400, ""),
    ],
)
def test_refusals(
    client: TestClient, content: bytes, headers: dict[str, str], status: int, sentence: str
) -> None:
    reply = client.post("/v1/predict", content=content, headers=headers)
    assert reply.status_code == status
    assert sentence in reply.text
    assert "Traceback" not in reply.text
    assert "/" not in re.sub(r"(image|text|application)/[\w-]+", "", reply.text)


def test_a_body_of_unannounced_length_is_cut_off(client: TestClient) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield b"x" * 1000

    reply = client.post("/v1/predict", content=endless(), headers=JPEG)
    assert reply.status_code == 413


def test_a_slow_body_is_given_up(run: Path) -> None:
    async def dripping() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(5)
        yield b"x"

    async def ask() -> httpx.Response:
        app = make_app(Reader(run, None, "cpu"), ServeSettings(body_seconds=0.05))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return await http.post("/v1/predict", content=dripping(), headers=JPEG)

    reply = asyncio.run(ask())
    assert reply.status_code == 408
    assert "did not arrive within 0.05 s" in reply.json()["error"]


def test_too_many_pictures_are_sent_away_for_a_while(run: Path) -> None:
    with client_of(Reader(run, None, "cpu"), rate=0.1, burst=2) as client:
        replies = [client.post("/v1/predict", content=picture(), headers=JPEG) for _ in range(3)]
    assert [r.status_code for r in replies] == [200, 200, 429]
    assert 1 <= int(replies[2].headers["Retry-After"]) <= 11


def test_a_fault_of_the_server_shows_no_trace(run: Path) -> None:
    class Broken(Reader):
        def probabilities(self, pictures: Sequence[Sequence[FaceCrop]]) -> list[np.ndarray]:
            raise RuntimeError("/secret/place")

    with client_of(Broken(run, None, "cpu")) as client:
        reply = client.post("/v1/predict", content=picture(), headers=JPEG)
        assert reply.status_code == 500
        assert "secret" not in reply.text
        assert client.get("/healthz").json() == {"status": "ok", "waiting": 0}


@given(content=st.binary(max_size=300))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_pictures_never_fail_the_server(client: TestClient, content: bytes) -> None:
    whole = picture(side=32)
    for body in (content, whole[:200] + content + whole[200:]):
        reply = client.post("/v1/predict", content=body, headers=JPEG)
        assert reply.status_code in {200, 400}
        json.loads(reply.text)


def test_the_model_and_its_openapi_description(client: TestClient) -> None:
    described = client.get("/v1/model").json()
    assert described["attributes"] == ["Smiling", "Eyeglasses"]
    assert described["words"]["Smiling"] == "Smiling"
    assert described["detects_faces"] is False
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/healthz", "/v1/model", "/v1/predict", "/v1/explain"}
    operation = paths["/v1/predict"]["post"]
    assert {"200", "400", "403", "408", "413", "415", "429", "503"} <= set(operation["responses"])
    assert "image/jpeg" in operation["requestBody"]["content"]


def test_the_page_loads_nothing_from_elsewhere_and_may_run_its_own_script_alone(
    client: TestClient,
) -> None:
    reply = client.get("/")
    assert not re.search(r"(src|href)\s*=(?!\"data:)|https?://|@import|url\(", reply.text)
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    for tag in ("script", "style"):
        (block,) = re.findall(rf"<{tag}>(.*?)</{tag}>", reply.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "model.safetensors" in refused("serve", tmp_path, "--no-detect")


def test_a_wrong_limit_is_refused(run: Path) -> None:
    assert "max_bytes" in refused("serve", run, "max_bytes=0")
