"""A plain folder of unlabelled faces."""

import logging
import os
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from sspl.data.adapters.base import Adapter
from sspl.data.adapters.lookup import is_file, is_folder
from sspl.data.adapters.masks import reject_masks
from sspl.data.records import IMAGE_SUFFIXES, FaceSet
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError
from sspl.io.names import clean_name

log = logging.getLogger(__name__)

NO_ENDING: Final = "without an ending"
_PAPERS: Final = frozenset(
    {
        ".txt", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".md", ".xml", ".pdf", ".html",
        ".log", ".py", ".ipynb", ".npy", ".npz", ".pt", ".mat", ".db", ".ini", ".journal",
    }
)  # fmt: skip
"""Kinds of files that nobody takes for pictures."""

_MOST_KINDS: Final = 8


def read_folder(root: Path, masks: Path | None = None) -> FaceSet:
    """Read every image under `root`, sorted by relative POSIX path, without labels or splits.

    Hidden files and folders are left out. Links to folders are followed, but no folder is
    read twice, so a link that leads in a circle does no harm.

    Masks that lie among the pictures are no faces, see `sspl.data.adapters.masks`; what lies
    in `masks`, a folder below `root`, is left out without a word. Where `masks` is `root` itself,
    which files are masks is told when they are paired.

    Returns:
        Faces with an empty schema, labels int8 (faces, 0).

    Raises:
        DataError: when the folder is not there, holds no image, or masks among them, and for a
            name that `clean_name` does not take.
    """
    if root.is_file():
        raise DataError(
            f"{root}: is a file, where a folder of pictures is expected; a table of labels is "
            f"given as csv:{root}."
        )
    if not root.is_dir():
        raise DataError(f"{root}: no such folder.")
    found, not_read = _image_names(root, masks)
    names = tuple(sorted(found))
    if not names:
        rest = f"; {in_words(not_read)}" if not_read else ""
        looked_for = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"{root}: no image in it; looked for {looked_for}{rest}.")
    if masks is None or not masks.is_dir() or not masks.samefile(root):
        reject_masks(root, names)
    return FaceSet(
        source=str(root),
        schema=AttributeSchema((), ()),
        names=names,
        images=tuple(root / name for name in names),
        masks=(None,) * len(names),
        splits=(None,) * len(names),
        labels=np.empty((len(names), 0), dtype=np.int8),
        not_read=not_read,
    )


def kind_of(name: str) -> str:
    """Return the kind that a file is counted by: its ending in small letters."""
    return os.path.splitext(name)[1].lower() or NO_ENDING  # noqa: PTH122 - quick for many files


def in_words(not_read: Mapping[str, int]) -> str:
    """Return how many files of which kind were not read, the commonest first."""
    kinds = sorted(not_read.items(), key=lambda kind: (-kind[1], kind[0]))
    shown = [f"{count:,} {kind}" for kind, count in kinds[:_MOST_KINDS]]
    if rest := sum(count for _, count in kinds[_MOST_KINDS:]):
        shown.append(f"{rest:,} of other kinds")
    return f"not read: {', '.join(shown)}"


def remark_on_rest(faces: FaceSet) -> FaceSet:
    """Return the faces; the log says, once a process, what of their folder is not read."""
    if faces.not_read:
        harmless = _PAPERS.issuperset(faces.not_read)
        _remark(
            f"{faces.source}: {in_words(faces.not_read)}",
            logging.INFO if harmless else logging.WARNING,
        )
    return faces


@cache
def _remark(text: str, level: int) -> None:
    log.log(level, text)


def _image_names(root: Path, masks: Path | None) -> tuple[list[str], Counter[str]]:
    """Return the names of images not below `masks`, and of which kinds other files are.

    Walks real folders before linked ones, so that a folder is named by its real place.
    """
    names: list[str] = []
    others: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    if masks is not None and masks.is_dir() and not masks.samefile(root):
        status = masks.stat()
        seen.add((status.st_dev, status.st_ino))
    real, linked = [""], list[str]()
    while real or linked:
        folder = real.pop() if real else linked.pop(0)
        status = (root / folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in _entries(root / folder):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if is_folder(entry):
                (linked if entry.is_symlink() else real).append(name)
            elif is_file(entry):
                if (kind := kind_of(entry.name)) in IMAGE_SUFFIXES:
                    names.append(_readable(root, name))
                else:
                    others[kind] += 1
    return names, others


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror or error}).") from error


def _readable(root: Path, name: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{root}: the file name {name!r} is not UTF-8; rename it.") from None
    try:
        return clean_name(name)
    except ValueError:
        raise DataError(
            f"{root}: {name!r} cannot be the name of an image elsewhere: it is that of a device or "
            "drive, or has characters that are no text; rename it."
        ) from None


def _is_any(root: Path) -> bool:
    return True


FOLDER: Final = Adapter(
    name="folder",
    read=read_folder,
    layout="""\
faces/                            any tree of .jpg .jpeg .jfif .png .bmp .webp .tif .tiff
                                  .avif .heic
""",
    fits=_is_any,
    lists_a_folder=True,
)
