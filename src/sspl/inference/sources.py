"""What a prediction looks at: pictures one by one, whatever they come from."""

import glob
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from PIL import Image

from sspl.data.images import read_image
from sspl.data.pictures import Picture
from sspl.data.records import IMAGE_SUFFIXES, Cut, FaceSet
from sspl.errors import DataError
from sspl.faces.detectors import opencv

VIDEO_SUFFIXES: Final = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg"})
CAMERA: Final = "camera"


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
    """

    source: str
    name: str
    path: Picture | None = None
    image: Image.Image | None = None
    frame: int | None = None
    seconds: float | None = None
    cut: Cut | None = None

    def read(self) -> Image.Image:
        """Return the picture upright and in RGB; raise `DataError` when it cannot be used."""
        if self.image is not None:
            return self.image
        assert self.path is not None
        return read_image(self.path)


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
        return cls(faces.source, faces.names, faces.images, faces.cut)

    def identity(self) -> list[str]:
        """Return what tells these pictures from others, by name."""
        names = "\0".join(map(str, self.paths))
        return [self.source, hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()]

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

    def identity(self) -> list[str]:
        """Return what tells this video from others, by name."""
        size = self.place.stat().st_size if isinstance(self.place, Path) else ""
        return [self.source, str(size), str(self.every), str(self.most)]

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
        rate, started = capture.get(cv2.CAP_PROP_FPS), time.monotonic()
        number = taken = 0
        try:
            while (self.most is None or taken < self.most) and capture.grab():
                if number % self.every == 0:
                    got, pixels = capture.retrieve()
                    if not got:
                        break
                    image = Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
                    seconds = time.monotonic() - started if self.endless else number / (rate or 25)
                    yield Shot(self.source, self.source, None, image, number, seconds)
                    taken += 1
                number += 1
        finally:
            capture.release()
        if not taken:
            raise DataError(f"{self.source}: no frame could be read.")

    def _open(self) -> Any:
        place = self.place if isinstance(self.place, int) else str(self.place)
        capture = opencv("which reads videos").VideoCapture(place)
        if not capture.isOpened():
            what = "camera that answers" if self.endless else "video that can be read"
            raise DataError(f"{self.source}: no {what}.")
        return capture


Source = Stills | Moving


def open_source(
    text: str, open_faces: Callable[[str], FaceSet], every: int = 1, most: int | None = None
) -> Source:
    """Return what one argument of the command line stands for.

    Args:
        text: `camera:0`, a video, a picture, a pattern such as `photos/*.jpg`, or what
            `open_faces` opens: a folder, or a set of faces.
        open_faces: opens the latter.
        every, most: as in `Moving`.

    Raises `DataError` when a file is of neither kind, or a pattern fits none.
    """
    kind, _, number = text.partition(":")
    if kind == CAMERA and (number.isdecimal() or not number):
        return Moving(text, int(number or 0), every, most)
    path = Path(text)
    if glob.has_magic(text) and not path.exists():
        return _by_pattern(text)
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES | IMAGE_SUFFIXES and not path.is_dir() and "," not in text:
        if not path.is_file():
            raise DataError(f"{text}: no such file.")
        if suffix in VIDEO_SUFFIXES:
            return Moving(text, path, every, most)
        return Stills(text, (text,), (path,))
    return Stills.of(open_faces(text))


def _by_pattern(pattern: str) -> Stills:
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - patterns may be absolute
    names = tuple(f for f in found if Path(f).suffix.lower() in IMAGE_SUFFIXES)
    if not names:
        raise DataError(
            f"{pattern}: no picture fits this pattern; looked for "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return Stills(pattern, names, tuple(map(Path, names)))


def with_full_names(sources: Sequence[Source]) -> list[Source]:
    """Name the pictures of several sources by their paths, so that no two names are alike."""
    if len(sources) == 1:
        return list(sources)
    return [
        replace(s, names=tuple(map(str, s.paths))) if isinstance(s, Stills) else s for s in sources
    ]
