"""Answers on disk: a journal that loses nothing, and the CSV file made from it.

Every answer is one line of JSON at the end of the journal, on the disk before it is acknowledged.
The CSV file is made anew from the journal after each. What a line says is never changed: taking
an answer back is a line of its own.
"""

import json
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from sspl.data.adapters.dialect import CsvTable, read_csv
from sspl.data.adapters.table import IMAGE, SPLIT, UnknownValue, label_columns, read_table
from sspl.data.inputs import Stamp
from sspl.data.records import MISSING
from sspl.errors import DataError, SsplError
from sspl.io.files import AS_BYTES, parse_json, remove_leftovers, write_csv
from sspl.io.json_lines import whole_lines
from sspl.io.locks import lock_of, locked

SUFFIX: Final = ".journal"
FORMAT: Final = "sspl labels 1"

Values = Mapping[str, int | None]
"""Attribute to 1 (yes), 0 (no) or None (not sure)."""


class ChangedError(SsplError):
    """An answer cannot be taken back, because a later one stands over it."""


class Book:
    """The answers that stand, as the lines of a journal add up to.

    Attributes:
        attributes: columns, in order.
        splits: face to its split, for faces that came with one or are held out for the test.
        dealt: whether faces are held out here, so that all have a split.
        columns: those of the file that came, in its order.
        kept: face to its fields in columns that are no attributes, as they came.
        last: number of the last answer that stands; None before the first.
    """

    def __init__(self) -> None:
        self.attributes: list[str] = []
        self.splits: dict[str, str] = {}
        self.dealt = False
        self._held_out: set[str] = set()
        self.columns: list[str] = []
        self.kept: dict[str, dict[str, str]] = {}
        self._stacks: dict[str, dict[str, list[tuple[int, int | None]]]] = {}
        self._given: dict[int, tuple[str, tuple[str, ...]]] = {}
        self._stamps: dict[int, Stamp] = {}

    @property
    def images(self) -> tuple[str, ...]:
        """Faces with an answer, or that came with a file, in the order of their first."""
        return tuple(self._stacks)

    @property
    def last(self) -> int | None:
        """Number of the last answer that can be taken back."""
        return next(reversed(self._given), None)

    def values(self, image: str) -> dict[str, int | None]:
        """Return the answers for a face; an attribute without one is left out."""
        stacks = self._stacks.get(image, {})
        return {name: stack[-1][1] for name, stack in stacks.items() if stack}

    def stamps(self, image: str) -> dict[str, Stamp]:
        """Return for each attribute of a face the picture that its answer was given for.

        Answers that came with a file, or are of an older version, have none.
        """
        stacks = self._stacks.get(image, {})
        tops = {name: stack[-1][0] for name, stack in stacks.items() if stack}
        return {name: self._stamps[top] for name, top in tops.items() if top in self._stamps}

    def apply(self, number: int, record: Mapping[str, Any]) -> tuple[str, ...]:
        """Take line `number` into account; return the faces that it is about.

        Raises `KeyError`, `TypeError`, `ValueError` or `ChangedError` for a line that makes no
        sense.
        """
        if "undo" in record:
            return (self._undo(int(record["undo"])),)
        self._add_columns(record.get("attributes", ()))
        self.columns += [str(column) for column in record.get("columns", ())]
        if record.get("dealt"):
            self.dealt = True
            return tuple(self._stacks)
        if "import" in record:
            return tuple(self._import(number, row) for row in record["import"])
        if "image" not in record:
            return ()
        image, values = str(record["image"]), checked(record["values"])
        if not values:
            raise ValueError("no values")
        self._put(number, image, values)
        self._given[number] = (image, tuple(values))
        if stamp := Stamp.parsed(record.get("of")):
            self._stamps[number] = stamp
        if "split" in record and image not in self.splits:
            self.splits[image] = str(record["split"])
            self._held_out.add(image)
        return (image,)

    def _import(self, number: int, row: Mapping[str, Any]) -> str:
        image = str(row["image"])
        self._put(number, image, checked(row["values"]))
        if "split" in row:
            self.splits[image] = str(row["split"])
        if "kept" in row:
            self.kept[image] = {str(c): str(v) for c, v in row["kept"].items()}
        return image

    def _put(self, number: int, image: str, values: Values) -> None:
        self._add_columns(values)
        stacks = self._stacks.setdefault(image, {})
        for name, value in values.items():
            stacks.setdefault(name, []).append((number, value))

    def answer(self, number: int) -> tuple[str, tuple[str, ...]]:
        """Return the face and the attributes of an answer that can be taken back.

        Raises `ChangedError` when there is none, or a later answer stands over it.
        """
        if number not in self._given:
            raise ChangedError("this answer was taken back already.")
        image, names = self._given[number]
        if any(self._stacks[image][name][-1][0] != number for name in names):
            raise ChangedError("this face was answered again since, perhaps in another tab.")
        return image, names

    def _undo(self, number: int) -> str:
        image, names = self.answer(number)
        for name in names:
            self._stacks[image][name].pop()
        del self._given[number]
        came = image in self.splits.keys() - self._held_out or image in self.kept
        if not came and not any(self._stacks[image].values()):
            del self._stacks[image]
            if image in self._held_out:
                self._held_out.remove(image)
                del self.splits[image]
        return image

    def _add_columns(self, names: Any) -> None:
        self.attributes += [str(name) for name in names if name not in self.attributes]

    def row(self, image: str) -> dict[str, str] | None:
        """Return the fields of a face that are not empty; None where it has no row."""
        if image not in self._stacks:
            return None
        fields = {n: str(v) for n, v in self.values(image).items() if v is not None}
        # New faces in a file with splits are there to be learnt from.
        split = self.splits.get(image, "train") if self.splits or self.dealt else ""
        return self.kept.get(image, {}) | fields | ({SPLIT: split} if split else {})

    def header(self) -> list[str]:
        """Return the columns of the CSV file: those that came, then those added since."""
        ours = (IMAGE, *((SPLIT,) if self.splits or self.dealt else ()), *self.attributes)
        return list(dict.fromkeys([*self.columns, *ours]))


def checked(values: Any) -> dict[str, int | None]:
    """Return answers as they should be; raise `ValueError` for others."""
    if not isinstance(values, dict):
        raise ValueError("no values")
    for name, value in values.items():
        if value not in (0, 1, None) or isinstance(value, (bool, float)) or not name:
            raise ValueError(f"{name}: {value}")
    return dict(values)


class LabelJournal:
    """The open journal of one CSV file; one process at a time, any number of threads.

    Args:
        out: the CSV file; the journal stands beside it.
        attributes: columns that it is to have, after those that it has.
        images: gives the folder of the faces, for a CSV file that was there before.
        unknown: as in `read_table`, for such a file.
        dealt: whether faces are to be held out for the test, see `answer`.

    Raises:
        DataError: for a journal or CSV file that cannot be used, naming the line.
        SsplError: when another process has it open, or it cannot be written.
    """

    def __init__(
        self,
        out: Path,
        attributes: tuple[str, ...],
        images: Callable[[], Path],
        unknown: UnknownValue | None = None,
        dealt: bool = False,
    ) -> None:
        self.out = out
        self.path = out.with_name(out.name + SUFFIX)
        self.book = Book()
        self.trouble: str | None = None
        self._lock = threading.Lock()
        self._held = ExitStack()
        self._ours: tuple[int, int] | None = None
        self._file = -1
        self._claim()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | AS_BYTES
        try:
            self._file = os.open(self.path, flags, 0o666)
        except OSError as error:
            self._held.close()
            raise SsplError(f"cannot open {self.path}: {error.strerror or error}.") from error
        try:
            remove_leftovers(out.parent, out.name)
            disk = _rows_of(out)
            self._lines = self._replay(disk)
            if not self._lines:
                self._append({"sspl": FORMAT})
            if self._lines == 1 and disk:
                self._append(_imported(out, images(), unknown))
            self._reject_kept(attributes)
            if set(attributes) - set(self.book.attributes):
                self._append({"attributes": list(attributes)})
            if dealt and not self.book.dealt:
                self._append({"dealt": True})
            self._write_csv()
            if self.trouble:
                raise SsplError(self.trouble)
        except BaseException:
            self.close()
            raise

    def _reject_kept(self, attributes: tuple[str, ...]) -> None:
        for name in set(self.book.columns) - set(self.book.attributes):
            if name in attributes:
                raise DataError(
                    f"{self.out}: column '{name}' holds something else than labels; ask for an "
                    "attribute of another name, or choose another --out."
                )

    def close(self) -> None:
        """Give the journal free for others."""
        with self._lock:
            if self._file < 0:
                return
            size = os.fstat(self._file).st_size
            os.close(self._file)  # first, since Windows removes no open file
            if not size:
                self.path.unlink(missing_ok=True)
            self._file = -1
            self._held.close()

    def answer(
        self, image: str, values: Values, of: Stamp | None = None, split: str | None = None
    ) -> int:
        """Save answers for a face; return their number once they are on the disk.

        `of` is the picture that they were given for, where that is known; `split` that of a face
        which is held out, unless it came with one. Raises `SsplError` when
        they could not be saved; then nothing has changed.
        """
        with self._lock:
            picture = {} if of is None else {"of": of.as_json()}
            dealt = {} if split is None else {"split": split}
            record = {"image": image, "values": checked(dict(values))}
            number = self._append(record | picture | dealt)
            self._write_csv()
            return number

    def undo(self, number: int | None = None) -> tuple[str, tuple[str, ...]]:
        """Take an answer back, the last one unless given; return its face and attributes.

        Raises `ChangedError` when it cannot be taken back, `SsplError` when that could not be
        saved.
        """
        with self._lock:
            number = self.book.last if number is None else number
            if number is None:
                raise ChangedError("there is no answer to take back.")
            found = self.book.answer(number)
            self._append({"undo": number})
            self._write_csv()
            return found

    def last(self) -> int | None:
        """Return the number of the last answer that can be taken back; None without one."""
        with self._lock:
            return self.book.last

    def values(self, image: str) -> dict[str, int | None]:
        """Return the answers for a face."""
        with self._lock:
            return self.book.values(image)

    def images(self) -> tuple[str, ...]:
        """Return the faces that have a row, in the order of their first answer."""
        with self._lock:
            return self.book.images

    def stamps(self, image: str) -> dict[str, Stamp]:
        """Return the pictures that the answers for a face were given for; see `Book`."""
        with self._lock:
            return self.book.stamps(image)

    def splits(self) -> dict[str, str]:
        """Return the split of each face that came with one."""
        with self._lock:
            return dict(self.book.splits)

    def snapshot(self) -> dict[str, dict[str, int | None]]:
        """Return the answers of every face that has a row."""
        with self._lock:
            return {image: self.book.values(image) for image in self.book.images}

    def _claim(self) -> None:
        if not self._held.enter_context(locked(lock_of(self.out))):
            raise SsplError(
                f"{self.out} is being labelled by another 'sspl label'; use that one, or choose "
                "another --out."
            ) from None

    def _replay(self, disk: dict[str, dict[str, str]] | None) -> int:
        """Read the journal, forget a line that was cut short, and return the number of lines.

        The CSV file must be what the journal made of it at some time; a crash may have kept the
        last answers from it.
        """
        with self.path.open("rb") as file:
            lines = list(whole_lines(file))
            size = file.seek(0, os.SEEK_END)
        differ = set(disk or {})
        agreed = not differ or len(lines) < 2
        for number, line in enumerate(lines, 1):
            record = _parsed(line)
            try:
                if record is None or (number == 1 and record["sspl"] != FORMAT):
                    raise ValueError(line)
                touched = self.book.apply(number, record)
            except (ValueError, KeyError, TypeError, AttributeError, ChangedError):
                raise DataError(
                    f"{self.path}, line {number}: damaged; put a copy of the file back, or remove "
                    f"it to go on from {self.out.name} alone."
                ) from None
            for image in touched:
                same = disk is None or self.book.row(image) == disk.get(image)
                (differ.discard if same else differ.add)(image)
            agreed = agreed or not differ
        if not agreed:
            raise DataError(
                f"{self.out} was changed by something else than 'sspl label' (face "
                f"'{min(differ)}'); remove {self.path.name} beside it to go on from the CSV file "
                "as it is, or remove the CSV file to have it made again from the answers."
            )
        if (whole := sum(map(len, lines))) < size:
            os.truncate(self.path, whole)
        return len(lines)

    def _append(self, record: Mapping[str, Any]) -> int:
        """Write one line, whole or not at all, and take it into account."""
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) < len(line):
                raise OSError(None, "no space left")
            os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, size)
            raise SsplError(
                f"the answer was not saved: cannot write {self.path.name} "
                f"({error.strerror or error}); free some space and answer again."
            ) from error
        self._lines += 1
        self.book.apply(self._lines, record)
        return self._lines

    def _write_csv(self) -> None:
        """Make the CSV file anew; trouble with it is noted, for the answers are safe."""
        if self._ours is not None and _signature(self.out) != self._ours:
            self.trouble = (
                f"{self.out.name} was changed by another program and is left as it is; your "
                f"answers are kept in {self.path.name}."
            )
            return
        book, header = self.book, self.book.header()
        rows = ({IMAGE: image} | (book.row(image) or {}) for image in book.images)
        try:
            write_csv(self.out, header, ([row.get(column) for column in header] for row in rows))
        except SsplError as error:
            self.trouble = f"your answers are kept in {self.path.name}, but {error}"
            return
        self._ours, self.trouble = _signature(self.out), None


def _signature(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = parse_json(line.decode())
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _imported(out: Path, images: Path, unknown: UnknownValue | None) -> dict[str, Any]:
    """Return the line of a journal that takes over a CSV file.

    Columns that hold no labels are kept as they are.
    """
    kept = label_columns(out)[1]
    table = read_table(out, images, ignore=kept, unknown=unknown)
    names, has_splits = table.schema.names, any(split is not None for split in table.splits)
    rows: list[dict[str, Any]] = []
    for face, fields in zip(table, (_rows_of(out) or {}).values(), strict=True):
        labels = (None if label == MISSING else int(label) for label in face.labels)
        rows.append({"image": face.name, "values": dict(zip(names, labels, strict=True))})
        if has_splits:
            rows[-1]["split"] = face.split or ""
        if kept:
            rows[-1]["kept"] = {name: fields[name] for name in kept if name in fields}
    found: dict[str, Any] = {"attributes": list(names), "import": rows}
    return found | {"columns": CsvTable(out).header} if kept else found


def _rows_of(out: Path) -> dict[str, dict[str, str]] | None:
    """Return the fields of each face of a CSV file that are not empty; None without a file."""
    if not out.exists():
        return None
    rows = read_csv(out)
    line, header = next(rows)
    if IMAGE not in header:
        raise DataError(f"{out}, line {line}: no column '{IMAGE}'; choose another --out.")
    found = {}
    for _, row in rows:
        fields = dict(zip(header, row, strict=True))
        image = fields.pop(IMAGE)
        found[image] = {name: value for name, value in fields.items() if value}
    return found
