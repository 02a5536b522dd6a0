"""The web application: routes, and what each refusal looks like."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, TypeVar

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from sspl import __version__
from sspl.device import usable_cores
from sspl.errors import DataError
from sspl.inference.crops import FaceCrop
from sspl.inference.explain import FaceParts, by_part, classes_of
from sspl.inference.heat import heat_map
from sspl.models.bundle import AttributeModel
from sspl.serving.batching import Batcher, BusyError
from sspl.serving.guards import RateLimit
from sspl.serving.reader import Reader, open_picture
from sspl.serving.settings import ServeSettings
from sspl.serving.shell import add_shell, page, read_body, refuse_other_sites

PICTURE_TYPES: Final = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/tiff")


class AttributeAnswer(BaseModel):
    """One attribute of one face."""

    name: str
    probability: float = Field(ge=0, le=1, description="calibrated on validation faces")
    present: bool = Field(description="whether the probability reaches the threshold")
    sure: bool = Field(description="whether it lies outside the band of 'not sure'")


class FaceAnswer(BaseModel):
    """One face; the box is in px of the upright picture, null when the whole picture is it."""

    box: tuple[float, float, float, float] | None
    score: float | None = Field(description="the detector's, on its own scale")
    attributes: list[AttributeAnswer]


class PictureAnswer(BaseModel):
    """The faces of a picture, the largest first."""

    width: int
    height: int
    faces: list[FaceAnswer]


class Explanation(BaseModel):
    """Why one attribute of one face: `baseline` plus `parts`, where there are any, is its logit."""

    attribute: str
    baseline: float
    parts: dict[str, float] = Field(
        description="what each part of the face adds; empty where the model pools over all places"
    )
    picture: str = Field(
        description="PNG as a data: address; red speaks for the attribute, blue against it"
    )


class ModelAnswer(BaseModel):
    """What the server predicts and how."""

    version: str
    attributes: list[str]
    detects_faces: bool
    input_size: int
    max_bytes: int
    max_pixels: int


class Health(BaseModel):
    """The server answers, and how many pictures wait."""

    status: str
    waiting: int


class Refusal(BaseModel):
    """Why a request was not answered, in one sentence."""

    error: str


REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    code: {"model": Refusal} for code in (400, 403, 408, 413, 415, 422, 429, 503)
}
PICTURE_BODY: Final = {
    "requestBody": {
        "required": True,
        "description": "The picture's bytes.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURE_TYPES
        },
    }
}  # fmt: skip


MOST_EXPLAINED: Final = 8
"""Faces explained together; each needs the memory of many predictions."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Service:
    """A reader behind queues: many requests, one network."""

    def __init__(self, reader: Reader, settings: ServeSettings) -> None:
        self.reader = reader
        self.settings = settings
        self.batcher = Batcher(
            reader.probabilities, settings.max_batch, settings.max_wait, settings.max_waiting
        )
        self.explainer = Batcher(
            reader.explanations, min(MOST_EXPLAINED, settings.max_batch), settings.max_wait,
            settings.max_waiting,
        )  # fmt: skip
        self.pool = ThreadPoolExecutor(settings.readers or usable_cores(), "read")
        self.uploads = asyncio.Semaphore(settings.max_reading)
        self.limit = RateLimit(settings.rate, settings.burst)

    def guard(self, request: Request) -> None:
        """Refuse what another site's page sent, what is no picture, and what comes too often."""
        refuse_other_sites(request)
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind not in PICTURE_TYPES:
            raise HTTPException(415, f"send a picture as {', '.join(PICTURE_TYPES)}.")
        wait = self.limit.wait(request.client.host if request.client else "")
        if wait:
            raise HTTPException(
                429, "too many pictures from this address; send them more slowly.",
                {"Retry-After": str(int(wait) + 1)},
            )  # fmt: skip

    async def picture(self, request: Request) -> tuple[Image.Image, list[FaceCrop]]:
        """Return the uploaded picture and its faces."""
        loop = asyncio.get_running_loop()
        async with self.uploads:
            content = await read_body(
                request, self.settings.max_bytes, self.settings.body_seconds, "picture"
            )
            try:
                return await loop.run_in_executor(self.pool, self._read, content)
            except DataError as error:
                raise HTTPException(400, str(error)) from None

    def _read(self, content: bytes) -> tuple[Image.Image, list[FaceCrop]]:
        image = open_picture(content, self.settings.max_pixels)
        return image, self.reader.faces(image)

    async def answer(self, request: Request) -> PictureAnswer:
        """Return what is on the uploaded picture."""
        image, faces = await self.picture(request)
        scores = await _queued(self.batcher, faces)
        model = self.reader.model
        return PictureAnswer(
            width=image.width,
            height=image.height,
            faces=[
                FaceAnswer(box=face.box, score=face.score, attributes=_attributes(model, row))
                for face, row in zip(faces, scores, strict=True)
            ],
        )

    async def explanation(self, request: Request, attribute: str, number: int) -> Explanation:
        """Return why one attribute of one face of the uploaded picture is as it is."""
        model = self.reader.model
        if attribute not in model.schema.names:
            raise HTTPException(422, f"attribute: the model has no '{attribute}'.")
        _, faces = await self.picture(request)
        if number >= len(faces):
            raise HTTPException(404, f"face: the picture has {len(faces)}, counted from 0.")
        parts = await _queued(self.explainer, faces[number])
        loop, place = asyncio.get_running_loop(), model.schema.index(attribute)
        return await loop.run_in_executor(
            self.pool, _explanation, model, faces[number], parts, place
        )


async def _queued(batcher: Batcher[Item, Result], item: Item) -> Result:
    try:
        return await batcher.submit(item)
    except BusyError:
        raise HTTPException(
            503, "too many pictures are waiting; try again.", {"Retry-After": "1"}
        ) from None


def _explanation(
    model: AttributeModel, face: FaceCrop, parts: FaceParts, place: int
) -> Explanation:
    file = io.BytesIO()
    Image.fromarray(heat_map(face.canvas, parts.maps[place])).save(file, "PNG")
    return Explanation(
        attribute=model.schema.names[place],
        baseline=round(float(parts.baseline[place]), 4),
        parts={k: round(v, 4) for k, v in by_part(parts, place, classes_of(model)).items()},
        picture=f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}",
    )


def _attributes(model: AttributeModel, row: NDArray[np.float64]) -> list[AttributeAnswer]:
    names = model.schema.names
    present, unsure = model.decisions.decide(names, row[None])
    return [
        AttributeAnswer(name=name, probability=round(float(p), 4), present=yes, sure=not doubt)
        for name, p, yes, doubt in zip(
            names, row, present[0].tolist(), unsure[0].tolist(), strict=True
        )
    ]


def make_app(reader: Reader, settings: ServeSettings) -> FastAPI:
    """Return the application: the page, the JSON API, its OpenAPI description."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = Service(reader, settings)
        queues = [
            asyncio.create_task(service.batcher.run()),
            asyncio.create_task(service.explainer.run()),
        ]
        yield
        for queue in queues:
            queue.cancel()
        service.pool.shutdown(wait=False, cancel_futures=True)

    # The interactive documentation pages would load scripts from elsewhere.
    app = FastAPI(
        title="sspl", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Attributes of the faces in a picture.",
    )  # fmt: skip
    add_shell(app, settings.hosts)
    text, policy = page("serving")

    def service(request: Request) -> Service:
        found: Service = request.app.state.service
        return found

    def guarded(request: Request) -> None:
        service(request).guard(request)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def show_page() -> HTMLResponse:
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})

    @app.get("/healthz")
    def health(request: Request) -> Health:
        """Say that the server is up."""
        return Health(status="ok", waiting=service(request).batcher.queue.qsize())

    @app.get("/v1/model")
    def describe() -> ModelAnswer:
        """Say what is predicted."""
        return ModelAnswer(
            version=__version__,
            attributes=list(reader.attributes),
            detects_faces=reader.detector is not None,
            input_size=reader.model.input_size,
            max_bytes=settings.max_bytes,
            max_pixels=settings.max_pixels,
        )

    @app.post(
        "/v1/predict",
        responses=REFUSALS,
        openapi_extra=PICTURE_BODY,
        dependencies=[Depends(guarded)],
    )
    async def predict(request: Request) -> PictureAnswer:
        """Return the faces of one picture, sent as the body, and their attributes."""
        return await service(request).answer(request)

    @app.post(
        "/v1/explain",
        responses=REFUSALS | {404: {"model": Refusal}},
        openapi_extra=PICTURE_BODY,
        dependencies=[Depends(guarded)],
    )
    async def explain(
        request: Request,
        attribute: Annotated[str, Query(json_schema_extra={"enum": list(reader.attributes)})],
        face: Annotated[int, Query(ge=0, description="as /v1/predict counts them, from 0")] = 0,
    ) -> Explanation:
        """Return which places of a face of the picture move one attribute, and by how much."""
        return await service(request).explanation(request, attribute, face)

    return app
