"""What the adapters share: reading label files line by line, and finding the images."""

import logging
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from sspl.data.adapters.dialect import read_csv
from sspl.data.records import MISSING, SPLITS, FaceSet, Labels
from sspl.domain.attributes import AttributeSchema, schema_for
from sspl.errors import DataError
from sspl.names import clean_name

log = logging.getLogger(__name__)

OnMissing = Literal["fail", "skip"]
"""What to do with a label row whose image is not there."""


@dataclass(frozen=True)
class LabelTable:
    """The content of a label file.

    Args:
        file: where it was read from, for messages.
        attributes: attribute names in the order of the columns of `labels`.
        names: image names, unique, relative POSIX paths.
        places: for each face its line (or entry) number in the file, counted from 1.
        labels: int8 (faces, attributes) of 1, 0 and `MISSING`.
        splits: for each face its split or None.
        unit: what `places` counts, `line` or `entry`.
        groups: as in `FaceSet`.
    """

    file: Path
    attributes: tuple[str, ...]
    names: tuple[str, ...]
    places: Sequence[int]
    labels: Labels
    splits: tuple[str | None, ...]
    unit: str = "line"
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.names:
            raise DataError(f"{self.file}: names no image; at least one is needed.")


class NameBook:
    """Image names of one file in file order, each once."""

    def __init__(self, path: Path, unit: str = "line") -> None:
        self.path = path
        self.unit = unit
        self.place: dict[str, int] = {}

    def add(self, raw: str, place: int) -> str:
        """Note a name and return it as a clean relative POSIX path.

        Raises `DataError` when `clean_name` does not take it, or it was there before.
        """
        try:
            name = clean_name(raw)
        except ValueError as error:
            raise DataError(f"{self.path}, {self.unit} {place}: {error}.") from None
        if name in self.place:
            raise DataError(
                f"{self.path}, {self.unit} {place}: image '{name}' was given before, "
                f"in {self.unit} {self.place[name]}; keep one."
            )
        self.place[name] = place
        return name

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order in which they were added."""
        return tuple(self.place)

    @property
    def places(self) -> tuple[int, ...]:
        """The line or entry of each name."""
        return tuple(self.place.values())


def wrong_value(
    path: Path, line: int, attributes: Sequence[str], values: Sequence[str],
    known: Mapping[str, int], allowed: Iterable[str], hint: str = "",
) -> DataError:  # fmt: skip
    """Return the error for the first of `values` that has no code; `allowed` are shown."""
    bad, value = next(
        (a, v) for a, v in zip(attributes, values, strict=True) if not _has(known, v.lower())
    )
    shown = ", ".join(a or "empty" for a in sorted(allowed))
    hint = f"; {hint}" if hint else ""
    return DataError(f"{path}, line {line}: '{bad}' has value '{value}'; use {shown}{hint}.")


def _has(known: Mapping[str, int], value: str) -> bool:
    try:
        known[value]
    except KeyError:
        return False
    return True


def read_split_list(path: Path) -> dict[str, tuple[str, int]]:
    """Read a CSV with columns `name,split`: image name to (split, line).

    Raises `DataError` for other columns, a name given twice or an unknown split.
    """
    rows = read_csv(path)
    line, header = next(rows)
    if header != ["name", "split"]:
        raise DataError(
            f"{path}, line {line}: expected the columns name,split, found {','.join(header)}."
        )
    book = NameBook(path)
    return {
        book.add(raw, line): (checked_split(path, line, split), line) for line, (raw, split) in rows
    }


def checked_split(path: Path, line: int, split: str) -> str:
    """Return `split`; raise `DataError` when it is not one of `SPLITS`."""
    if split not in SPLITS:
        raise DataError(f"{path}, line {line}: unknown split '{split}'; use {', '.join(SPLITS)}.")
    return split


def splits_by_name(names: Sequence[str], split_file: Path, labels: Path) -> tuple[str | None, ...]:
    """Return the split of every name by a `name,split` file; None for names not listed there.

    Raises `DataError` for a listed name that has no labels.
    """
    listed = read_split_list(split_file)
    known = set(names)
    for name, (_, line) in listed.items():
        if name not in known:
            raise DataError(f"{split_file}, line {line}: image '{name}' is not in {labels}.")
    return tuple(listed[name][0] if name in listed else None for name in names)


def assemble(
    table: LabelTable, images: Path, schema: AttributeSchema | None, missing: OnMissing
) -> FaceSet:
    """Join labels with the images in the folder `images`.

    With a schema, labels come in its order, and attributes that the file has not are
    `MISSING`; without, the schema is made from the file's attributes.

    Raises `DataError` for an attribute that the schema has not, and for images that are not
    there (with `missing="skip"` their faces are left out and the log says how many).
    """
    labels = table.labels
    if schema is None:
        schema = schema_for(table.attributes)
    else:
        labels = _in_schema_order(table, schema)
    faces = FaceSet(
        source=str(table.file),
        schema=schema,
        names=table.names,
        images=tuple(images / name for name in table.names),
        masks=(None,) * len(table.names),
        splits=table.splits,
        labels=labels,
        groups=table.groups,
    )
    return _with_images_only(faces, table, images, missing)


def _in_schema_order(table: LabelTable, schema: AttributeSchema) -> Labels:
    for attribute in table.attributes:
        if attribute not in schema.names:
            raise DataError(
                f"{table.file}: unknown attribute '{attribute}'; the schema has "
                f"{', '.join(schema.names)}."
            )
    labels = np.full((len(table.names), len(schema)), MISSING, dtype=np.int8)
    columns = [schema.index(attribute) for attribute in table.attributes]
    labels[:, columns] = table.labels
    return labels


def _with_images_only(
    faces: FaceSet, table: LabelTable, images: Path, missing: OnMissing
) -> FaceSet:
    there = _present(images, table.names)
    absent = [i for i, name in enumerate(table.names) if name not in there]
    if not absent:
        return faces
    first = absent[0]
    problem = (
        f"{len(absent)} of {len(faces)} images named in {table.file} are not in {images}, "
        f"the first is '{table.names[first]}' ({table.unit} {table.places[first]})"
    )
    if missing == "fail" or len(absent) == len(faces):
        raise DataError(f"{problem}; give the folder of images, or set missing images to skip.")
    log.warning("%s; these faces are skipped.", problem)
    return faces.select([i for i, name in enumerate(table.names) if name in there])


def _present(root: Path, names: Sequence[str]) -> set[str]:
    """Return those names that are files, listing each folder once (no stat per file)."""
    there: set[str] = set()
    for folder in {posixpath.dirname(name) for name in names}:
        try:
            with os.scandir(root / folder) as entries:
                there.update(posixpath.join(folder, e.name) for e in entries if is_file(e))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise DataError(
                f"{root / folder}: cannot be listed ({error.strerror or error})."
            ) from error
    return there


def is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a file; a link to nowhere or to itself is none."""
    try:
        return entry.is_file()
    except OSError:
        return False


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder; a link to nowhere or to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False
