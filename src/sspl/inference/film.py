"""Drawings on the frames of a video, put together to a video."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sspl.errors import SsplError
from sspl.faces.detectors import opencv
from sspl.inference.drawing import PANEL, annotated_path
from sspl.io.files import atomic_path

log = logging.getLogger(__name__)

FILM_SUFFIX: Final = ".webm"
CODEC: Final = "VP80"
"""What browsers play, and every build of OpenCV that has FFmpeg writes."""

USUAL_RATE: Final = 25.0
"""Frames a second where the frames do not say when they were."""


def join_frames(annotate: Path, entries: Iterable[Mapping[str, Any]]) -> list[Path]:
    """Make one video of the drawings on the frames of each; return the drawings that are in one.

    The video of `film.mp4` is `film.mp4.webm`. Where OpenCV writes none, the log says so.

    Args:
        annotate: folder of the drawings, one a frame.
        entries: what was looked at, as the journal of a prediction has it.
    """
    taken: dict[str, dict[Path, float]] = {}
    for entry in entries:
        if entry["frame"] is not None and "error" not in entry:
            path = annotated_path(annotate, entry["image"], entry["frame"])
            taken.setdefault(entry["image"], {})[path] = entry["seconds"]
    joined: list[Path] = []
    for name, frames in taken.items():
        folder = next(iter(frames)).parent
        film = folder.with_name(folder.name + FILM_SUFFIX)
        if write_film(list(frames), list(frames.values()), film):
            joined += frames
        else:
            log.warning("%s: OpenCV writes no video here; its frames are in %s.", name, folder)
    return joined


def write_film(frames: Sequence[Path], seconds: Sequence[float], out: Path) -> bool:
    """Write pictures as a video; tell whether OpenCV could.

    A video has frames of one size: the width of the widest and the height of the highest picture,
    to which the others are enlarged, with a border where their shape differs.

    Args:
        frames: picture files of one folder, in order.
        seconds: when each was; the video runs at their mean rate.
        out: `.webm` file, there whole or not at all.
    """
    cv2 = opencv("which writes videos")
    width, height = (-(-max(side) // 2) * 2 for side in zip(*map(_size, frames), strict=True))
    length = seconds[-1] - seconds[0]
    rate = (len(frames) - 1) / length if length > 0 else USUAL_RATE
    # Among the frames, for OpenCV tells the format by the ending, and an unfinished file has none.
    unfinished = frames[0].with_name(f"unfinished{FILM_SUFFIX}")
    try:
        code = cv2.VideoWriter_fourcc(*CODEC)
        writer = cv2.VideoWriter(str(unfinished), code, rate, (width, height))
        if not writer.isOpened():
            return False
        for frame in frames:
            writer.write(_fitted(frame, (width, height)))
        writer.release()
        _require_whole(cv2, unfinished, len(frames), out)
        with atomic_path(out) as temporary:
            unfinished.replace(temporary)
    finally:
        unfinished.unlink(missing_ok=True)
    return True


def _require_whole(cv2: Any, film: Path, frames: int, out: Path) -> None:
    """Raise `SsplError` where frames are missing: OpenCV says nothing of a full disk."""
    capture, there = cv2.VideoCapture(str(film)), 0
    while capture.grab():
        there += 1
    capture.release()
    if there != frames:
        raise SsplError(f"cannot write {out}: it ends too early; free some space and repeat.")


def _size(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as image:
        return image.size


def _fitted(picture: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a picture as uint8 (h, w, 3) BGR of a size, as large as it fits there."""
    with Image.open(picture) as image:
        fitted = ImageOps.pad(image.convert("RGB"), size, color=PANEL)
    return np.ascontiguousarray(np.asarray(fitted)[..., ::-1])
