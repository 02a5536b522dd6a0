"""What the adapters share: reading label files line by line, and finding the images."""

import csv
import logging
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

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


@contextmanager
def text_errors(path: Path) -> Iterator[None]:
    """Turn a missing file or bytes that are not UTF-8 into a `DataError` naming the line."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError:
        line = _undecodable_line(path)
        raise DataError(f"{path}, line {line}: not UTF-8 text; save it as UTF-8.") from None


def _undecodable_line(path: Path) -> int:
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return before.count(b"\n") + 1
    return 1


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, line without its end) of a UTF-8 file, blank lines left out."""
    with text_errors(path), path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.rstrip("\n")


def read_csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line where the row starts, fields) of a CSV file, the header first.

    A byte order mark, CRLF and quotes are understood, blank lines left out, blanks around
    fields stripped. Raises `DataError` for an empty file, a column listed twice, a row that
    has not as many fields as the header, and broken quotes.
    """
    width = 0
    with text_errors(path), path.open(encoding="utf-8-sig", newline="") as file:
        for line, row in _csv_rows(path, file):
            if not width:
                width = len(row)
                reject_repeats(f"{path}, line {line}", row)
            if len(row) != width:
                raise DataError(
                    f"{path}, line {line}: expected {width} fields as in the header, "
                    f"found {len(row)}."
                )
            yield line, row
    if not width:
        raise DataError(f"{path}: the file is empty.")


def _csv_rows(path: Path, file: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(file, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}, line {line}: not a CSV row ({error}).") from error
        if any(field.strip() for field in row):
            yield line, [field.strip() for field in row]


def reject_repeats(where: str, columns: Sequence[str]) -> None:
    """Raise `DataError`, beginning with `where`, for a column without name or named twice."""
    seen: set[str] = set()
    for column in columns:
        if not column:
            raise DataError(f"{where}: a column has no name; give it one.")
        if column in seen:
            raise DataError(f"{where}: column '{column}' is there twice; keep one.")
        seen.add(column)


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
    path: Path, line: int, attributes: Sequence[str], values: Sequence[str], allowed: Iterable[str]
) -> DataError:
    """Return the error for the first of `values` that is not one of `allowed`."""
    known = set(allowed)
    bad, value = next(
        (a, v) for a, v in zip(attributes, values, strict=True) if v.lower() not in known
    )
    shown = ", ".join(a or "empty" for a in sorted(known))
    return DataError(f"{path}, line {line}: '{bad}' has value '{value}'; use {shown}.")


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
