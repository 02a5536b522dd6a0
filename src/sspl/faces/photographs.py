"""Aligned crops of all faces in a folder of photographs: resumable, with a table of faces."""

import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from sspl.data.adapters.folder import read_folder, remark_on_rest
from sspl.data.images import read_image
from sspl.data.inputs import Stamp
from sspl.data.palette import write_image
from sspl.data.records import FaceSet
from sspl.data.sheets import Tile, sheet
from sspl.data.skipping import SKIPPED_FILE, OnError, Skipped
from sspl.errors import DataError, SsplError
from sspl.faces.alignment import FRAME_HEIGHT, Placement, cut, place
from sspl.faces.detectors import MIN_SCORES, DetectorName, make_detector
from sspl.faces.face import LANDMARKS, Face, FaceDetector
from sspl.faces.tiles import Tiled
from sspl.io.files import (
    append_text,
    holds_nothing,
    parse_json,
    read_json,
    read_text,
    write_bytes,
    write_csv,
    write_json,
    write_text,
)
from sspl.io.locks import claimed
from sspl.io.names import clean_name, path_below, require_clean
from sspl.io.progress import counted, watched
from sspl.settings import Settings

TABLE_FILE: Final = "faces.csv"
WITHOUT_FILE: Final = "without_face.txt"
SETTINGS_FILE: Final = "detection.json"
JOURNAL_FILE: Final = "detected.jsonl"
SHEET_FILE: Final = "contact_sheet.pdf"
"""No picture, or it would be taken for a face where the folder is read."""

SHEET_FACES: Final = 60
SHEET_COLUMNS: Final = 10
SHEET_SIDE: Final = 112
MOST_NAMED: Final = 12
"""Photographs that the sheet names of one kind; the lists have all of them."""

log = logging.getLogger(__name__)

CropFormat = Literal["jpg", "png"]
FaceRow = dict[str, Any]

FACE_COLUMNS: Final = (
    "image", "source", "face", "left", "top", "right", "bottom", "score", "rotation", "scale",
    *(f"{name}_{axis}" for name in LANDMARKS for axis in "xy"),
)  # fmt: skip


class DetectSettings(Settings):
    """What counts as a face and how its crop is made.

    Args:
        detector: `yunet` or `haar`.
        min_score: on the detector's own scale: YuNet's from 0 to 1, Haar's a number of hits;
            None is `MIN_SCORES`.
        min_size: px in the photograph that the shorter side of a face's box must have.
        largest: crop only the largest face of each photograph.
        height: height of a crop in px; its width follows from CelebA's aspect.
        format: `jpg` or `png`.
        tiles: look again at overlapping tiles of large photographs, for small faces.
    """

    detector: DetectorName = "yunet"
    min_score: float | None = Field(default=None, ge=0)
    min_size: int = Field(default=40, ge=1)
    largest: bool = False
    height: int = Field(default=FRAME_HEIGHT, ge=32, le=2048)
    format: CropFormat = "jpg"
    tiles: bool = False

    @model_validator(mode="after")
    def _score_in_reach(self) -> Self:
        if self.detector == "yunet" and self.least > 1:
            raise ValueError(f"min_score is {self.least}, but scores of yunet end at 1")
        if self.detector == "haar" and self.tiles:
            raise ValueError("tiles: haar looks at every pixel as it is; leave them out")
        return self

    @property
    def least(self) -> float:
        """The least score of a face: `min_score`, or what suits the detector."""
        return MIN_SCORES[self.detector] if self.min_score is None else self.min_score


def detector_of(settings: DetectSettings, detector: FaceDetector | None = None) -> FaceDetector:
    """Return the detector that settings ask for; `detector` in place of the one they name.

    Raises `SsplError` when the extra is not installed.
    """
    detector = detector or make_detector(settings.detector, settings.least)
    return Tiled(detector) if settings.tiles else detector


@dataclass(frozen=True)
class DetectSummary:
    """What a run over a folder came to: counts, and the names of photographs that gave none."""

    photographs: int
    faces: int
    without: tuple[str, ...]
    skipped: Skipped

    def text(self, out: Path) -> str:
        """Return a line that says it, and one more where photographs were skipped."""
        line = (
            f"{counted(self.faces, 'face')} of {counted(self.photographs, 'photograph')} in {out}"
        )
        line += f"; {len(self.without)} without a face ({WITHOUT_FILE})"
        line += f"\nLook at them: {out / SHEET_FILE}"
        return f"{line}\n{self.skipped.text(out / SKIPPED_FILE)}" if self.skipped else line

    def counts(self) -> dict[str, Any]:
        """Return the same as JSON values."""
        return {
            "photographs": self.photographs,
            "faces": self.faces,
            "without": list(self.without),
            "skipped": len(self.skipped),
        }


def detect_folder(
    photographs: Path,
    out: Path,
    settings: DetectSettings,
    on_error: OnError = "fail",
    detector: FaceDetector | None = None,
) -> DetectSummary:
    """Write a crop for every face of the photographs under a folder, then the lists.

    The crops of `album/a.jpg` are `album/a_0.jpg`, `album/a_1.jpg` and so on, the largest face
    first. An interrupted run goes on where it stopped.

    Args:
        photographs: folder of pictures.
        out: folder for crops, `faces.csv`, `without_face.txt` and the run's own notes.
        settings: what counts as a face.
        on_error: `fail` at a photograph that cannot be read, or `skip` it.
        detector: one to use in place of the one that the settings name.

    Raises:
        DataError: for a photograph that cannot be read, or two whose crops would share a name.
        SsplError: when the extra is not installed, or `out` holds something else.
    """
    faces = remark_on_rest(read_folder(photographs))
    _check_names(faces)
    _check_place(photographs, out)
    detector = detector_of(settings, detector)
    with claimed(out, folder=True, deep=True):
        return _detect(faces, photographs, out, settings, on_error, detector)


def _detect(
    faces: FaceSet,
    photographs: Path,
    out: Path,
    settings: DetectSettings,
    on_error: OnError,
    detector: FaceDetector,
) -> DetectSummary:
    _claim(out, settings)
    done = _read_journal(out)
    skipped = Skipped(on_error)
    changed: list[str] = []
    for face in watched(faces, desc="find faces", unit="photo"):
        path = photographs / face.name
        before = done.get(face.name)
        if before is not None and before.is_whole(out, path):
            continue
        if before is not None and not before.fits(path):
            changed.append(face.name)
        try:
            stamp = Stamp.of(face.image)
            image = read_image(face.image)
        except DataError as error:
            skipped.note(faces.source, face.name, error)
            continue
        if face.name in done:
            done.pop(face.name).remove(out)
        rows, dropped = _crop_faces(image, face.name, out, settings, detector)
        done[face.name] = _Entry(face.name, stamp.bytes, rows, stamp.as_json(), dropped)
        append_text(out / JOURNAL_FILE, done[face.name].line())
    if changed:
        log.warning(
            "%s and %d more photographs have changed since an earlier run; their crops were made "
            "anew.",
            changed[0],
            len(changed) - 1,
        )
    gone = sorted(done.keys() - set(faces.names))
    if gone:
        log.warning(
            "%s and %d more photographs of an earlier run are gone; their crops are still in %s, "
            "but not in %s.",
            gone[0],
            len(gone) - 1,
            out,
            TABLE_FILE,
        )
    kept = [done[name] for name in (*faces.names, *gone) if name in done]
    write_text(out / JOURNAL_FILE, "".join(entry.line() for entry in kept))
    return _write_lists(out, faces, done, skipped, settings)


def _check_names(faces: FaceSet) -> None:
    require_clean(faces.names, faces.source)
    seen: dict[Path, str] = {}
    for name in faces.names:
        other = seen.setdefault(Path(name).with_suffix(""), name)
        if other != name:
            raise DataError(
                f"{faces.source}: the crops of {other} and {name} would have the same names; "
                "rename one of them."
            )


def _check_place(photographs: Path, out: Path) -> None:
    if out.resolve().is_relative_to(photographs.resolve()):
        raise SsplError(
            f"{out} lies in the folder of photographs, so that crops would be taken for "
            "photographs; choose another --out."
        )


def _claim(out: Path, settings: DetectSettings) -> None:
    """Note how the crops of a folder are made; refuse to mix two ways, or to litter."""
    mark, mine = out / SETTINGS_FILE, settings.model_dump(mode="json")
    mine["min_score"] = settings.least
    if not mark.exists():
        if not holds_nothing(out):
            raise SsplError(f"{out} is not empty and no folder of crops; choose another --out.")
        write_json(mark, mine)
        return
    before = read_json(mark)
    if not isinstance(before, dict):
        raise DataError(f"{mark}: not the note of a run; choose another --out.")
    usual = DetectSettings().model_dump(mode="json")  # Of a setting that an older note has not.
    changed = [key for key in mine if mine[key] != before.get(key, usual[key])]
    if changed:
        key = changed[0]
        raise SsplError(
            f"{out} holds crops made with {key} {before.get(key, usual[key])}, not {mine[key]}; "
            "choose another --out."
        )


@dataclass(frozen=True)
class _Entry:
    """One photograph that is done: its name, size in bytes, a row for each face, and its stamp.

    Older versions noted no stamp; then the size alone counts. `dropped` faces were found and not
    cropped.
    """

    source: str
    bytes: int
    faces: list[FaceRow]
    stamp: list[int] | None = None
    dropped: int = 0

    def fits(self, path: Path) -> bool:
        """Return whether it is still the same file."""
        stamp = Stamp.parsed(self.stamp)
        return path.stat().st_size == self.bytes if stamp is None else stamp.fits(path)

    def is_whole(self, out: Path, path: Path) -> bool:
        """Return whether it is still the same file and all its crops are there."""
        return all((out / row["image"]).is_file() for row in self.faces) and self.fits(path)

    def remove(self, out: Path) -> None:
        """Remove its crops: another picture of that name may have fewer faces."""
        for row in self.faces:
            path_below(out, row["image"]).unlink(missing_ok=True)

    def line(self) -> str:
        return json.dumps(vars(self)) + "\n"


def _read_journal(out: Path) -> dict[str, _Entry]:
    """Return the photographs that earlier runs have done, and tidy the journal."""
    journal = out / JOURNAL_FILE
    done: dict[str, _Entry] = {}
    lines = read_text(journal).splitlines() if journal.exists() else []
    for line in lines:
        entry = _entry(line)
        if entry is not None:
            done[entry.source] = entry
    write_text(journal, "".join(entry.line() for entry in done.values()))
    return done


def _entry(line: str) -> _Entry | None:
    """Read a line of the journal; None for one that was cut short, or that names other places."""
    try:
        entry = _Entry(**parse_json(line))
        inside = all(clean_name(row["image"]) == row["image"] for row in entry.faces)
    except (ValueError, TypeError, KeyError):
        return None
    return entry if inside and isinstance(entry.source, str) else None


def _crop_faces(
    image: Image.Image, name: str, out: Path, settings: DetectSettings, detector: FaceDetector
) -> tuple[list[FaceRow], int]:
    """Write the crops of one photograph; return a row for each, and how many faces got none."""
    everyone = detector.detect(np.asarray(image))
    found = [face for face in everyone if face.short_side >= settings.min_size]
    found.sort(key=lambda face: (-face.area, face.box))
    stem = Path(name).with_suffix("").as_posix()
    kept, rows = found[:1] if settings.largest else found, []
    for i, face in enumerate(kept):
        crop = f"{stem}_{i}.{settings.format}"
        placement = place(face, settings.height)
        write_image(path_below(out, crop), cut(image, placement, settings.height))
        rows.append({"image": crop, "source": name, "face": i, **_figures(face, placement)})
    return rows, len(everyone) - len(kept)


def _figures(face: Face, placement: Placement) -> dict[str, float]:
    sides = ("left", "top", "right", "bottom")
    figures = {side: round(px, 2) for side, px in zip(sides, face.box, strict=True)}
    figures["score"] = round(face.score, 4)
    figures["rotation"] = round(placement.rotation, 2)
    figures["scale"] = round(placement.scale, 4)
    points = () if face.landmarks is None else face.landmarks.tolist()
    for landmark, (x, y) in zip(LANDMARKS, points, strict=False):
        figures |= {f"{landmark}_x": round(x, 2), f"{landmark}_y": round(y, 2)}
    return figures


def _write_lists(
    out: Path,
    faces: FaceSet,
    done: dict[str, _Entry],
    skipped: Skipped,
    settings: DetectSettings,
) -> DetectSummary:
    unreadable = skipped.names(faces.source)
    entries = [done[name] for name in faces.names if name in done and name not in unreadable]
    rows = [row for entry in entries for row in entry.faces]
    without = tuple(entry.source for entry in entries if not entry.faces)
    write_csv(out / TABLE_FILE, FACE_COLUMNS, ([row.get(c) for c in FACE_COLUMNS] for row in rows))
    write_text(out / WITHOUT_FILE, "".join(f"{name}\n" for name in without))
    skipped.write(out / SKIPPED_FILE)
    dropped = [f"{e.source} ({e.dropped})" for e in entries if e.dropped]
    rule = f"smaller than {settings.min_size} px" + (" or not the largest" * settings.largest)
    footer = [
        f"{min(len(rows), SHEET_FACES)} of {counted(len(rows), 'face')}, the least certain first; "
        f"below each its file and the score by {settings.detector}.",
        *_named(f"Faces left out, {rule}", dropped, ""),
        *_named("Without a face", without, WITHOUT_FILE),
        *_named("Not read", sorted(unreadable), SKIPPED_FILE),
    ]
    write_bytes(out / SHEET_FILE, _contact_sheet(out, rows, footer))
    return DetectSummary(len(faces), len(rows), without, skipped)


def _contact_sheet(out: Path, rows: Sequence[FaceRow], footer: Sequence[str]) -> bytes:
    """Return a page with the crops of the lowest scores, as PDF."""
    shown = sorted(rows, key=lambda row: (row["score"], row["image"]))[:SHEET_FACES]
    tiles = [
        Tile(
            [np.asarray(read_image(out / row["image"]))],
            lines=[(row["image"], None), (f"score {row['score']:.2f}", None)],
        )
        for row in shown
    ]
    page = io.BytesIO()
    # Without dates, so that a run made again leaves the same.
    dates = {"creationDate": None, "modDate": None}
    sheet(tiles, SHEET_COLUMNS, SHEET_SIDE, footer).save(page, "PDF", resolution=96, **dates)
    return page.getvalue()


def _named(what: str, names: Sequence[str], file: str) -> list[str]:
    """Return a line that names photographs of one kind, if there are any."""
    if not names:
        return []
    rest = len(names) - MOST_NAMED
    more = f" and {rest:,} more" if rest > 0 else ""
    where = f" ({file})" if file else ""
    return [f"{what}{where}: {', '.join(names[:MOST_NAMED])}{more}."]
