"""A CSV file of the user's own: one row a face."""

from pathlib import Path
from typing import Final

import numpy as np

from sspl.data.adapters.source import (
    LabelTable,
    NameBook,
    OnMissing,
    assemble,
    checked_split,
    read_csv,
    wrong_value,
)
from sspl.data.records import MISSING, FaceSet, Labels
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError

IMAGE: Final = "image"
SPLIT: Final = "split"

# -1 keeps a code of its own until the whole column is known: beside 0 it is ambiguous.
_MINUS: Final = 2
_EMPTY: Final = MISSING % 256
_CODES: Final = {"1": 1, "true": 1, "0": 0, "false": 0, "-1": _MINUS, "": _EMPTY}


def read_table(
    csv: Path,
    images: Path | None = None,
    schema: AttributeSchema | None = None,
    *,
    ignore: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
    missing: OnMissing = "fail",
) -> FaceSet:
    """Read a CSV file with the columns `image`, optionally `split`, and one per attribute.

    Values are 1/0, 1/-1 or true/false in any case; an empty field is `MISSING`. An empty
    `split` leaves the face out of every split. A table without attributes is allowed.

    Args:
        csv: the file; UTF-8, with or without byte order mark.
        images: folder that the `image` column is relative to; the file's own by default.
        schema: order of the labels; the columns' own by default. Attributes that the table
            has not are `MISSING` on every face.
        ignore: columns that are neither attributes nor groups.
        groups: columns that say what a face belongs to, such as `identity` or an age group.
        missing: what to do with rows whose image is not there.

    Raises:
        DataError: for any row that does not fit, naming file and line; also for a column
            that holds both 0 and -1, where -1 could mean "no" as well as "unknown".
    """
    rows = read_csv(csv)
    header_line, header = next(rows)
    if IMAGE not in header:
        raise DataError(
            f"{csv}, line {header_line}: no column '{IMAGE}'; there are {', '.join(header)}."
        )
    for column, use in (*((c, "to ignore") for c in ignore), *((c, "of groups") for c in groups)):
        if column not in header or column in (IMAGE, SPLIT):
            raise DataError(
                f"{csv}, line {header_line}: there is no attribute column '{column}' {use}; "
                f"there are {', '.join(header)}."
            )
    columns = [i for i, c in enumerate(header) if c not in (IMAGE, SPLIT, *ignore, *groups)]
    group_columns = {name: header.index(name) for name in groups}
    members: dict[str, list[str]] = {name: [] for name in groups}
    attributes = tuple(header[i] for i in columns)
    book, codes, splits = NameBook(csv), bytearray(), list[str | None]()
    image_at, split_at = header.index(IMAGE), header.index(SPLIT) if SPLIT in header else None
    for line, row in rows:
        book.add(row[image_at], line)
        split = row[split_at] if split_at is not None else ""
        splits.append(checked_split(csv, line, split) if split else None)
        for name, i in group_columns.items():
            members[name].append(row[i])
        codes += _row_codes(csv, line, attributes, [row[i] for i in columns])
    labels = _labels(csv, attributes, book, codes)
    table = LabelTable(
        csv, attributes, book.names, book.places, labels, tuple(splits),
        groups={name: tuple(values) for name, values in members.items()},
    )  # fmt: skip
    return assemble(table, images or csv.parent, schema, missing)


def _row_codes(csv: Path, line: int, attributes: tuple[str, ...], values: list[str]) -> bytes:
    try:
        return bytes([_CODES[value.lower()] for value in values])
    except KeyError:
        raise wrong_value(csv, line, attributes, values, _CODES) from None


def _labels(csv: Path, attributes: tuple[str, ...], book: NameBook, codes: bytearray) -> Labels:
    labels = np.frombuffer(codes, dtype=np.int8).reshape(len(book.place), len(attributes))
    no, minus = labels == 0, labels == _MINUS
    for column in np.flatnonzero(no.any(axis=0) & minus.any(axis=0)):
        # The line that makes it ambiguous: where the second of the two kinds first stands.
        row = max(int(no[:, column].argmax()), int(minus[:, column].argmax()))
        raise DataError(
            f"{csv}, line {book.places[row]}: column '{attributes[column]}' has both 0 and -1; "
            "use 1 and 0, or 1 and -1, and leave unknown values empty."
        )
    return np.where(minus, np.int8(0), labels)
