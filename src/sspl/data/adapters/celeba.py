"""CelebA in its official text files, or in the tables of its copy on Kaggle; CelebAMask-HQ."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from sspl.data.adapters.base import Adapter
from sspl.data.adapters.columns import Codes, no_attribute
from sspl.data.adapters.dialect import CsvTable, read_lines, reject_repeats
from sspl.data.adapters.lookup import alike
from sspl.data.adapters.source import (
    LabelTable,
    NameBook,
    OnMissing,
    assemble,
    wrong_value,
)
from sspl.data.records import IDENTITY, SPLITS, FaceSet
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError

ATTRIBUTES_FILE: Final = "list_attr_celeba.txt"
PARTITION_FILE: Final = "list_eval_partition.txt"
IDENTITY_FILE: Final = "identity_CelebA.txt"
IMAGES_FOLDER: Final = "img_align_celeba"
PNG_FOLDER: Final = "img_align_celeba_png"
HQ_ATTRIBUTES_FILE: Final = "CelebAMask-HQ-attribute-anno.txt"
HQ_IMAGES_FOLDER: Final = "CelebA-HQ-img"
_KEYS: Final = ("image_id", "image", "filename")
_VALUES: Final = {"1": 1, "-1": 0}


def read_celeba(
    root: Path,
    images: Path | None = None,
    attributes: Path | None = None,
    split_file: Path | None = None,
    *,
    schema: AttributeSchema | None = None,
    missing: OnMissing = "fail",
) -> FaceSet:
    """Read CelebA; labels and splits are joined by image name, never by row number.

    Args:
        root: folder with `img_align_celeba/`, `list_attr_celeba.txt` and
            `list_eval_partition.txt`, each either right there or in the official
            subfolder `Img`, `Anno` or `Eval`; the lists may also be CSV files whose first
            column is `image_id`, and the pictures one folder of the same name deeper. Or that of
            CelebAMask-HQ, with `CelebA-HQ-img/` and `CelebAMask-HQ-attribute-anno.txt`.
        images, attributes, split_file: where pictures, labels and partition are instead.
        schema: order of the labels; the file's own by default.
        missing: what to do with rows whose image is not there.

    Returns:
        All faces in the order of the attribute file, labels 1 and 0, splits by partition
        (0 train, 1 val, 2 test); with the group `identity` where `identity_CelebA.txt` lies
        beside the attribute file. CelebAMask-HQ has no partition: without `split_file` all its
        splits are None.

    Raises:
        DataError: for any row that does not fit, naming file and line.
    """
    attributes = attributes or _attributes_file(root)
    high = attributes.name == HQ_ATTRIBUTES_FILE
    partition = split_file or _place(root, "Eval", PARTITION_FILE)
    names, book, labels = _read_attributes(attributes)
    splits: tuple[str | None, ...] = (None,) * len(book.place)
    if split_file is not None or not high or partition.is_file():
        splits = _join_splits(book, _read_partition(partition), partition)
    groups = _read_identities(_place(attributes.parent, "", IDENTITY_FILE), book)
    table = LabelTable(attributes, names, book.names, book.places, labels, splits, groups=groups)
    return assemble(table, images or _images_folder(root, book.names, high), schema, missing)


def is_celeba(root: Path) -> bool:
    """Tell whether the attribute list of CelebA or CelebAMask-HQ lies in a folder."""
    return _attributes_file(root).is_file()


def _attributes_file(root: Path) -> Path:
    own, high = _place(root, "Anno", ATTRIBUTES_FILE), root / HQ_ATTRIBUTES_FILE
    return high if high.is_file() and not own.exists() else own


def _place(root: Path, subfolder: str, name: str) -> Path:
    """Return where a list is: right in `root` or in its subfolder, as text or CSV."""
    places = [
        folder / file
        for folder in (root, root / subfolder)
        for file in (name, f"{Path(name).stem}.csv")
    ]
    return next((place for place in places if place.exists()), places[0])


def _images_folder(root: Path, names: tuple[str, ...], high: bool) -> Path:
    kinds = (HQ_IMAGES_FOLDER,) if high else (IMAGES_FOLDER, PNG_FOLDER)
    for folder in (place / kind for kind in kinds for place in (root, root / "Img")):
        if folder.is_dir():
            inner = folder / folder.name
            nested = inner.is_dir() and bool(names) and not (folder / names[0]).exists()
            return inner if nested else folder
    return root / kinds[0]


def _read_attributes(path: Path) -> tuple[tuple[str, ...], NameBook, np.ndarray]:
    if path.suffix.lower() == ".csv":
        return _read_attribute_table(path)
    lines = read_lines(path)
    count_line, count = next(lines, (0, ""))
    header_line, header = next(lines, (0, ""))
    if not count_line or not header_line:
        raise DataError(f"{path}: expected a count, a line of attribute names and rows.")
    if not count.strip().isdecimal():
        raise DataError(f"{path}, line {count_line}: expected the number of rows, found '{count}'.")
    attributes = tuple(header.split())
    reject_repeats(f"{path}, line {header_line}", attributes)
    book, values = NameBook(path), bytearray()
    for line, text in lines:
        name, *fields = text.split()
        book.add(name, line)
        values += _row(path, line, attributes, fields)
    if int(count) != len(book.place):
        raise DataError(
            f"{path}: line {count_line} says {int(count)} rows, but there are {len(book.place)}; "
            "the file is cut short or the count is wrong."
        )
    return attributes, book, _as_labels(values, book, attributes)


def _read_attribute_table(path: Path) -> tuple[tuple[str, ...], NameBook, np.ndarray]:
    table = CsvTable(path)
    _check_key(table)
    attributes = tuple(table.header[1:])
    for column in attributes:
        if no_attribute(column):
            raise DataError(
                f"{path}, line {table.line}: '{column}' is no attribute; take the column out, or "
                f"open the file as csv:{path}."
            )
    book, values, codes = NameBook(path), bytearray(), Codes(_VALUES)
    for line, row in table:
        book.add(row[0], line)
        values += _row(path, line, attributes, row[1:], codes)
    return attributes, book, _as_labels(values, book, attributes)


def _check_key(table: CsvTable) -> None:
    if table.header[0].lower() not in _KEYS:
        raise DataError(
            f"{table.path}, line {table.line}: the first column is '{table.header[0]}', not "
            f"'{_KEYS[0]}'; begin each row with the name of its image."
        )


def _as_labels(values: bytearray, book: NameBook, attributes: tuple[str, ...]) -> np.ndarray:
    return np.frombuffer(values, dtype=np.int8).reshape(len(book.place), len(attributes))


def _row(
    path: Path,
    line: int,
    attributes: tuple[str, ...],
    fields: list[str],
    codes: Mapping[str, int] = _VALUES,
) -> bytes:
    if len(fields) != len(attributes):
        raise DataError(
            f"{path}, line {line}: expected {len(attributes)} values after the image name, "
            f"found {len(fields)}."
        )
    try:
        return bytes(map(codes.__getitem__, fields))
    except KeyError:
        raise wrong_value(path, line, attributes, fields, codes, _VALUES) from None


def _read_partition(path: Path) -> dict[str, tuple[str, int]]:
    book, splits = NameBook(path), {}
    codes = {str(code): split for code, split in enumerate(SPLITS)}
    for line, fields in _pairs(path, "0, 1 or 2"):
        if fields[1] not in codes:
            raise DataError(
                f"{path}, line {line}: unknown partition '{fields[1]}'; "
                "use 0 (train), 1 (val) or 2 (test)."
            )
        splits[book.add(fields[0], line)] = codes[fields[1]], line
    if not splits:
        raise DataError(f"{path}: the file is empty.")
    return splits


def _read_identities(path: Path, book: NameBook) -> dict[str, tuple[str, ...]]:
    """Return the group `identity` of the images in `book`, empty for one that is not listed."""
    if not path.is_file():
        return {}
    identities, listed = {}, NameBook(path)
    for line, fields in _pairs(path, "an identity"):
        identities[listed.add(fields[0], line)] = fields[1]
    return {IDENTITY: tuple(identities.get(name, "") for name in book.place)}


def _pairs(path: Path, what: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, [image name, value]) of a list of two columns."""
    if path.suffix.lower() == ".csv":
        table = CsvTable(path)
        _check_key(table)
        rows: Iterable[tuple[int, list[str]]] = table
    else:
        rows = ((line, text.split()) for line, text in read_lines(path))
    for line, fields in rows:
        if len(fields) != 2:
            raise DataError(
                f"{path}, line {line}: expected an image name and {what}, found "
                f"'{' '.join(fields)}'."
            )
        yield line, fields


def _join_splits(
    book: NameBook, splits: dict[str, tuple[str, int]], partition: Path
) -> tuple[str | None, ...]:
    unsplit = [name for name in book.place if name not in splits]
    if unsplit:
        raise DataError(
            f"{len(unsplit)} images of {book.path} are not in {partition}, the first is "
            f"'{unsplit[0]}' (line {book.place[unsplit[0]]})"
            f"{alike(unsplit[0], splits)}; give each image a partition."
        )
    unlabelled = [name for name in splits if name not in book.place]
    if unlabelled:
        raise DataError(
            f"{len(unlabelled)} images of {partition} are not in {book.path}, the first is "
            f"'{unlabelled[0]}' (line {splits[unlabelled[0]][1]})"
            f"{alike(unlabelled[0], book.place)}; give each image its labels."
        )
    return tuple(splits[name][0] for name in book.place)


CELEBA: Final = Adapter(
    name="celeba",
    read=read_celeba,
    options=("images", "split_file", "schema_file", "on_missing"),
    labels="1 / -1",
    splits="train, val, test by the partition file; CelebAMask-HQ: by `split_file`, else none",
    layout="""\
celeba/                           each entry here, or in Img/, Anno/ and Eval/ as published
  img_align_celeba/000001.jpg ...
  list_attr_celeba.txt
  list_eval_partition.txt
  identity_CelebA.txt             optional
                                  or the .csv files of the copy on Kaggle, and its nested folder
CelebAMask-HQ/                    is read as celeba, too
  CelebA-HQ-img/0.jpg ...
  CelebAMask-HQ-attribute-anno.txt
""",
    fits=is_celeba,
)
