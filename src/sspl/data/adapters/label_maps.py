"""Masks in folders of any name: told by their flat areas and by the photographs they are of."""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sspl.data.decoding import opening
from sspl.errors import DataError

LOSSLESS: Final = frozenset({".png", ".apng", ".bmp", ".dib", ".tif", ".tiff"})
MOST_COLOURS: Final = 64
"""A mask has no more colours than this; a photograph has thousands."""

FLAT: Final = 0.9
"""Share of neighbouring pixels that are equal from which a picture is flat areas."""

THICK: Final = 0.5
"""Share of the pixels off the commonest colour that lie inside of areas; lines have less."""

_LOOKED_AT: Final = 16
_MOST_GROUPS: Final = 32
_MOST_PICTURES: Final = 16
_SAME_SHAPE: Final = 0.02
_TAIL: Final = re.compile(r"[_\-. ]([^\W\d_]+)\d*$")
_SIGN: Final = re.compile(r"[_\-. ]")

Key = tuple[str, str, str]
"""Folder, last word of the name, and ending: what masks of one kind have in common."""


@dataclass(frozen=True)
class Areas:
    """How flat a picture is: pixels off its commonest colour, and those of them inside an area."""

    off: int
    inside: int


def flat_areas(path: Path, *, soft: bool = False) -> Areas | None:
    """Return how flat a picture of at most `MOST_COLOURS` colours is; None where it is not.

    With `soft` the edges of its areas may have more colours. None, too, for what is no picture.
    """
    try:
        with opening(path) as image:
            if not soft and image.getcolors(MOST_COLOURS) is None:
                return None
            return _areas(_codes(image))
    except DataError:
        return None


def is_label_map(path: Path) -> bool:
    """Tell whether a picture is thick flat areas of few colours, edges left aside."""
    areas = flat_areas(path, soft=True)
    return areas is not None and areas.inside >= THICK * areas.off


def find_label_map(root: Path, names: Sequence[str]) -> tuple[str, str] | None:
    """Return a mask among the pictures of a folder, and its picture; None where there is none.

    Files without loss are looked at by folder, last word of the name and ending, some sixteen of
    a kind. They are masks where all are flat areas of few colours, no thin lines, and half of
    them are named after a picture that is not so, of the same shape: `7.bmp` after `7.jpg`
    anywhere, `00007_skin.png` after `7.jpg`.

    Args:
        root: the folder.
        names: relative paths of the pictures in it.
    """
    groups: dict[Key, list[str]] = {}
    for name in names:
        if posixpath.splitext(name)[1].lower() in LOSSLESS:
            groups.setdefault(_key(name), []).append(name)
    largest = sorted(groups.values(), key=len, reverse=True)[:_MOST_GROUPS]
    samples = [group[:: max(1, len(group) // _LOOKED_AT)] for group in largest]
    named = _by_own_name(names, [mask for sample in samples for mask in sample])
    for sample in samples:
        pictures = {mask: _pictures_of(mask, named) for mask in sample}
        # Names cost nothing, and most folders of faces end here.
        if 2 * sum(map(bool, pictures.values())) < len(sample) or not _all_flat(root, sample):
            continue
        pairs = [(m, p) for m in sample if (p := _fitting(root, m, pictures[m])) is not None]
        if 2 * len(pairs) >= len(sample):
            return pairs[0]
    return None


def _key(name: str) -> Key:
    stem, ending = posixpath.splitext(name)
    folder, own = posixpath.split(stem)
    tail = _TAIL.search(own)
    return folder, tail[1].lower() if tail else "", ending.lower()


def _all_flat(root: Path, names: Sequence[str]) -> bool:
    off = inside = 0
    for name in names:
        # Several files of one picture are parts, whose edges may be softened.
        areas = flat_areas(root / name, soft=_TAIL.search(posixpath.splitext(name)[0]) is not None)
        if areas is None:
            return False
        off, inside = off + areas.off, inside + areas.inside
    return inside >= THICK * off


def _by_own_name(names: Sequence[str], masks: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Return some of the files for each name that the masks may be named after."""
    found: dict[str, list[str]] = {base: [] for mask in masks for base in _bases(mask)}
    for name in names if found else ():
        there = found.get(_plain(_own(name)))
        if there is not None and len(there) < _MOST_PICTURES:
            there.append(name)
    return found


def _pictures_of(mask: str, named: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what a mask may be of: files of its name that are not of its kind."""
    key = _key(mask)
    return [name for base in _bases(mask) for name in named[base] if _key(name) != key]


def _fitting(root: Path, mask: str, pictures: Sequence[str]) -> str | None:
    """Return the first picture that has the shape of the mask and is not flat itself."""
    fits = (p for p in pictures if _same_shape(root / mask, root / p))
    return next((p for p in fits if flat_areas(root / p, soft=True) is None), None)


def _own(name: str) -> str:
    return posixpath.splitext(posixpath.basename(name))[0]


def _bases(mask: str) -> Iterator[str]:
    """Yield what a picture of this mask may be called, the longest name first."""
    stem = _own(mask)
    yield _plain(stem)
    for sign in reversed(list(_SIGN.finditer(stem))):
        if sign.start():
            yield _plain(stem[: sign.start()])


def _plain(stem: str) -> str:
    """Return a name as one of a picture: `00007` is `7`."""
    return stem.lstrip("0") or "0" if stem.isdecimal() else stem


def _same_shape(one: Path, other: Path) -> bool:
    try:
        with opening(one) as mask, opening(other) as picture:
            (w, h), (width, height) = mask.size, picture.size
    except DataError:
        return False
    # A photograph may be stored on its side.
    return any(
        abs(w * b / (h * a) - 1) < _SAME_SHAPE for a, b in ((width, height), (height, width))
    )


def _codes(image: Image.Image) -> NDArray[np.uint32]:
    """Return one number for each colour, (h, w)."""
    values = np.asarray(image).astype(np.uint32)
    if values.ndim == 2:
        return values
    weights = (1 << 8 * np.arange(values.shape[2])).astype(np.uint32)
    codes: NDArray[np.uint32] = (values * weights).sum(-1, dtype=np.uint32)
    return codes


def _areas(codes: NDArray[np.uint32]) -> Areas | None:
    across, down = codes[:, 1:] == codes[:, :-1], codes[1:] == codes[:-1]
    if min(codes.shape) < 3 or min(across.mean(), down.mean()) < FLAT:
        return None
    inside = np.zeros(codes.shape, dtype=bool)
    inside[1:-1, 1:-1] = across[1:-1, 1:] & across[1:-1, :-1] & down[1:, 1:-1] & down[:-1, 1:-1]
    colours, counts = np.unique(codes[inside], return_counts=True)
    if not 0 < len(colours) <= MOST_COLOURS:
        return None
    off = codes != colours[counts.argmax()]
    return Areas(int(off.sum()), int((off & inside).sum()))
