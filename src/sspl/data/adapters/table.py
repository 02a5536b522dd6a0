"""A CSV file of the user's own: one row a face."""

from pathlib import Path
from typing import Final, Literal

import numpy as np

from sspl.data.adapters.base import Adapter
from sspl.data.adapters.columns import (
    NO_VALUE,
    UNKNOWN,
    Codes,
    image_column,
    no_attribute,
    no_attribute_error,
)
from sspl.data.adapters.dialect import CsvTable, is_unnamed
from sspl.data.adapters.maad import FILE as MAAD_FILE
from sspl.data.adapters.source import (
    LabelTable,
    NameBook,
    OnMissing,
    assemble,
    checked_split,
    wrong_value,
)
from sspl.data.records import MISSING, SPLITS, FaceSet, Labels
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError

IMAGE: Final = "image"
SPLIT: Final = "split"

UnknownValue = Literal["0", "-1", "none"]
"""Which number of a file with both 0 and -1 stands for unknown; the other one is no."""

# Until all is read these keep codes of their own: 0 beside -1 is ambiguous, anywhere in a file.
_FALSE: Final = 2
_MINUS: Final = 3
_EMPTY: Final = MISSING % 256
_CODES: Final = {"1": 1, "true": 1, "0": 0, "false": _FALSE, "-1": _MINUS}
_ALLOWED: Final = (*_CODES, "")


def read_table(
    csv: Path,
    images: Path | None = None,
    schema: AttributeSchema | None = None,
    *,
    ignore: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
    unknown: UnknownValue | None = None,
    missing: OnMissing = "fail",
    settable: bool = True,
) -> FaceSet:
    """Read a CSV file with the columns `image`, optionally `split`, and one per attribute.

    Values are 1/0, 1/-1 or true/false in any case, also written as 1.0 (or 1,0 where semicolons
    or tabs separate); an empty field and NaN, None or NA are `MISSING`. An empty `split` leaves
    the face out of every split. A table without attributes is allowed.

    Args:
        csv: the file, see `sspl.data.adapters.dialect.CsvTable`.
        images: folder that the `image` column is relative to; the file's own by default.
        schema: order of the labels; the columns' own by default. Attributes that the table
            has not are `MISSING` on every face.
        ignore: columns that are neither attributes nor groups.
        groups: columns that say what a face belongs to, such as `identity` or an age group.
        unknown: which of 0 and -1 is `MISSING`, in a file that holds both.
        missing: what to do with rows whose image is not there.
        settable: whether errors may name settings of the data set, which some commands have not.

    Raises:
        DataError: for any row that does not fit, naming file and line; for a column whose name
            speaks of a split, an image or a person and that no schema lists; and, unless
            `unknown` is given, for a file with both 0 and -1, where either could mean "no" as
            well as "unknown".
    """
    images = images or csv.parent
    content = label_table(csv, images, schema, ignore, groups, unknown, settable)
    return assemble(content, images, schema, missing, settable)


def label_table(
    csv: Path,
    images: Path,
    schema: AttributeSchema | None = None,
    ignore: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
    unknown: UnknownValue | None = None,
    settable: bool = True,
) -> LabelTable:
    """Return what a CSV file says, whether or not its pictures are there; else as `read_table`."""
    table = CsvTable(csv)
    header, where = table.header, f"{csv}, line {table.line}"
    ignore = tuple(column for column in ignore if not is_unnamed(column))
    if IMAGE not in header:
        raise DataError(f"{where}: no column '{IMAGE}'; {_instead(table)}.")
    _check_columns(where, header, ignore, groups, schema, settable)
    columns = [i for i, c in enumerate(header) if c not in (IMAGE, SPLIT, *ignore, *groups)]
    group_columns = {name: header.index(name) for name in groups}
    members: dict[str, list[str]] = {name: [] for name in groups}
    attributes = tuple(header[i] for i in columns)
    values = _codes(table)
    book = NameBook(csv, root=images, settable=settable)
    codes, splits = bytearray(), list[str | None]()
    image_at, split_at = header.index(IMAGE), header.index(SPLIT) if SPLIT in header else None
    together = slice(columns[0], columns[-1] + 1) if columns else slice(0)
    apart = columns != list(range(*together.indices(len(header))))
    for grid, rows in table.pieces():
        found = None if grid is None else grid.codes(together if not apart else columns, values)
        drawn = grid.column(split_at) if grid is not None and split_at is not None else []
        known = found is not None and NO_VALUE.union(SPLITS).issuperset(drawn)
        if grid is not None and known and book.add_all(grid.column(image_at), grid.line):
            codes += found or b""
            splits += [s if s in SPLITS else None for s in drawn] or [None] * len(grid)
            for name, i in group_columns.items():
                members[name] += ["" if v in NO_VALUE else v for v in grid.column(i)]
            continue
        for line, row in rows:
            book.add(row[image_at], line)
            split = row[split_at] if split_at is not None else ""
            splits.append(None if split in NO_VALUE else checked_split(csv, line, split))
            for name, i in group_columns.items():
                members[name].append("" if row[i] in NO_VALUE else row[i])
            own = [row[i] for i in columns] if apart else row[together]
            try:
                codes += bytes(map(values.__getitem__, own))
            except KeyError:
                codes += _row_codes(csv, line, attributes, own, values, settable)
    labels = _labels(csv, attributes, book, codes, unknown, settable)
    return LabelTable(
        csv,
        attributes,
        book.names,
        book.places,
        labels,
        tuple(splits),
        groups={name: tuple(values) for name, values in members.items()},
    )


def label_columns(csv: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns that hold labels, and those that by their names or a value hold none.

    The columns of images and splits are among neither.
    """
    table = CsvTable(csv)
    values = _codes(table)
    open_ = {
        i: column
        for i, column in enumerate(table.header)
        if column not in (IMAGE, SPLIT) and no_attribute(column) is None
    }
    for _, row in table:
        for i in [i for i in open_ if not _is_label(values, row[i])]:
            del open_[i]
    labels = tuple(open_.values())
    known = {IMAGE, SPLIT, *labels}
    return labels, tuple(column for column in table.header if column not in known)


def _codes(table: CsvTable) -> Codes:
    decimal = "." if table.separator == "," else ".,"
    return Codes(_CODES | dict.fromkeys(UNKNOWN, _EMPTY), decimal)


def _is_label(values: Codes, text: str) -> bool:
    try:
        values[text.lower()]
    except KeyError:
        return False
    return True


def _check_columns(
    where: str,
    header: list[str],
    ignore: tuple[str, ...],
    groups: tuple[str, ...],
    schema: AttributeSchema | None,
    settable: bool,
) -> None:
    for column, use in (*((c, "to ignore") for c in ignore), *((c, "of groups") for c in groups)):
        if column not in header or column in (IMAGE, SPLIT):
            raise DataError(
                f"{where}: there is no attribute column '{column}' {use}; "
                f"there are {', '.join(header)}."
            )
    named = {IMAGE, SPLIT, *ignore, *groups, *(schema.names if schema else ())}
    for column in header:
        if column not in named and no_attribute(column):
            raise DataError(no_attribute_error(where, column, settable))


def _instead(table: CsvTable) -> str:
    header = table.header
    if len(header) == 1 and any(sign in header[0] for sign in ",;\t| "):
        return f"nothing separates fields in '{header[0]}'; write commas between them, no quotes"
    found = image_column(header)
    if found is None and table.unnamed:
        return f"column {table.unnamed[0]} has no name; if it names the images, call it '{IMAGE}'"
    rename = f"; if '{found}' names the images, call it '{IMAGE}'" if found else ""
    return f"there are {', '.join(header)}{rename}"


def _row_codes(
    csv: Path,
    line: int,
    attributes: tuple[str, ...],
    row: list[str],
    values: Codes,
    settable: bool,
) -> bytes:
    try:
        return bytes([values[value.lower()] for value in row])
    except KeyError:
        hint = "take a column that is no attribute out of the file"
        if settable:
            hint = (
                "leave a column that is no attribute out with ignore_columns, or give it as "
                "group_columns"
            )
        raise wrong_value(csv, line, attributes, row, values, _ALLOWED, hint) from None


def _labels(
    csv: Path,
    attributes: tuple[str, ...],
    book: NameBook,
    codes: bytearray,
    unknown: UnknownValue | None,
    settable: bool,
) -> Labels:
    labels = np.frombuffer(codes, dtype=np.int8).reshape(len(book.place), len(attributes)).copy()
    zero, minus = labels == 0, labels == _MINUS
    if unknown is None:
        _reject_mixture(csv, attributes, book, zero | (labels == _FALSE), minus, settable)
    labels[labels == _FALSE] = 0
    labels[zero] = MISSING if unknown == "0" else 0
    labels[minus] = MISSING if unknown == "-1" else 0
    return labels


def _reject_mixture(
    csv: Path,
    attributes: tuple[str, ...],
    book: NameBook,
    zero: Labels,
    minus: Labels,
    settable: bool,
) -> None:
    if not (zero.any() and minus.any()):
        return
    firsts = {}
    for number, found in (("0", zero), ("-1", minus)):
        row = int(found.any(axis=1).argmax())
        firsts[number] = row, attributes[int(found[row].argmax())]
    # The line that makes it ambiguous: where the second of the two kinds first stands.
    earlier, later = sorted(firsts, key=lambda number: firsts[number][0])
    (first, column), (row, other) = firsts[earlier], firsts[later]
    remedy = "leave unknown ones empty, and write every no as 0 or every no as -1"
    if settable:
        remedy = "say which with unknown=0, unknown=-1, or unknown=none where both mean no"
    raise DataError(
        f"{csv}, line {book.places[row]}: {later} in column '{other}', but {earlier} in column "
        f"'{column}' (line {book.places[first]}): one of them may mean unknown; {remedy}."
    )


def _is_csv(root: Path) -> bool:
    """Tell it by the name; MAAD-Face's own table is another format."""
    return root.suffix.lower() in (".csv", ".tsv", ".tab") and root.name != MAAD_FILE


CSV: Final = Adapter(
    name="csv",
    read=read_table,
    options=(
        "images",
        "schema_file",
        "ignore_columns",
        "group_columns",
        "unknown",
        "on_missing",
    ),
    root="`.csv` file",
    labels="1 / 0, 1 / -1 or true / false, empty is unknown",
    splits="by its column `split`, else none",
    layout="""\
labels.csv                        image,split,Smiling,...; images beside it, or images=FOLDER
""",
    fits=_is_csv,
)
