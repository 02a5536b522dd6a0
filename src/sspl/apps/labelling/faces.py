"""The faces that are to be labelled, and lists of their names."""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from sspl.data.adapters.dialect import read_csv
from sspl.data.adapters.lookup import alike
from sspl.data.adapters.table import IMAGE
from sspl.data.records import FaceSet
from sspl.data.skipping import SKIPPED_FILE, OnError, Skipped, usable
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError, SettingsError

log = logging.getLogger(__name__)


def images_root(faces: FaceSet) -> Path:
    """Return the folder that the names of faces are relative to."""
    first = faces.images[0]
    if not isinstance(first, Path):
        raise SettingsError(
            f"labels: the faces of {faces.source} are in a pack, not beside the labels; add "
            "images=FOLDER to the labels."
        )
    return first.parents[len(PurePosixPath(faces.names[0]).parts) - 1]


def unlabelled(faces: FaceSet) -> FaceSet:
    """Return the faces without what their own source says of them; only its training split."""
    if any(split is not None for split in faces.splits):
        faces = faces.split("train")
    nothing = np.empty((len(faces), 0), dtype=np.int8)
    splits = (None,) * len(faces)
    return replace(faces, schema=AttributeSchema((), ()), labels=nothing, splits=splits, groups={})


def readable(faces: FaceSet, on_error: OnError, out: Path) -> FaceSet:
    """Return the faces; with `skip` those alone whose picture can be read, the rest listed.

    The list stands beside `out`. Raises `DataError` when not one can be read.
    """
    if on_error == "fail":
        return faces
    skipped = Skipped(on_error)
    faces = usable(faces, None, skipped)
    file = out.with_suffix(f".{SKIPPED_FILE}")
    skipped.write(file)
    if skipped:
        log.warning(skipped.text(file))
    return faces


def names_listed(file: Path, faces: FaceSet) -> list[str]:
    """Return the column `image` of a CSV file; raise `DataError` for a name that is no face."""
    rows = read_csv(file)
    line, header = next(rows)
    if IMAGE not in header:
        raise DataError(f"{file}, line {line}: no column '{IMAGE}'.")
    known, names = set(faces.names), []
    for line, row in rows:
        name = row[header.index(IMAGE)]
        if name not in known:
            raise DataError(
                f"{file}, line {line}: '{name}' is not a face of {faces.source}"
                f"{alike(name, faces.names)}."
            )
        names.append(name)
    return names


def first_order(faces: FaceSet, order: Path | None, seed: int) -> list[int]:
    """Return the places of the faces of a list in its order, then of the others by chance."""
    place = {name: i for i, name in enumerate(faces.names)}
    listed = [place[name] for name in names_listed(order, faces)] if order else []
    others = np.random.default_rng(seed).permutation(len(faces))
    return list(dict.fromkeys([*listed, *(int(i) for i in others)]))


def held_out(faces: FaceSet, share: float, seed: int) -> list[int]:
    """Return the places of a share of the faces, drawn by their names, in an order by chance.

    A face is drawn or not whatever other faces there are, so that more of them change nothing.
    """
    drawn = [(_chance(name, seed), place) for place, name in enumerate(faces.names)]
    return [place for chance, place in sorted(drawn) if chance < share]


def _chance(name: str, seed: int) -> float:
    """Return a number from 0 to 1 that is a function of a name and a seed."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
