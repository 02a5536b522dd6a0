"""Masks that lie among pictures: told from faces by their names and by what they show."""

import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from sspl.data.adapters.label_maps import (
    LOSSLESS,
    MOST_COLOURS,
    find_label_map,
    is_label_map,
)
from sspl.data.decoding import opening
from sspl.data.pairing import marked_stems
from sspl.errors import DataError

MASK_FOLDERS: Final = frozenset(
    {
        "mask", "masks", "label", "labels", "annotation", "annotations", "seg", "segmentation",
        "segmentations", "segmentationclass", "parsing", "parsings", "gt", "groundtruth",
        "ground_truth", "matte", "mattes", "mask_anno", "celebamask-hq-mask-anno",
    }
)  # fmt: skip

_GREY: Final = frozenset({"1", "L", "P", "I", "I;16"})
_LOOKED_AT: Final = 16

Pair = tuple[str, str]
"""A mask and the picture that it is of."""

Key = tuple[str, str, str]
"""Folders before and behind the one for masks, and the name without its ending."""


def looks_like_mask(path: Path, *, in_colour: bool = True) -> bool:
    """Tell whether a picture is stored without loss and has few colours, as masks have.

    Without `in_colour` it must also have a palette, or be grey.
    """
    if path.suffix.lower() not in LOSSLESS:
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
    has a palette or is grey), or that lie in a folder called `masks`, `labels` or the like and
    are named as a picture elsewhere, or have a palette or are grey. Some sixteen of each kind
    are looked at, and all must be so. In such a folder flat areas of few colours are enough,
    with soft edges or in colour; and in any place, where `find_label_map` finds them.

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
            f"'{picture}'; move them to a folder of their own, or, where masks are wanted, give "
            f"masks={root}, too."
        )
    paired, alone = _in_mask_folders(names)
    if _all_masks(root, paired, by_areas=True):
        mask, picture = paired[0]
        place, own = (root / posixpath.dirname(name) for name in (picture, mask))
        raise DataError(
            f"{root}: {len(paired)} pictures look like masks of others, the first is '{mask}' of "
            f"'{picture}'; give a folder of pictures alone (these are in {place}), and "
            f"masks=FOLDER ({own}) where masks are wanted."
        )
    found = find_label_map(root, names)
    if found is not None:
        raise DataError(_found_by_areas(root, *found))
    if _all_masks(root, alone, in_colour=False, by_areas=True):
        raise DataError(
            f"{root}: {len(alone)} pictures look like masks, the first is '{alone[0][0]}'; give "
            "a folder of pictures alone, and masks=FOLDER where masks are wanted."
        )


def _found_by_areas(root: Path, mask: str, picture: str) -> str:
    """Return the sentence on masks that nothing but their flat areas and names tells."""
    said = f"{root}: pictures such as '{mask}' look like masks of others ('{picture}')"
    place, own = (root / posixpath.dirname(name) for name in (picture, mask))
    if place == own:
        return (
            f"{said}; move them to a folder of their own, and where masks are wanted, give it as "
            "masks=FOLDER, each under the name of its picture."
        )
    return (
        f"{said}; give a folder of pictures alone (these are in {place}), and masks=FOLDER where "
        "masks are wanted, one file a picture under its name ('sspl data merge-masks' makes such "
        "of parts)."
    )


def _all_masks(
    root: Path, pairs: Sequence[Pair], *, in_colour: bool = True, by_areas: bool = False
) -> bool:
    step = max(1, len(pairs) // _LOOKED_AT)
    looked_at = (root / name for name, _ in pairs[::step])
    return bool(pairs) and all(
        looks_like_mask(p, in_colour=in_colour) or (by_areas and is_label_map(p)) for p in looked_at
    )


def _beside(names: Sequence[str]) -> tuple[list[Pair], list[Pair]]:
    """Return files named after a picture beside them: with a word such as `_seg`, and without."""
    marked: list[Pair] = []
    alike: list[Pair] = []
    lossless = [name for name in names if _ending(name) in LOSSLESS]
    if not lossless:
        return marked, alike
    others = dict(_by_stem(names))
    lossy = {stem: name for stem, name in _by_stem(names) if _ending(name) not in LOSSLESS}
    for name in lossless:
        stem = posixpath.splitext(name)[0]
        picture = next((others[base] for base in marked_stems(stem) if base in others), None)
        if picture is not None:
            marked.append((name, picture))
        elif stem in lossy:
            alike.append((name, lossy[stem]))
    return marked, alike


def _by_stem(names: Sequence[str]) -> Iterator[Pair]:
    return ((posixpath.splitext(name)[0], name) for name in names)


def _ending(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _in_mask_folders(names: Sequence[str]) -> tuple[list[Pair], list[Pair]]:
    """Return masks in a folder for masks, with their pictures in another, and all without one.

    `x/masks/t/a.png` is the mask of `x/images/t/a.jpg` and of `x/t/a.jpg`.
    """
    masks: dict[Key, str] = {}
    pictures: list[str] = []
    for name in names:
        *folders, _ = name.split("/")
        at = next((i for i, f in enumerate(folders) if f.lower() in MASK_FOLDERS), None)
        if at is None:
            pictures.append(name)
        elif _ending(name) in LOSSLESS:
            masks[_key(folders[:at], folders[at + 1 :], name)] = name
    found: dict[str, str] = {}
    for picture in pictures if masks else ():
        *folders, _ = picture.split("/")
        for i in range(len(folders) + 1):
            for rest in (folders[i:], folders[i + 1 :]):
                mask = masks.get(_key(folders[:i], rest, picture))
                if mask is not None:
                    found.setdefault(mask, picture)
    alone = [(mask, "") for mask in masks.values() if mask not in found and pictures]
    return list(found.items()), alone


def _key(before: Sequence[str], after: Sequence[str], name: str) -> Key:
    return "/".join(before), "/".join(after), posixpath.splitext(posixpath.basename(name))[0]
