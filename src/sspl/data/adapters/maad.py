"""MAAD-Face: 47 attributes of VGGFace2 faces, each yes, no or undefined."""

from pathlib import Path
from typing import Final

import numpy as np

from sspl.data.adapters.base import Adapter
from sspl.data.adapters.columns import Codes
from sspl.data.adapters.dialect import CsvTable
from sspl.data.adapters.source import (
    LabelTable,
    NameBook,
    OnMissing,
    assemble,
    splits_by_name,
    wrong_value,
)
from sspl.data.records import IDENTITY, MISSING, FaceSet
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError

FILE: Final = "MAAD_Face.csv"
_KEYS: Final = ["Filename", "Identity"]
_VALUES: Final = {"1": 1, "-1": 0, "0": MISSING % 256}


def read_maad(
    csv: Path,
    images: Path | None = None,
    *,
    split_file: Path | None = None,
    schema: AttributeSchema | None = None,
    missing: OnMissing = "fail",
) -> FaceSet:
    """Read MAAD-Face; 1 becomes 1 (yes), -1 becomes 0 (no), 0 (undefined) `MISSING`.

    The column Identity becomes the group `identity`.

    Args:
        csv: the file, or a folder with `MAAD_Face.csv`: the columns Filename (such as
            `n000002/0001_01.jpg`) and Identity, then the attributes.
        images: folder that the file names are relative to; the file's own by default.
        split_file: CSV with columns `name,split`; MAAD-Face itself has no splits.
        schema: order of the labels; the file's own by default.
        missing: what to do with rows whose image is not there.

    Raises:
        DataError: for any row that does not fit, naming file and line.
    """
    csv = csv / FILE if csv.is_dir() else csv
    content = CsvTable(csv)
    header = content.header
    if header[:2] != _KEYS or len(header) < 3:
        raise DataError(
            f"{csv}, line {content.line}: expected the columns Filename,Identity and attributes, "
            f"found {','.join(header)}."
        )
    attributes, places = tuple(header[2:]), slice(2, len(header))
    book, values, identities = NameBook(csv, root=images or csv.parent), bytearray(), list[str]()
    codes, people = Codes(_VALUES), dict[str, str]()
    for grid, rows in content.pieces():
        found = None if grid is None else grid.codes(places, _VALUES)
        if grid is not None and found is not None and book.add_all(grid.column(0), grid.line):
            values += found
            # One text for all faces of a person: there are millions of faces.
            identities += [people.setdefault(person, person) for person in grid.column(1)]
            continue
        for line, row in rows:
            book.add(row[0], line)
            identities.append(people.setdefault(row[1], row[1]))
            try:
                values += bytes(map(codes.__getitem__, row[2:]))
            except KeyError:
                raise wrong_value(csv, line, attributes, row[2:], codes, _VALUES) from None
    names = book.names
    splits = splits_by_name(names, split_file, csv) if split_file else (None,) * len(names)
    labels = np.frombuffer(values, dtype=np.int8).reshape(len(names), len(attributes))
    groups = {IDENTITY: tuple(identities)}
    table = LabelTable(csv, attributes, names, book.places, labels, splits, groups=groups)
    return assemble(table, images or csv.parent, schema, missing)


def _is_maad(root: Path) -> bool:
    return root.name == FILE or (root / FILE).is_file()


MAAD: Final = Adapter(
    name="maad",
    read=read_maad,
    options=("images", "split_file", "schema_file", "on_missing"),
    root="folder or `.csv` file",
    labels="1 / -1, 0 is undefined and left out",
    splits="by `split_file`, else none",
    layout="""\
maad/
  MAAD_Face.csv                   Filename,Identity, then the attributes
  n000002/0001_01.jpg ...         or elsewhere, with images=FOLDER
""",
    fits=_is_maad,
)
