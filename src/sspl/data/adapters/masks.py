"""Masks that lie beside pictures: told from faces by their names and by what they show."""

import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from sspl.data.decoding import opening
from sspl.errors import DataError

MOST_COLOURS: Final = 64
"""A mask has no more colours than this; a photograph has thousands."""

MASK_FOLDERS: Final = frozenset(
    {
        "mask", "masks", "label", "labels", "annotation", "annotations", "seg", "segmentation",
        "segmentations", "segmentationclass", "parsing", "parsings", "gt", "groundtruth",
        "ground_truth", "matte", "mattes", "mask_anno", "celebamask-hq-mask-anno",
    }
)  # fmt: skip

_ENDS: Final = tuple(
    f"{sign}{word}"
    for sign in "_-. "
    for word in (
        "mask", "masks", "seg", "segm", "segmentation", "label", "labels", "parsing", "gt", "anno",
        "matte",
    )
)  # fmt: skip
_GREY: Final = frozenset({"1", "L", "P", "I", "I;16"})
_LOSSLESS: Final = frozenset({".png", ".apng", ".bmp", ".dib", ".tif", ".tiff"})
_LOOKED_AT: Final = 16

Pair = tuple[str, str]
"""A mask and the picture that it is of."""


def looks_like_mask(path: Path, *, in_colour: bool = True) -> bool:
    """Tell whether a picture is stored without loss and has few colours, as masks have.

    Without `in_colour` it must also have a palette, or be grey.
    """
    if path.suffix.lower() not in _LOSSLESS:
        return False
    try:
        with opening(path) as image:
            fits = in_colour or image.mode in _GREY
            return fits and image.format != "JPEG" and image.getcolors(MOST_COLOURS) is not None
    except DataError:
        return False


def reject_masks(root: Path, names: Sequence[str]) -> None:
    """Raise `DataError` when masks of pictures are among the pictures of a folder.

    Taken for masks are files without loss and of at most `MOST_COLOURS` colours that are named
    after a picture beside them (`a.jpg` and `a_seg.png` or `a_mask.png`; also `a.png`, where it
    has a palette or is grey), or as one in a folder beside theirs where their own is called
    `masks`, `labels` or the like. Sixteen of each kind are looked at, and all must be so.

    Args:
        root: the folder.
        names: relative paths of the pictures in it.
    """
    beside, alike = _beside(names)
    if _all_masks(root, alike, in_colour=False):
        beside += alike
    if _all_masks(root, beside):
        mask, picture = beside[0]
        raise DataError(
            f"{root}: {len(beside)} pictures look like masks of others, the first is '{mask}' of "
            f"'{picture}'; move them to a folder of their own, under the names of the pictures, "
            "and give it as masks=FOLDER."
        )
    folders = _in_mask_folders(names)
    if _all_masks(root, folders):
        mask, picture = folders[0]
        place, own = (root / posixpath.dirname(name) for name in (picture, mask))
        raise DataError(
            f"{root}: {len(folders)} pictures look like masks of others, the first is '{mask}' of "
            f"'{picture}'; give {place} as the faces, with masks={own} where masks are wanted."
        )


def _all_masks(root: Path, pairs: Sequence[Pair], *, in_colour: bool = True) -> bool:
    step = max(1, len(pairs) // _LOOKED_AT)
    looked_at = (root / name for name, _ in pairs[::step])
    return bool(pairs) and all(looks_like_mask(p, in_colour=in_colour) for p in looked_at)


def _beside(names: Sequence[str]) -> tuple[list[Pair], list[Pair]]:
    """Return files named after a picture beside them: with a word such as `_seg`, and without."""
    marked: list[Pair] = []
    alike: list[Pair] = []
    lossless = [name for name in names if _ending(name) in _LOSSLESS]
    if not lossless:
        return marked, alike
    others = dict(_by_stem(names))
    lossy = {stem: name for stem, name in _by_stem(names) if _ending(name) not in _LOSSLESS}
    for name in lossless:
        stem = posixpath.splitext(name)[0]
        end = next((end for end in _ENDS if stem.lower().endswith(end)), "")
        if end and stem[: -len(end)] in others:
            marked.append((name, others[stem[: -len(end)]]))
        elif stem in lossy:
            alike.append((name, lossy[stem]))
    return marked, alike


def _by_stem(names: Sequence[str]) -> Iterator[Pair]:
    return ((posixpath.splitext(name)[0], name) for name in names)


def _ending(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _in_mask_folders(names: Sequence[str]) -> list[Pair]:
    """Return masks and their pictures where `x/masks/a.png` stands beside `x/images/a.jpg`."""
    by_place: dict[tuple[str, str], str] = {}
    masks: list[tuple[str, tuple[str, str]]] = []
    for name in names:
        folder, file = posixpath.split(name)
        parent, own = posixpath.split(folder)
        place = parent, posixpath.splitext(file)[0]
        if folder and own.lower() in MASK_FOLDERS:
            masks.append((name, place))
        elif folder:
            by_place.setdefault(place, name)
    return [(name, by_place[place]) for name, place in masks if place in by_place]
