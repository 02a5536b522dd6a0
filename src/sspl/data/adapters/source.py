"""What the adapters share: reading label files line by line, and finding the images."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np

from sspl.data.adapters.dialect import read_csv
from sspl.data.adapters.lookup import Found, alike, elsewhere, not_present, respelled
from sspl.data.records import MISSING, SPLITS, FaceSet, Labels, PathsBelow
from sspl.domain.attributes import AttributeSchema, attribute_fault, likeness_fault, schema_for
from sspl.errors import DataError
from sspl.io.names import are_plain_names, clean_name, is_plain_name

log = logging.getLogger(__name__)

_ABSOLUTE: Final = re.compile(r"/|\\\\|[A-Za-z]:[/\\]|file:")

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
        fault = attribute_fault(self.attributes) or likeness_fault(self.attributes)
        if fault:
            raise DataError(f"{self.file}: {fault}, or leave its column out.")


class NameBook:
    """Image names of one file in file order, each once.

    Args:
        path: the file, for messages.
        unit: what its places count.
        root: folder of the images; absolute paths that lie in it are taken relative to it.
        settable: whether errors may name settings of the data set.
    """

    def __init__(
        self, path: Path, unit: str = "line", root: Path | None = None, settable: bool = True
    ) -> None:
        self._settable = settable
        self.path = path
        self.root = root
        self._starts = [f"{place}/" for place in (root.absolute(), root.resolve())] if root else []
        self.unit = unit
        self.place: dict[str, int] = {}

    def add(self, raw: str, place: int) -> str:
        """Note a name and return it as a clean relative POSIX path.

        Raises `DataError` when `clean_name` does not take it, or it was there before.
        """
        name = raw if is_plain_name(raw) else self._cleaned(raw, place)
        # One look-up for each of many names; places may be of several files, and so be the same.
        before = len(self.place)
        first = self.place.setdefault(name, place)
        if len(self.place) == before:
            raise DataError(
                f"{self.path}, {self.unit} {place}: image '{name}' was given before, "
                f"in {self.unit} {first}; keep one."
            )
        return name

    def add_all(self, raw: Sequence[str], first: int) -> bool:
        """Note names whose places follow one another; do and return nothing where any is odd.

        Odd are names that `add` would change or refuse.
        """
        if not are_plain_names(raw):
            return False
        new = dict(zip(raw, range(first, first + len(raw)), strict=True))
        if len(new) < len(raw) or not self.place.keys().isdisjoint(new):
            return False
        self.place |= new
        return True

    def _cleaned(self, raw: str, place: int) -> str:
        start = next((start for start in self._starts if raw.startswith(start)), "")
        if self.root is not None and not start and _ABSOLUTE.match(raw):
            other = ", or that folder as images=FOLDER" if self._settable else ""
            raise DataError(
                f"{self.path}, {self.unit} {place}: '{raw}' is an absolute path, but not in "
                f"{self.root}; give paths relative to the folder of images{other}."
            )
        try:
            return clean_name(raw.removeprefix(start))
        except ValueError as error:
            raise DataError(f"{self.path}, {self.unit} {place}: {error}.") from None

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order in which they were added."""
        return tuple(self.place)

    @property
    def places(self) -> tuple[int, ...]:
        """The line or entry of each name."""
        return tuple(self.place.values())


def wrong_value(
    path: Path,
    line: int,
    attributes: Sequence[str],
    values: Sequence[str],
    known: Mapping[str, int],
    allowed: Iterable[str],
    hint: str = "",
) -> DataError:
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
            raise DataError(
                f"{split_file}, line {line}: image '{name}' is not in {labels}{alike(name, names)}."
            )
    return tuple(listed[name][0] if name in listed else None for name in names)


def assemble(
    table: LabelTable,
    images: Path,
    schema: AttributeSchema | None,
    missing: OnMissing,
    settable: bool = True,
) -> FaceSet:
    """Join labels with the images in the folder `images`.

    With a schema, labels come in its order, and attributes that the file has not are
    `MISSING`; without, the schema is made from the file's attributes.

    Images that are there under another spelling of their names are found, see `respelled`; the
    faces then have the names on disk, and the log says so.

    Raises `DataError` for an attribute that the schema has not, and for images that are not
    there (with `missing="skip"` their faces are left out and the log says how many). Without
    `settable` it names no setting of data sets.
    """
    table, there = _on_disk(table, images, missing, settable)
    labels = table.labels
    if schema is None:
        schema = schema_for(table.attributes)
    else:
        labels = _in_schema_order(table, schema)
    faces = FaceSet(
        source=str(table.file),
        schema=schema,
        names=table.names,
        images=PathsBelow(images, table.names),
        masks=(None,) * len(table.names),
        splits=table.splits,
        labels=labels,
        groups=table.groups,
    )
    return faces if len(there) == len(faces) else faces.select(there)


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


def _on_disk(
    table: LabelTable, images: Path, missing: OnMissing, settable: bool
) -> tuple[LabelTable, Sequence[int]]:
    """Return the table with names as the disk spells them, and which of its faces are there."""
    lost = not_present(images, table.names)
    if not lost:
        return table, range(len(table.names))
    absent = [name for name in table.names if name in lost]
    there = {name for name in table.names if name not in lost}
    del lost
    found = respelled(images, absent, there)
    if found:
        table = replace(table, names=_renamed(table, found))
        first = next(iter(found))
        log.warning(
            "%d of %d images named in %s are spelled otherwise in %s, the first is '%s': '%s' is "
            "there, which differs by %s.",
            len(found),
            len(table.names),
            table.file,
            images,
            first,
            found[first].name,
            found[first].how,
        )
        there.update(other.name for other in found.values())
    absent = [name for name in absent if name not in found]
    if absent:
        _refuse_or_remark(table, images, missing, absent, settable)
    return table, [i for i, name in enumerate(table.names) if name in there]


def _renamed(table: LabelTable, found: Mapping[str, Found]) -> tuple[str, ...]:
    names = tuple(found[name].name if name in found else name for name in table.names)
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        if seen.setdefault(name, i) != i:
            before = seen[name]
            raise DataError(
                f"{table.file}, {table.unit} {table.places[i]}: '{table.names[i]}' is the same "
                f"image as '{table.names[before]}' in {table.unit} {table.places[before]}; keep "
                "one."
            )
    return names


def _refuse_or_remark(
    table: LabelTable, images: Path, missing: OnMissing, absent: Sequence[str], settable: bool
) -> None:
    place = table.places[table.names.index(absent[0])]
    problem = (
        f"{len(absent)} of {len(table.names)} images named in {table.file} are not in {images}, "
        f"the first is '{absent[0]}' ({table.unit} {place})"
    )
    if missing == "fail" or len(absent) == len(table.names):
        skip = ", or add on_missing=skip" if settable else ""
        where = elsewhere(images, absent[0], settable) or f"; give the folder of images{skip}"
        raise DataError(f"{problem}{where}.")
    log.warning("%s; these faces are skipped.", problem)
