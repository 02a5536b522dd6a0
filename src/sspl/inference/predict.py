"""Attributes of pictures without labels: read, found, cut and scored in overlapping steps."""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from sspl.data.framing import DETECT, Size, Unlike, is_unlike
from sspl.data.palette import write_image
from sspl.data.records import box_in_cut
from sspl.data.skipping import SKIPPED_FILE, OnError, Skipped
from sspl.data.streams import in_batches, read_ahead
from sspl.errors import DataError, SettingsError
from sspl.faces.face import FaceDetector
from sspl.faces.photographs import WITHOUT_FILE, DetectSettings, detector_of
from sspl.inference.crops import FaceCrop, crop_faces, whole_picture
from sspl.inference.drawing import Note, annotated, annotated_path, lines_about
from sspl.inference.film import join_frames
from sspl.inference.prediction_journal import PredictionJournal
from sspl.inference.scorers import Scorer
from sspl.inference.sources import Shot, Source, Stills, kept_entries
from sspl.inference.tables import CHUNK, Layout, PredictionRow, check_table, write_table
from sspl.io.files import write_text
from sspl.io.locks import claimed
from sspl.io.names import require_own_places
from sspl.io.progress import counted, watched
from sspl.models.model_metadata import CONFIG_FILE, MODEL_FILE
from sspl.settings import Settings

log = logging.getLogger(__name__)

FRAMES_AT_ONCE: Final = 16
"""Most frames of a video that are read as one batch: three batches are in memory."""

LISTS_WAITING: Final = 4


class PredictSettings(Settings):
    """How pictures are looked at.

    Attributes:
        batch_size: faces that pass through the network together.
        threads: threads that read pictures and find faces; 0: one a core.
        detect: search for faces, or take each picture as one; `auto`: search the frames of
            videos and cameras alone.
        detection: what counts as a face.
        top: attributes to write on a drawing.
    """

    batch_size: int = Field(128, ge=1)
    threads: int = Field(0, ge=0)
    detect: Literal["auto", "yes", "no"] = "auto"
    detection: DetectSettings = DetectSettings()
    top: int = Field(5, ge=1)

    def detects_in(self, moving: bool) -> bool:
        """Return whether faces are searched for in frames, or in still pictures."""
        return moving if self.detect == "auto" else self.detect == "yes"


@dataclass(frozen=True)
class LookedShot:
    """A picture and its faces, or why it cannot be used.

    `unlike` is the size of one that was taken for a face crop, but hardly is one.
    """

    shot: Shot
    faces: Sequence[FaceCrop]
    error: DataError | None = None
    unlike: Size | None = None


class Looker:
    """Reads pictures and cuts out their faces; threads may share it.

    Args:
        scorer: whose box and canvas are used.
        settings: whether and how faces are found.
        make: returns a detector; each thread has its own.
        keeps: whether frames of videos are kept, to draw on them.
    """

    def __init__(
        self,
        scorer: Scorer,
        settings: PredictSettings,
        make: Callable[[], FaceDetector],
        keeps: bool,
    ) -> None:
        self.scorer, self.settings, self.make, self.keeps = scorer, settings, make, keeps
        self._own = threading.local()

    def look(self, shot: Shot) -> LookedShot:
        """Return the faces of a picture."""
        shot = shot.stamped()
        try:
            image = shot.read()
        except DataError as error:
            return LookedShot(shot, (), error)
        unlike = None
        if self.settings.detects_in(shot.frame is not None):
            faces = self._faces(image)
        else:
            faces = [self._whole(shot, image)]
            if shot.cut is None and is_unlike(image.size, self.scorer.pictures):
                unlike = image.size
        # Frames are large and many wait for company in a batch.
        return LookedShot(shot if self.keeps else replace(shot, image=None), faces, unlike=unlike)

    def _whole(self, shot: Shot, image: Image.Image) -> FaceCrop:
        scorer = self.scorer
        box = box_in_cut(shot.cut, shot.source, scorer.box, scorer.canvas)
        return whole_picture(image, box, scorer.canvas)

    def _faces(self, image: Image.Image) -> list[FaceCrop]:
        if not hasattr(self._own, "detector"):
            self._own.detector = self.make()
        wanted = self.settings.detection
        found = [
            face
            for face in self._own.detector.detect(np.asarray(image))
            if face.short_side >= wanted.min_size
        ]
        crops = crop_faces(image, found, self.scorer.box, self.scorer.canvas)
        return crops[:1] if wanted.largest else crops


Scored = tuple[LookedShot, NDArray[np.float64]]


def scored(
    looked: Iterator[list[LookedShot]], scorer: Scorer, batch_size: int
) -> Iterator[list[Scored]]:
    """Yield pictures in order with the probabilities of their faces, (faces, attributes).

    Faces of several pictures pass through the network together, `batch_size` at a time; no more
    than four lists of pictures wait until there are so many faces.
    """
    waiting: list[LookedShot] = []
    for number, pictures in enumerate(looked, 1):
        waiting += pictures
        faces = sum(len(picture.faces) for picture in waiting)
        if faces >= batch_size or number % LISTS_WAITING == 0:
            yield _score(waiting, scorer, batch_size)
            waiting = []
    if waiting:
        yield _score(waiting, scorer, batch_size)


def _score(pictures: list[LookedShot], scorer: Scorer, batch_size: int) -> list[Scored]:
    canvases = (face.canvas for picture in pictures for face in picture.faces)
    parts = [np.empty((0, len(scorer.attributes)))]
    parts += [scorer.probabilities(np.stack(batch)) for batch in in_batches(canvases, batch_size)]
    ends = np.cumsum([len(picture.faces) for picture in pictures])
    return list(zip(pictures, np.split(np.concatenate(parts), ends[:-1]), strict=True))


@dataclass(frozen=True)
class PredictSummary:
    """How many faces, answers and pictures there were, and where the lists lie."""

    faces: int
    pictures: int
    without: int
    skipped: int
    out: Path
    answers: int = 0
    unsure: int = 0

    def text(self) -> str:
        """Return it in words."""
        line = f"{counted(self.faces, 'face')} in {self.out}"
        if self.without:
            line += f"; {self.without:,} of {counted(self.pictures, 'picture')} without a face"
            line += f" ({without_list(self.out)})"
        if self.unsure:
            line += f"; {self.unsure:,} of {counted(self.answers, 'answer')} are 'not sure'"
        return line


def skipped_list(out: Path) -> Path:
    """Return where the list of unusable pictures goes."""
    return out.with_suffix(f".{SKIPPED_FILE}")


def without_list(out: Path) -> Path:
    """Return where the list of pictures without a face goes."""
    return out.with_suffix(f".{WITHOUT_FILE}")


def predict(
    scorer: Scorer,
    sources: Sequence[Source],
    out: Path,
    settings: PredictSettings,
    skipped: Skipped,
    annotate: Path | None = None,
    model: str = "",
    make: Callable[[], FaceDetector] | None = None,
) -> PredictSummary:
    """Write a table of what a model says of the faces of pictures, and the lists beside it.

    An interrupted run goes on when it is repeated; one that looks at a camera ends with Ctrl-C
    and writes what it has.

    Args:
        scorer: the model.
        sources: pictures.
        out: `.csv`, `.jsonl` or `.parquet`.
        settings: how pictures are looked at.
        skipped: what to do with unusable pictures, and their list.
        annotate: folder for drawings; those on the frames of a video become a video.
        model: what tells the model from others, so that no two models' results are mixed.
        make: returns a face detector, in place of the one that the settings name.

    Raises `DataError` for a picture that cannot be used, and when none can.
    """
    check_table(out)
    _check_places(sources, out, annotate)
    if annotate is not None:
        require_own_results(sources, lambda name: annotated_path(annotate, name, None))
    with ExitStack() as held:
        held.enter_context(claimed(out))
        if annotate is not None:
            held.enter_context(claimed(annotate, folder=True, deep=True))
        return _predict(scorer, sources, out, settings, skipped, annotate, model, make)


def _predict(
    scorer: Scorer,
    sources: Sequence[Source],
    out: Path,
    settings: PredictSettings,
    skipped: Skipped,
    annotate: Path | None,
    model: str,
    make: Callable[[], FaceDetector] | None,
) -> PredictSummary:
    for source in sources:
        box_in_cut(source.cut, source.source, scorer.box, scorer.canvas)
    found = settings.detection
    make = make or (lambda: detector_of(found))
    moving = any(source.moving for source in sources)
    detected = any(settings.detects_in(source.moving) for source in sources)
    if detected:
        make()  # Whether it is installed is said before any work is done.
    layout = Layout(scorer.attributes, moving, detected)
    looker = Looker(scorer, settings, make, annotate is not None)
    endless = any(source.endless for source in sources)
    identity = {
        "model": model,
        "way of looking": settings.model_dump(mode="json", exclude={"threads"}),
        "folder of drawings": None if annotate is None else str(annotate),
    }
    kept = partial(kept_entries, sources=sources)
    with PredictionJournal(out, identity, endless, kept) as journal:
        try:
            _fill(journal, sources, looker, skipped.policy, annotate)
        except KeyboardInterrupt:
            if not endless:
                raise
        journal.flush()
        summary = _finish(journal, scorer, layout, out, skipped, sources)
        joined = [] if annotate is None else join_frames(annotate, journal.entries())
    journal.remove()
    # Not before: a repeated run would have to draw them anew.
    for frame in joined:
        frame.unlink(missing_ok=True)
        with suppress(OSError):
            frame.parent.rmdir()
    return summary


def _fill(
    journal: PredictionJournal,
    sources: Sequence[Source],
    looker: Looker,
    policy: OnError,
    annotate: Path | None,
) -> None:
    """Look at every picture that the journal has not yet, and note what is found."""
    scorer, settings = looker.scorer, looker.settings
    counts = [source.count() for source in sources]
    total = None if None in counts else sum(n for n in counts if n is not None)
    shots = chain.from_iterable(source.shots() for source in sources)
    at_once = settings.batch_size
    if any(source.moving for source in sources):
        at_once = min(at_once, FRAMES_AT_ONCE)
    batches = in_batches(islice(shots, journal.done, None), at_once)
    looked = read_ahead(looker.look, batches, settings.threads)
    bar = watched(total=total, initial=journal.done, desc="predict", unit="picture", leave=False)
    with bar:
        for pictures in scored(looked, scorer, settings.batch_size):
            for picture, probabilities in pictures:
                if picture.error is not None and policy == "fail":
                    journal.flush()
                    raise picture.error
                if annotate is not None and picture.error is None:
                    _draw(annotate, picture, probabilities, scorer, settings.top)
                journal.add(_entry(picture, probabilities))
            journal.flush()
            bar.update(len(pictures))


def _entry(picture: LookedShot, probabilities: NDArray[np.float64]) -> dict[str, Any]:
    shot = picture.shot
    entry: dict[str, Any] = {
        "image": shot.name,
        "frame": shot.frame,
        "seconds": shot.seconds,
        "of": shot.of,
    }
    if picture.error is not None:
        return entry | {"source": shot.source, "error": str(picture.error)}
    faces = [
        (f.box, f.score, p.tolist()) for f, p in zip(picture.faces, probabilities, strict=True)
    ]
    return entry | {"faces": faces, "unlike": picture.unlike}


def _draw(
    folder: Path, picture: LookedShot, probabilities: NDArray[np.float64], scorer: Scorer, top: int
) -> None:
    image = picture.shot.read()
    answers = _answers(scorer, probabilities)
    notes = [
        Note(face.box, lines_about(scorer.attributes, row.tolist(), answer, top))
        for face, row, answer in zip(picture.faces, probabilities, answers, strict=True)
    ]
    path = annotated_path(folder, picture.shot.name, picture.shot.frame)
    write_image(path, annotated(image, notes))


def _answers(scorer: Scorer, probabilities: NDArray[np.float64]) -> list[list[bool | None]]:
    """Return for each face and attribute whether it is there, None where that is not sure."""
    present, unsure = scorer.decisions.decide(scorer.attributes, probabilities)
    return [
        [None if u else yes for yes, u in zip(one, other, strict=True)]
        for one, other in zip(present.tolist(), unsure.tolist(), strict=True)
    ]


def _finish(
    journal: PredictionJournal,
    scorer: Scorer,
    layout: Layout,
    out: Path,
    skipped: Skipped,
    sources: Sequence[Source],
) -> PredictSummary:
    """Write the table and the lists from the journal."""
    without: list[str] = []
    faces = pictures = unsure = 0
    before = len(skipped)
    unlike = Unlike(scorer.pictures)
    for entry in journal.entries():
        pictures += 1
        if "error" in entry:
            skipped.note(entry["source"], entry["image"], DataError(entry["error"]))
        elif not entry["faces"]:
            without.append(_title(entry))
        else:
            faces += len(entry["faces"])
            rows = np.array([face[-1] for face in entry["faces"]])
            unsure += int(scorer.decisions.decide(scorer.attributes, rows)[1].sum())
            unlike.note(entry["unlike"])
    if pictures and len(skipped) - before == pictures:
        names = ", ".join(source.source for source in sources)
        raise DataError(f"{names}: not one of its {pictures} faces can be used.")
    write_table(out, layout, _rows(journal, scorer))
    skipped.write(skipped_list(out))
    if without:
        write_text(without_list(out), "".join(f"{name}\n" for name in without))
    else:
        without_list(out).unlink(missing_ok=True)
    unlike.warn(DETECT)
    answers = faces * len(scorer.attributes)
    return PredictSummary(faces, pictures, len(without), len(skipped), out, answers, unsure)


def _title(entry: dict[str, Any]) -> str:
    frame = entry["frame"]
    return entry["image"] if frame is None else f"{entry['image']}, frame {frame}"


def _rows(journal: PredictionJournal, scorer: Scorer) -> Iterator[PredictionRow]:
    faces = (
        (entry, number, *face)
        for entry in journal.entries()
        for number, face in enumerate(entry.get("faces", ()))
    )
    for batch in in_batches(faces, CHUNK):
        answers = _answers(scorer, np.array([face[-1] for face in batch]))
        for (entry, number, box, score, probabilities), present in zip(batch, answers, strict=True):
            yield PredictionRow(
                entry["image"],
                entry["frame"],
                entry["seconds"],
                None if box is None else number,
                None if box is None else tuple(box),
                score,
                probabilities,
                present,
            )


def _check_places(sources: Sequence[Source], out: Path, annotate: Path | None) -> None:
    """Refuse to write over what is read, or to draw where pictures would be taken for new ones."""
    for source in sources:
        if Path(source.source).resolve() == out.resolve():
            raise SettingsError(f"--out {out} is what is read; choose another name.")
        if annotate is None or not isinstance(source, Stills):
            continue
        folder = annotate.resolve()
        for parent in {path.parent for path in source.paths if isinstance(path, Path)}:
            place = parent.resolve()
            if place.is_relative_to(folder) or folder.is_relative_to(place):
                raise SettingsError(
                    f"--annotate {annotate} and the pictures in {parent} lie in one another; "
                    "choose a folder elsewhere."
                )


def require_own_results(sources: Sequence[Source], place: Callable[[str], Path]) -> None:
    """Raise `DataError` when the results on two pictures would be written to one place."""
    stills = [source for source in sources if isinstance(source, Stills)]
    names = [name for source in stills for name in source.names]
    places = [place(name) for name in names]
    require_own_places(names, places, ", ".join(source.source for source in stills))


def model_digest(path: Path) -> str:
    """Return what tells the model at a path from others."""
    files = [path / MODEL_FILE, path / CONFIG_FILE] if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()
