"""A plain folder of unlabelled faces."""

import os
from pathlib import Path

import numpy as np

from sspl.data.adapters.source import is_file, is_folder
from sspl.data.records import IMAGE_SUFFIXES, FaceSet
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError


def read_folder(root: Path) -> FaceSet:
    """Read every image under `root`, sorted by relative POSIX path, without labels or splits.

    Hidden files and folders are left out. Links to folders are followed, but no folder is
    read twice, so a link that leads in a circle does no harm.

    Returns:
        Faces with an empty schema, labels int8 (faces, 0).

    Raises:
        DataError: when the folder is not there or holds no image.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder.")
    names = tuple(sorted(_image_names(root)))
    if not names:
        raise DataError(f"{root}: no image in it; looked for {', '.join(sorted(IMAGE_SUFFIXES))}.")
    return FaceSet(
        source=str(root),
        schema=AttributeSchema((), ()),
        names=names,
        images=tuple(root / name for name in names),
        masks=(None,) * len(names),
        splits=(None,) * len(names),
        labels=np.empty((len(names), 0), dtype=np.int8),
    )


def _image_names(root: Path) -> list[str]:
    """Walk real folders before linked ones, so that a folder is named by its real place."""
    names: list[str] = []
    seen: set[tuple[int, int]] = set()
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
            elif is_file(entry) and Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
                names.append(_readable(root, name))
    return names


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
    return name
