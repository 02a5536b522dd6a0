"""What a prediction looks at: pictures one by one, whatever they come from."""

import glob
import logging
import math
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from PIL import Image

from sspl.data.adapters.folder import in_words, kind_of
from sspl.data.data_settings import names_data
from sspl.data.images import read_image
from sspl.data.inputs import Stamp
from sspl.data.pictures import Picture
from sspl.data.records import IMAGE_SUFFIXES, Cut, FaceSet
from sspl.errors import DataError
from sspl.faces.detectors import opencv
from sspl.io.names import printable, require_utf8

log = logging.getLogger(__name__)

VIDEO_SUFFIXES: Final = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg"})
TABLE_SUFFIX: Final = ".csv"
CAMERA: Final = "camera"
SAMPLES: Final = 18
"""Pieces of a video, from its beginning to its end, that tell it from others."""

SAMPLED: Final = 1 << 16
USUAL_RATE: Final = 25.0
"""Frames a second of a video that does not say."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shot:
    """One picture.

    Args:
        source: where it comes from, for messages.
        name: its name in results.
        path: its file; None for a frame of a video or camera.
        image: the frame itself, in RGB; None for a file.
        frame, seconds: the frame's place, from 0; None for a file.
        cut: what the picture was cut to when it was packed; None: it is whole.
        of: what tells the file from another one of its name; JSON values.
        error: why there is no picture.
    """

    source: str
    name: str
    path: Picture | None = None
    image: Image.Image | None = None
    frame: int | None = None
    seconds: float | None = None
    cut: Cut | None = None
    of: Any = None
    error: DataError | None = None

    def read(self) -> Image.Image:
        """Return the picture upright and in RGB; raise `DataError` when it cannot be used."""
        if self.error is not None:
            raise self.error
        if self.image is not None:
            return self.image
        assert self.path is not None
        return read_image(self.path)

    def stamped(self) -> Self:
        """Return it with what tells its file from another one, which is read for it."""
        return self if self.path is None else replace(self, of=_stamp(self.path))


def _stamp(picture: Picture) -> list[int] | None:
    try:
        return Stamp.of(picture).as_json()
    except DataError:
        return None  # it says so itself when it is looked at


@dataclass(frozen=True)
class Stills:
    """Picture files.

    Args:
        source: what the user gave.
        names: names in results.
        paths: the files, or their places in packs.
        cut: what they were cut to when they were packed; None: they are whole.
    """

    source: str
    names: tuple[str, ...]
    paths: tuple[Picture, ...]
    cut: Cut | None = None

    moving = endless = False

    @classmethod
    def of(cls, faces: FaceSet) -> Self:
        """Return the pictures of a set of faces."""
        return cls(faces.source, faces.names, tuple(faces.images), faces.cut)

    def fits(self, number: int, entry: Mapping[str, Any]) -> bool | None:
        """Tell whether an entry is of picture `number` as it is now; None: there are no more."""
        if number >= len(self.paths):
            return None
        if entry["frame"] is not None or entry["image"] != self.names[number]:
            return False
        stamp, path = Stamp.parsed(entry.get("of")), self.paths[number]
        return _stamp(path) is None if stamp is None else stamp.fits(path)

    def count(self) -> int:
        """Return how many there are."""
        return len(self.paths)

    def shots(self) -> Iterator[Shot]:
        """Yield them in order; none is read yet."""
        for name, path in zip(self.names, self.paths, strict=True):
            yield Shot(self.source, name, path, cut=self.cut)


@dataclass(frozen=True)
class Moving:
    """A video file or a camera.

    Args:
        source: what the user gave; the name in results.
        place: path of the file, or number of the camera.
        every: take each so many-th frame.
        most: stop after so many frames taken; None: go on.
    """

    source: str
    place: Path | int
    every: int = 1
    most: int | None = None

    moving = True
    cut = None

    @property
    def endless(self) -> bool:
        """Whether only the user can end it."""
        return isinstance(self.place, int)

    def of(self) -> list[int | None]:
        """Return what tells this video, and which of its frames are taken, from others.

        Of the file that is its size and a checksum of pieces of it, so that copying and touching
        it change nothing.
        """
        content = [] if self.endless else list(_samples(Path(self.place)))  # type: ignore[arg-type]
        return [*content, self.every, self.most]

    def fits(self, number: int, entry: Mapping[str, Any]) -> bool | None:
        """Tell whether an entry is of a frame of this video; None: it is of what comes after."""
        here = entry["image"] == self.source and entry["frame"] is not None
        if number and not (here and entry.get("of") == self._of):
            return None
        return here and entry.get("of") == self._of

    @cached_property
    def _of(self) -> list[int | None]:
        return self.of()

    def count(self) -> int | None:
        """Return about how many frames will be taken; None when that is not known."""
        if self.endless:
            return self.most
        capture = self._open()
        frames = int(capture.get(opencv("which reads videos").CAP_PROP_FRAME_COUNT))
        capture.release()
        taken = -(-frames // self.every) if frames > 0 else None
        return min((n for n in (taken, self.most) if n is not None), default=None)

    def shots(self) -> Iterator[Shot]:
        """Yield the frames, each read when it is asked for."""
        cv2 = opencv("which reads videos")
        capture = self._open()
        clock = _Clock() if self.endless else _Timestamps(capture)
        number = taken = 0
        try:
            while (self.most is None or taken < self.most) and capture.grab():
                seconds = clock.seconds()
                if number % self.every == 0:
                    got, pixels = capture.retrieve()
                    if not got:
                        break
                    image = Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
                    yield Shot(self.source, self.source, None, image, number, seconds, of=self._of)
                    taken += 1
                number += 1
            missing = 0 if self.endless or taken == self.most else clock.missing(number)
        finally:
            capture.release()
        if not taken:
            raise DataError(f"{self.source}: no frame could be read.")
        if missing:
            error = DataError(
                f"{self.source}: ends after {number:,} frames, but says that it has "
                f"{number + missing:,}; {missing:,} are missing: the file is cut off or damaged. "
                "Get a whole copy, or leave the rest out with --on-error skip."
            )
            yield Shot(self.source, self.source, frame=number, of=self._of, error=error)

    def _open(self) -> Any:
        place = self.place if isinstance(self.place, int) else str(self.place)
        capture = opencv("which reads videos").VideoCapture(place)
        if not capture.isOpened():
            what = "camera that answers" if self.endless else "video that can be read"
            raise DataError(f"{self.source}: no {what}.")
        return capture


class _Clock:
    """The time since a camera was opened."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def seconds(self) -> float:
        """Return how long ago that was."""
        return time.monotonic() - self.started

    def missing(self, frames: int) -> int:
        """Return that no frame is missing after so many."""
        return 0


class _Timestamps:
    """The times that a video file gives to its frames, asked for when each has been grabbed.

    Where it gives none, or one that does not come after the one before, the frame's time is that
    one plus one frame at the video's rate.
    """

    def __init__(self, capture: Any) -> None:
        self.cv2, self.capture = opencv("which reads videos"), capture
        rate = float(capture.get(self.cv2.CAP_PROP_FPS))
        self.rate = rate if math.isfinite(rate) and rate > 0 else USUAL_RATE
        self.before: float | None = None

    def seconds(self) -> float:
        """Return the time of the frame that was grabbed last."""
        given = float(self.capture.get(self.cv2.CAP_PROP_POS_MSEC)) / 1000
        before = self.before
        if math.isfinite(given) and given >= 0 and (before is None or given > before):
            self.before = given
        else:
            self.before = 0.0 if before is None else before + 1 / self.rate
        return self.before

    def missing(self, frames: int) -> int:
        """Return how many frames are missing after so many, 0 where that cannot be told.

        What a file says of its frames may be an estimate from its length. So none is missing where
        two frames or one in a hundred are, or where the last one came at the end of that length.
        """
        count = self.capture.get(self.cv2.CAP_PROP_FRAME_COUNT)
        if not math.isfinite(count) or count - frames <= max(2, count / 100):
            return 0
        last, length = self.before or 0.0, count / self.rate
        between = max(1 / self.rate, last / max(1, frames - 1))
        at_end = last >= length - max(2 * between, length / 100)
        return 0 if at_end else int(count) - frames


def _samples(path: Path) -> tuple[int, int]:
    """Return the size of a file and the CRC-32 of pieces of it."""
    crc = 0
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            for piece in range(SAMPLES):
                file.seek(max(0, size - SAMPLED) * piece // (SAMPLES - 1))
                crc = zlib.crc32(file.read(SAMPLED), crc)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None
    return size, crc


Source = Stills | Moving


def kept_entries(entries: Iterator[dict[str, Any]], sources: Sequence[Source]) -> int:
    """Return how many noted entries, from the first, are of what the sources hold now.

    The log says from which picture on they are not.
    """
    waiting, number = next(entries, None), 0
    for source in sources:
        here = 0
        while waiting is not None and (fits := source.fits(here, waiting)) is not None:
            if not fits:
                log.warning(
                    "%s is not what it was when this was interrupted, or is new; from there on "
                    "all is looked at again.",
                    waiting["image"],
                )
                return number
            waiting, number, here = next(entries, None), number + 1, here + 1
    return number


LeftOut = Callable[[str, str, DataError], None]
"""Told of a source, a name and why it cannot be used; raises that where none may be left out."""


def open_sources(
    texts: Sequence[str],
    open_faces: Callable[[str], FaceSet],
    every: int,
    most: int | None,
    left_out: LeftOut,
) -> list[Source]:
    """Return what the arguments of a command stand for, as `open_source`, named apart.

    Files with names that are not UTF-8 are left out; raises `DataError` when none is left.
    """
    usable = _usable("the command line", texts, left_out)
    if not usable:
        raise DataError("not one of the pictures that were given can be used.")
    found = [open_source(text, open_faces, every, most, left_out) for text in usable]
    return with_full_names(found)


def _usable(source: str, names: Sequence[str], left_out: LeftOut) -> list[str]:
    usable = []
    for name in names:
        try:
            require_utf8(name)
        except DataError as error:
            left_out(source, printable(name), error)
        else:
            usable.append(name)
    return usable


def _refuse(_source: str, _name: str, error: DataError) -> None:
    raise error


def open_source(
    text: str,
    open_faces: Callable[[str], FaceSet],
    every: int = 1,
    most: int | None = None,
    left_out: LeftOut = _refuse,
) -> Source:
    """Return what one argument of the command line stands for.

    Args:
        text: `camera:0`, a video, a picture, what `open_faces` opens (a folder, or a set of
            faces), or a pattern such as `photos/*.jpg`; brackets in the name of a file or folder
            that exists are no pattern.
        open_faces: opens the latter.
        every, most: as in `Moving`.
        left_out: told of files with names that are not UTF-8.

    Raises `DataError` when a file is of neither kind, or a pattern fits none.
    """
    kind, _, number = text.partition(":")
    if kind == CAMERA and (number.isdecimal() or not number):
        return Moving(text, int(number or 0), every, most)
    if os.path.isfile(text):  # noqa: PTH113 - no error for what is no path
        return _by_file(text, open_faces, every, most)
    if not names_data(text):
        if glob.has_magic(text):
            return _by_pattern(text, left_out)
        if kind_of(text) in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
            raise DataError(f"{text}: no such file.")
    return Stills.of(open_faces(text))


def _by_file(
    text: str, open_faces: Callable[[str], FaceSet], every: int, most: int | None
) -> Source:
    kind, path = kind_of(text), Path(text)
    if kind in VIDEO_SUFFIXES:
        return Moving(text, path, every, most)
    if kind in IMAGE_SUFFIXES:
        return Stills(text, (text,), (path,))
    if kind != TABLE_SUFFIX:
        raise DataError(
            f"{text}: a file {kind} is not read; give a picture, a video, a folder or a data set."
        )
    return Stills.of(open_faces(text))


def _by_pattern(pattern: str, left_out: LeftOut) -> Stills:
    found = sorted(glob.glob(_literal_where_it_is(pattern), recursive=True))  # noqa: PTH207
    pictures = [f for f in found if kind_of(f) in IMAGE_SUFFIXES]
    names = tuple(_usable(pattern, pictures, left_out))
    others = Counter(
        kind_of(f) for f in found if kind_of(f) not in IMAGE_SUFFIXES and Path(f).is_file()
    )
    rest = in_words(others) if others else ""
    if not names:
        raise DataError(
            f"{pattern}: no picture fits this pattern; looked for "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}{rest and '; '}{rest}."
        )
    if rest:
        log.warning("%s: %s", pattern, rest)
    return Stills(pattern, names, tuple(map(Path, names)))


def _literal_where_it_is(pattern: str) -> str:
    """Return a pattern in which the name of a folder that exists stands for that folder alone."""
    parts: list[str] = []
    place = ""
    for part in pattern.split("/"):
        place += part
        parts.append(glob.escape(part) if os.path.lexists(place) else part)
        place += "/"
    return "/".join(parts)


def with_full_names(sources: Sequence[Source]) -> list[Source]:
    """Name the pictures of several sources by their paths, so that no two names are alike."""
    if len(sources) == 1:
        return list(sources)
    return [
        replace(s, names=tuple(map(str, s.paths))) if isinstance(s, Stills) else s for s in sources
    ]
