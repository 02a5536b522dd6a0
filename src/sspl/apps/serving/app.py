"""The web application: routes, and what each refusal looks like."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Awaitable, Callable
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
from sspl.apps.serving.attending import in_thread, while_connected
from sspl.apps.serving.batching import Batcher
from sspl.apps.serving.guards import RateLimit
from sspl.apps.serving.reader import Explained, LookedUpload, Reader, upload_bytes
from sspl.apps.serving.rooms import BusyError, Room, Share
from sspl.apps.serving.serving_settings import ServeSettings
from sspl.apps.serving.shell import add_shell, page, refuse_other_sites
from sspl.apps.serving.uploads import FORM, check_kind, read_picture
from sspl.domain.wording import in_words
from sspl.errors import DataError
from sspl.inference.crops import FaceCrop
from sspl.inference.explain import classes_of
from sspl.inference.heat import heat_map
from sspl.io.cores import usable_cores
from sspl.models.bundle import AttributeModel
from sspl.models.frozen import frozen_part

PICTURE_TYPES: Final = (
    "image/jpeg", "image/png", "image/webp", "image/bmp", "image/tiff", "image/heic", "image/avif",
    "application/octet-stream",
)  # fmt: skip
"""Those that the description names; others of images are taken too, by what the bytes are."""


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
    left_out: int = Field(description="smaller faces that were found and not looked at")


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
    words: dict[str, str] = Field(description="what attributes and parts of a face are called")
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
        "description": "The picture's bytes, or a form with one file.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURE_TYPES
        }
        | {
            FORM: {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                }
            }
        },
    }
}


MOST_EXPLAINED: Final = 8
"""Faces explained together; each needs the memory of many predictions."""

Result = TypeVar("Result")


class Service:
    """A reader behind queues: many requests, one network, and bounds on what they take."""

    def __init__(self, reader: Reader, settings: ServeSettings) -> None:
        self.reader = reader
        self.settings = settings
        self.batcher = Batcher(
            reader.probabilities, settings.max_batch, settings.max_wait, settings.max_waiting
        )
        self.explainer = Batcher(
            reader.explanations,
            min(MOST_EXPLAINED, settings.max_batch),
            settings.max_wait,
            settings.max_waiting,
        )
        self.pool = ThreadPoolExecutor(settings.readers or usable_cores(), "read")
        # The notes in a header may take much memory: one is read at a time.
        self.headers = ThreadPoolExecutor(1, "header")
        self.requests = Room(settings.max_waiting)
        self.uploads = Room(settings.max_uploads)
        self.memory = Room(settings.max_decoded)
        self.limit = RateLimit(settings.rate, settings.burst)

    async def stop(self) -> None:
        """Wait for what the threads have begun; the rest is dropped."""
        for pool in (self.pool, self.headers):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    def guard(self, request: Request) -> None:
        """Refuse what another site's page sent, what is no picture, and what comes too often."""
        refuse_other_sites(request)
        check_kind(request.headers.get("content-type", ""))
        wait = self.limit.wait(request.client.host if request.client else "")
        if wait:
            raise HTTPException(
                429,
                "too many pictures from this address; send them more slowly.",
                {"Retry-After": str(int(wait) + 1)},
            )

    async def _served(
        self, request: Request, work: Callable[[LookedUpload], Awaitable[Result]]
    ) -> Result:
        """Return what comes of an uploaded picture; what it takes is held until then."""
        limits = self.settings
        with self.requests.share() as one, self.uploads.share() as upload:
            try:
                one.take(1)
                # The bytes have no name here, or they would be kept until the answer.
                return await while_connected(
                    request,
                    self._work(
                        await read_picture(request, limits.max_bytes, limits.body_seconds, upload),
                        upload,
                        work,
                    ),
                )
            except BusyError:
                raise HTTPException(
                    503, "too many pictures are waiting; try again.", {"Retry-After": "2"}
                ) from None

    async def _work(
        self, content: bytes, upload: Share, work: Callable[[LookedUpload], Awaitable[Result]]
    ) -> Result:
        with self.memory.share() as memory:
            looked = await self._look(content, memory)
            del content
            upload.keep(0)
            return await work(looked)

    async def _look(self, content: bytes, memory: Share) -> LookedUpload:
        limits, model = self.settings, self.reader.model
        until = asyncio.get_running_loop().time() + limits.patience
        try:
            async with asyncio.timeout_at(until):
                needed = await in_thread(self.headers, upload_bytes, content, limits.max_pixels)
            if self.reader.detector is not None:
                needed += limits.max_faces * 3 * model.canvas**2
            if needed > limits.max_decoded:
                raise DataError(
                    f"to decode the picture would take {needed / 1e6:.0f} MB of memory, more than "
                    f"{limits.max_decoded / 1e6:.0f}; send it as JPEG, or smaller."
                )
            await memory.wait_for(needed, until)
            looked = await in_thread(
                self.pool, self.reader.look, content, limits.max_pixels, limits.max_faces
            )
        except TimeoutError:
            raise BusyError from None
        except DataError as error:
            raise HTTPException(400, str(error)) from None
        # The picture is gone; its faces stay until they are answered.
        memory.keep(looked.nbytes)
        return looked

    async def answer(self, request: Request) -> PictureAnswer:
        """Return what is on the uploaded picture."""
        return await self._served(request, self._predicted)

    async def _predicted(self, looked: LookedUpload) -> PictureAnswer:
        model, faces = self.reader.model, looked.faces
        scores = await self.batcher.submit(faces)
        return PictureAnswer(
            width=looked.width,
            height=looked.height,
            faces=[
                FaceAnswer(box=face.box, score=face.score, attributes=_attributes(model, row))
                for face, row in zip(faces, scores, strict=True)
            ],
            left_out=looked.left_out,
        )

    async def explanation(self, request: Request, attribute: str, number: int) -> Explanation:
        """Return why one attribute of one face of the uploaded picture is as it is."""
        model = self.reader.model
        if attribute not in model.schema.names:
            raise HTTPException(422, f"attribute: the model has no '{attribute}'.")
        if frozen_part(model.network) is not None:
            raise HTTPException(422, "this model reads features of which there is no map.")
        place = model.schema.index(attribute)

        async def explained(looked: LookedUpload) -> Explanation:
            count = len(looked.faces)
            if number >= count:
                raise HTTPException(404, f"face: the picture has {count}, counted from 0.")
            face = looked.faces[number]
            found = await self.explainer.submit((face, place))
            return await in_thread(self.pool, _explanation, attribute, face, found)

        return await self._served(request, explained)


def _explanation(attribute: str, face: FaceCrop, found: Explained) -> Explanation:
    file = io.BytesIO()
    Image.fromarray(heat_map(face.canvas, found.added)).save(file, "PNG")
    return Explanation(
        attribute=attribute,
        baseline=found.baseline,
        parts=dict(found.parts),
        picture=f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}",
    )


def _attributes(model: AttributeModel, row: NDArray[np.float64]) -> list[AttributeAnswer]:
    names = model.schema.names
    present, unsure = model.decisions.decide(names, row[None])
    return [
        AttributeAnswer(name=name, probability=float(p), present=yes, sure=not doubt)
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
        await service.stop()

    # The interactive documentation pages would load scripts from elsewhere.
    app = FastAPI(
        title="sspl",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        description="Attributes of the faces in a picture.",
    )
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
        return Health(status="ok", waiting=len(service(request).batcher))

    @app.get("/v1/model")
    def describe() -> ModelAnswer:
        """Say what is predicted."""
        return ModelAnswer(
            version=__version__,
            attributes=list(reader.attributes),
            words={n: in_words(n) for n in (*reader.attributes, *classes_of(reader.model))},
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
