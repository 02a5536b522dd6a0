"""Masks that come as one file a part, as CelebAMask-HQ ships them, merged into one file a face."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from sspl.data.images import read_image
from sspl.data.mask_files import grey_levels
from sspl.data.pairing import (
    MASK_SUFFIXES,
    NOTES,
    files_below,
    mask_path,
    pictures_by_id,
    require_no_picture,
    require_own_masks,
)
from sspl.data.palette import write_mask
from sspl.data.records import IMAGE_SUFFIXES
from sspl.domain.taxonomy import Taxonomy, built_in_taxonomy
from sspl.errors import DataError
from sspl.io.locks import claimed
from sspl.io.names import folded, path_below
from sspl.io.progress import watched

PARTS: Final = (
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth",
    "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip
"""Parts in the order of the annotation; where two overlap, the later one lies on top.

docs/method.md#semantic-classes. l_ and r_ are the person's own left and right, as in the masks.
"""

ON: Final = 128
"""Grey level from which a pixel belongs to a part."""

BLACK, WHITE = 32, 223
"""Grey levels up to which a pixel is black, and from which it is white."""

EDGE: Final = 4
"""Px within which a grey pixel needs both black and white ones: a softened edge, no grey area."""

PartFiles = dict[str, Path]


@dataclass(frozen=True)
class Merged:
    """How many masks there are now, and how many faces had no picture and were left out."""

    masks: int
    left_out: int

    def text(self, out: Path) -> str:
        """Return one line on it."""
        left = f"; {self.left_out} faces without a picture left out" if self.left_out else ""
        return f"{self.masks} masks in {out}{left}"


def find_parts(folder: Path) -> dict[str, PartFiles]:
    """Return for each face its files by part: `00001` has `00001_skin.png` and so on.

    Photographs among them are left alone. Raises `DataError` naming the first other file whose
    name ends in no part, or that comes twice.
    """
    faces: dict[str, PartFiles] = {}
    for path in files_below(folder):
        part = next((p for p in PARTS if path.stem.endswith(f"_{p}")), None)
        kind = path.suffix.lower()
        if kind not in IMAGE_SUFFIXES:
            if part is None or kind in NOTES:
                continue
            raise DataError(f"{path}: parts are read from PNG, BMP and TIFF files; save it as PNG.")
        if part is None and kind not in MASK_SUFFIXES:
            continue  # a photograph among the parts
        if part is None:
            raise DataError(
                f"{path}: the name must be FACE_PART.png with one of the parts {', '.join(PARTS)}."
            )
        files = faces.setdefault(path.stem.removesuffix(f"_{part}"), {})
        if part in files:
            raise DataError(f"{path}: {files[part]} is the same part of the same face.")
        files[part] = path
    if not faces:
        raise DataError(f"{folder}: holds no files such as 00001_skin.png.")
    return faces


def read_part(path: Path) -> NDArray[np.bool_]:
    """Return bool (h, w): where a black and white picture is white.

    Edges may be softened: grey pixels count by the nearer of both. Raises `DataError` naming the
    file when it is not lossless, or shows anything but black and white.
    """
    levels = grey_levels(path)
    brightest = int(levels.max())
    if 0 < brightest < WHITE:
        raise DataError(
            f"{path}: its brightest grey level is {brightest}; a part is white (255) on black (0), "
            "save it so."
        )
    grey = (levels > BLACK) & (levels < WHITE)
    if grey.any():
        areas = grey & ~(_near(levels <= BLACK) & _near(levels >= WHITE))
        if areas.any():
            raise DataError(
                f"{path}: has areas of grey level {int(levels[areas][0])}; a part is white (255) "
                "on black (0), save it so."
            )
    shown: NDArray[np.bool_] = levels >= ON
    return shown


def _near(there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of (h, w) from which one that holds is at most `EDGE` px away."""
    for axis in (0, 1):
        padded = np.pad(there, [(EDGE, EDGE) if a == axis else (0, 0) for a in (0, 1)])
        there = np.any(sliding_window_view(padded, 2 * EDGE + 1, axis), axis=-1)
    return there


def merge_parts(files: PartFiles, taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """Return uint8 (h, w) class ids of one face, parts told by name.

    Raises `DataError` when the files differ in size or one cannot be read.
    """
    ids: NDArray[np.uint8] | None = None
    for part in PARTS:
        if part not in files:
            continue
        shown = read_part(files[part])
        if ids is None:
            ids = np.full(shown.shape, taxonomy.background, np.uint8)
        if shown.shape != ids.shape:
            raise DataError(
                f"{files[part]}: is {shown.shape[1]} x {shown.shape[0]}, but other parts of this "
                f"face are {ids.shape[1]} x {ids.shape[0]}."
            )
        ids[shown] = taxonomy.index(part)
    assert ids is not None, "a face of find_parts has a part"
    return ids


def _pictures(folder: Path, faces: dict[str, PartFiles]) -> dict[str, Path]:
    """Return the picture of each face that has one: `00001` belongs to `00001.jpg` or `1.jpg`.

    Pictures may lie in subfolders. Raises `DataError` where two fit a face, or two faces one.
    """
    found: dict[str, list[Path]] = {}
    for path in files_below(folder, IMAGE_SUFFIXES):
        found.setdefault(folded(path.stem), []).append(path)
    pictures: dict[str, Path] = {}
    for face in faces:
        for stem in (face, str(int(face)) if face.isdecimal() else face):
            there = found.get(folded(stem), [])
            if len(there) > 1:
                raise DataError(f"the parts of '{face}' may be of {there[0]} or {there[1]}.")
            if there:
                pictures[face] = there[0]
                break
    twice = Counter(pictures.values()).most_common(1)
    if twice and twice[0][1] > 1:
        wanted = [f"'{face}'" for face, picture in pictures.items() if picture == twice[0][0]]
        raise DataError(f"{twice[0][0]}: the parts of {' and '.join(wanted)} may be its own.")
    if not pictures:
        raise DataError(f"{folder}: holds no picture of a face that has parts.")
    return pictures


def merge_folder(parts: Path, out: Path, images: Path | None) -> Merged:
    """Write one palette PNG a face into `out`, of the classes of `celebamask19`.

    With `images`, masks take the names and sizes of the pictures there (nearest neighbour), and
    faces without one are left out. Masks that are there already are not made again.
    """
    with claimed(out, folder=True, deep=True):
        return _merge(parts, out, images)


def _place(out: Path, name: str) -> Path:
    return path_below(out, mask_path(out, name).relative_to(out).as_posix())


def _merge(parts: Path, out: Path, images: Path | None) -> Merged:
    taxonomy = built_in_taxonomy("celebamask19")
    faces = find_parts(parts)
    pictures = _pictures(images, faces) if images else {}
    chosen = list(pictures) if images else list(faces)
    if images:
        names = {face: p.relative_to(images).as_posix() for face, p in pictures.items()}
        require_own_masks(list(names.values()), str(images))
        places = [mask_path(out, name) for name in names.values()]
        require_no_picture(places, pictures_by_id(names.values(), pictures.values()))
    else:
        names = {face: f"{face}.png" for face in faces}
    targets = {face: _place(out, names[face]) for face in chosen}
    for face, target in watched(targets.items(), "merge masks", len(targets), unit="face"):
        picture = pictures.get(face)
        if target.exists():
            continue
        ids = merge_parts(faces[face], taxonomy)
        if picture:
            size = read_image(picture).size
            ids = np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))
        write_mask(target, ids, len(taxonomy))
    return Merged(len(chosen), len(faces) - len(chosen))
