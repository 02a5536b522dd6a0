"""The labelling page and what it talks to."""

import asyncio
import io
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sspl import __version__
from sspl.apps.labelling.definitions import LONGEST
from sspl.apps.labelling.desk import Desk
from sspl.apps.labelling.label_journal import ChangedError
from sspl.apps.labelling.labelling_settings import LabellingSettings
from sspl.apps.serving.attending import in_thread, while_connected
from sspl.apps.serving.costs import decoding_bytes
from sspl.apps.serving.rooms import BusyError, Room
from sspl.apps.serving.shell import add_shell, page, read_body, refuse_other_sites
from sspl.data.images import read_image
from sspl.domain.attributes import attribute_hints
from sspl.errors import DataError, SsplError

if TYPE_CHECKING:
    from sspl.apps.labelling.coach import Coach, Report

KEY_HEADER: Final = "X-Sspl-Key"

MOST_DECODED: Final = 720_000_000
"""Bytes that pictures may take at once while they are decoded."""

THREADS: Final = 2
"""That decode pictures."""

PATIENCE: Final = 10.0
"""Seconds that a picture waits for that memory."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    tab: str = Field(min_length=1, max_length=64)


class RoundBody(_Body):
    """A tab asks for faces."""


class AnswerBody(_Body):
    """Answers for one face.

    Args:
        tab: whose they are.
        face, name: the face, by its place and its name, which must belong together.
        values: attribute to 1 (yes), 0 (no) or null (not sure).
    """

    face: int = Field(ge=0)
    name: str = Field(max_length=4096)
    values: dict[str, int | None] = Field(min_length=1)


class UndoBody(_Body):
    """An answer is taken back, the last of all unless it is named."""

    number: int | None = None


class DefineBody(_Body):
    """What an attribute means from now on; an empty text takes its definition away."""

    attribute: str
    text: str = Field(max_length=LONGEST)


Body = TypeVar("Body", bound=_Body)


def _parsed(kind: type[Body], content: bytes) -> Body:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        raise HTTPException(422, f"{field}: {first['msg']}") from None


def _checked(desk: Desk, body: AnswerBody) -> None:
    if body.face >= len(desk.faces) or desk.faces.names[body.face] != body.name:
        raise HTTPException(422, "face: there is no such face; load the page again.")
    for name, value in body.values.items():
        if name not in desk.attributes:
            raise HTTPException(422, f"values.{name}: this attribute is not asked for.")
        if value not in (0, 1, None):
            raise HTTPException(422, f"values.{name}: use 1, 0 or null.")


def picture(desk: Desk, face: int, side: int) -> bytes:
    """Return the picture of a face as JPEG, upright and within `side` px.

    It is decoded and written anew, so that nothing but a picture leaves the folder.
    """
    image = read_image(desk.faces.images[face])
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92)
    return file.getvalue()


def _report_values(report: "Report") -> dict[str, Any]:
    mean = report.mean()
    judged = sum(s.balanced_accuracy is not None for s in report.standings.values())
    shown = mean and [round(v, 4) for v in mean]
    return {"faces": report.faces, "attributes": judged, "mean": shown}


def state(desk: Desk, coach: "Coach | None", then: str) -> dict[str, Any]:
    """Return what the page shows beside the faces, as JSON values."""
    done, total = desk.done()
    definitions, hints, lacking = desk.definitions.texts, attribute_hints(), desk.lacking()
    reports = list(coach.reports) if coach else []
    attributes = []
    for name, counts in desk.counts().items():
        found = reports[-1].standings[name] if reports else None
        bounds = None
        if found is not None and found.balanced_accuracy is not None:
            bounds = [found.balanced_accuracy, found.low, found.high]
        attributes.append(
            {
                "name": name,
                "yes": counts.yes,
                "no": counts.no,
                "unsure": counts.unsure,
                "definition": definitions.get(name, ""),
                "hint": hints.get(name, ""),
                "lacks": lacking.get(name),
                "balanced_accuracy": bounds and [round(float(v or 0), 4) for v in bounds],
            }
        )
    return {
        "file": desk.journal.out.name,
        "then": then,
        "done": done,
        "total": total,
        "last": desk.journal.last(),
        "attributes": attributes,
        "history": [_report_values(report) for report in reports],
        "trouble": desk.journal.trouble or (coach.trouble if coach else None),
        "coach": coach
        and {
            "seen": coach.seen,
            "ready": bool(reports),
            "every": coach.every,
            "fine_tuned": coach.source.model is not None,
        },
    }


def make_app(
    desk: Desk, coach: "Coach | None", settings: LabellingSettings, key: str, then: str = ""
) -> FastAPI:
    """Return the application.

    Args:
        desk: the faces and their answers.
        coach: suggests; None without a network.
        settings: limits.
        key: what every request but that for the bare page must bring along.
        then: the command to type when there are enough answers.
    """
    tell_all = partial(state, desk, coach, then)
    app = FastAPI(title="sspl label", version=__version__, openapi_url=None)
    add_shell(app, settings.hosts)
    memory, pool = Room(MOST_DECODED), ThreadPoolExecutor(THREADS, "picture")
    text, policy = page("labelling")

    def guarded(request: Request) -> None:
        refuse_other_sites(request)
        if not secrets.compare_digest(request.headers.get(KEY_HEADER, "").encode(), key.encode()):
            raise HTTPException(403, "open the address that 'sspl label' printed, with its key.")

    async def body(request: Request) -> bytes:
        content = bytearray()
        await read_body(
            request, settings.max_bytes, settings.body_seconds, "request", content.extend
        )
        return bytes(content)

    async def shown(face: int) -> bytes:
        stored = desk.faces.images[face]
        with memory.share() as share:
            needed = await in_thread(pool, decoding_bytes, stored)
            until = asyncio.get_running_loop().time() + PATIENCE
            await share.wait_for(min(needed, memory.size), until)
            return await in_thread(pool, picture, desk, face, settings.picture_side)

    def saved(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except ChangedError as error:
            raise HTTPException(409, str(error)) from None
        except SsplError as error:
            raise HTTPException(507, str(error)) from None

    @app.get("/", response_class=HTMLResponse)
    def show_page() -> HTMLResponse:
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})

    @app.get("/v1/state", dependencies=[Depends(guarded)])
    def tell() -> dict[str, Any]:
        return tell_all()

    @app.get("/v1/faces/{face}", dependencies=[Depends(guarded)])
    async def show_face(request: Request, face: int) -> Response:
        if not 0 <= face < len(desk.faces):
            raise HTTPException(404, "there is no such face.")
        try:
            content = await while_connected(request, shown(face))
        except BusyError:
            raise HTTPException(
                503, "too many pictures are asked for; try again.", {"Retry-After": "2"}
            ) from None
        except DataError:
            raise HTTPException(404, "this picture cannot be read; skip it.") from None
        return Response(content, media_type="image/jpeg")

    @app.post("/v1/round", dependencies=[Depends(guarded)])
    def hand_out(content: bytes = Depends(body)) -> dict[str, Any]:
        faces = desk.round(_parsed(RoundBody, content).tab)
        shown = [{"face": i, "name": desk.faces.names[i], "values": desk.values(i)} for i in faces]
        return {"faces": shown, "state": tell_all()}

    @app.post("/v1/answer", dependencies=[Depends(guarded)])
    def take(content: bytes = Depends(body)) -> dict[str, Any]:
        given = _parsed(AnswerBody, content)
        _checked(desk, given)
        number = saved(lambda: desk.answer(given.tab, given.face, given.values))
        if coach:
            coach.answered()
        return {"number": number, "state": tell_all()}

    @app.post("/v1/define", dependencies=[Depends(guarded)])
    def define(content: bytes = Depends(body)) -> dict[str, Any]:
        given = _parsed(DefineBody, content)
        if given.attribute not in desk.attributes:
            raise HTTPException(422, f"attribute: {given.attribute} is not asked for.")
        saved(lambda: desk.definitions.define(given.attribute, given.text))
        return {"state": tell_all()}

    @app.post("/v1/undo", dependencies=[Depends(guarded)])
    def take_back(content: bytes = Depends(body)) -> dict[str, Any]:
        asked = _parsed(UndoBody, content)
        face, names = saved(lambda: desk.undo(asked.tab, asked.number))
        if coach:
            coach.answered()
        shown = None
        if face is not None:
            shown = {"face": face, "name": desk.faces.names[face], "values": desk.values(face)}
        return {"face": shown, "attributes": names, "state": tell_all()}

    return app
