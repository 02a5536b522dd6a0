"""Labels of photographs as labels of the faces in them, with a part held out for the test."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from sspl.data.adapters.columns import no_attribute
from sspl.data.adapters.dialect import CsvTable
from sspl.data.adapters.folder import read_folder
from sspl.data.adapters.table import read_table
from sspl.data.person_splits import person_splits
from sspl.data.records import IDENTITY, MISSING, FaceSet
from sspl.errors import DataError, SettingsError
from sspl.faces.photographs import TABLE_FILE
from sspl.io.files import csv_text, read_text, write_csv, write_text
from sspl.io.progress import counted

FEWEST: Final = 20
"""Labelled faces below which there is nothing to learn from and to judge by."""

TEST: Final = "test"


def read_labels(file: Path, images: Path) -> FaceSet:
    """Read the labels of pictures; rows whose picture is not there are left out, and told."""
    header = CsvTable(file).header
    groups = tuple(c for c in header if no_attribute(c) == "who or what a face is of")
    return read_table(file, images, groups=groups, missing="skip", settable=False)


def largest_faces(crops: Path) -> dict[str, str]:
    """Return the crop of the largest face of each photograph, by the photograph's name."""
    with (crops / TABLE_FILE).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["face"] == "0"]
    return {row["source"]: row["image"] for row in rows}


def write_labels(
    faces: FaceSet,
    crops: dict[str, str],
    attributes: Sequence[str],
    share: float,
    seed: int,
    out: Path,
) -> dict[str, int]:
    """Write the labels of faces with their splits; return how many faces each split has.

    A split `test` in the labels is kept; else a share of the faces is drawn, people kept together
    where it is known who they are.

    Args:
        faces: labelled pictures.
        crops: name of the picture of the face, for each in which one was found.
        attributes: those to learn; all that have labels when empty.
        share, seed: of the faces to be held out.
        out: CSV file; what is there already must be of the same faces and splits.

    Raises:
        DataError: when too few faces have labels, or an attribute is unknown.
        SettingsError: when the file is there already with other content.
    """
    names = tuple(attributes) or faces.schema.names
    columns = [faces.schema.index(name) for name in names]
    known = (faces.labels[:, columns] != MISSING).any(axis=1)
    there = np.array([name in crops for name in faces.names], dtype=bool)
    chosen = faces.select(np.flatnonzero(known & there))
    if len(chosen) < FEWEST:
        count = counted(int(known.sum()), "picture")
        found = f"in {len(chosen)} of them a face was found" if known.sum() > len(chosen) else ""
        raise DataError(
            f"{faces.source}: {count} have labels{found and f', {found}'}, and a part is for the "
            f"test; label at least {FEWEST} faces, better 100 or more."
        )
    splits = _splits(chosen, share, seed)
    rows = [
        [crops[name], split, *("" if v == MISSING else int(v) for v in row)]
        for name, split, row in zip(chosen.names, splits, chosen.labels[:, columns], strict=True)
    ]
    text = csv_text(["image", "split", *names], rows)
    if out.exists() and read_text(out) != text:
        raise SettingsError(
            f"{out}: was made of other labels or another --test; choose another --out."
        )
    write_text(out, text)
    return {split: splits.count(split) for split in dict.fromkeys(splits)}


def write_unlabelled(crops: Path, labelled: Path, out: Path) -> None:
    """Write the names of the crops that are not among the labelled ones.

    `labelled` is the file that `write_labels` wrote: no face that the model is judged or chosen by
    is among those that a teacher is asked about.
    """
    known = {row[0] for _, row in CsvTable(labelled)}
    names = [name for name in read_folder(crops).names if name not in known]
    write_csv(out, ["image"], [[name] for name in names])


def _splits(faces: FaceSet, share: float, seed: int) -> list[str]:
    if TEST in faces.splits:
        return [split or "train" for split in faces.splits]
    if all(faces.groups.get(IDENTITY, ("",))):
        return list(person_splits(faces, {TEST: share}, seed))
    count = max(1, round(share * len(faces)))
    # By name, so that the order of the rows does not count.
    order = np.argsort(faces.names)
    held_out = set(order[np.random.default_rng(seed).permutation(len(faces))[:count]].tolist())
    return [TEST if i in held_out else "train" for i in range(len(faces))]
