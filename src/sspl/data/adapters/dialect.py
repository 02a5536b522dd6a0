"""How a text file is written: its encoding, what separates its fields, columns without a name."""

import codecs
import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from sspl.data.adapters.blocks import Block, Grid, Row
from sspl.domain.attributes import plain_name
from sspl.errors import DataError
from sspl.io.files import plain_cell

if TYPE_CHECKING:
    from _csv import Reader

SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}

_CHANGED: Final = re.compile(r"[\s']|\./")
"""What a field has that `strip` or `plain_cell` changes."""

_BLOCK: Final = 2**20
"""Characters that are looked at together."""

_ODD: Final = tuple("\"' \t\r\0\x0b\x0c\x1c\x1d\x1e\x1f")
"""Characters of lines that are not simply cut at the separators: quotes, blanks, ends of lines."""

_SNIFFED: Final = 4096
_KEYS: Final = frozenset({"image", "name", "filename", "image_id"})
_QUOTED: Final = re.compile(r'"[^"]*"')
_DECLARED: Final = re.compile(r'"?sep=(.)"?[,;\t|"]*\s*', re.IGNORECASE)
_UNNAMED: Final = re.compile(r"(unnamed: ?\d+.*)?", re.IGNORECASE)
_WHOLE: Final = re.compile(r"-?\d+(\.0)?")
_MOST_HEADER_LINES: Final = 1000

_NO_TEXT: Final = {
    b"PK\x03\x04": "an Excel workbook or another archive",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "a gzip archive",
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
}


def is_unnamed(column: str) -> bool:
    """Tell whether a column has no name, or the one that pandas gives to such a column."""
    return _UNNAMED.fullmatch(column) is not None


@contextmanager
def open_text(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a text file of UTF-8, or of UTF-16 with a byte order mark.

    Raises `DataError` for a file that cannot be read or is no such text, naming what it is or
    the line.
    """
    encoding = "utf-8-sig"
    try:
        with path.open("rb") as start:
            encoding = _encoding(path, start.read(_SNIFFED))
        with path.open(encoding=encoding, newline=newline) as file:
            yield file
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except UnicodeError:
        if encoding == "utf-16":
            raise DataError(f"{path}: not UTF-16 all through; save it as UTF-8.") from None
        raise DataError(
            f"{path}, line {_undecodable_line(path)}: not UTF-8 text, perhaps Latin-1 or "
            "Windows-1252 as Excel's plain CSV is; save it as UTF-8 ('CSV UTF-8' in Excel)."
        ) from None


def _encoding(path: Path, start: bytes) -> str:
    for magic, kind in _NO_TEXT.items():
        if start.startswith(magic):
            raise DataError(f"{path}: is {kind}; save it as CSV text in UTF-8.")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in start:
        raise DataError(
            f"{path}: is no UTF-8 text, perhaps UTF-16 without a byte order mark; save it as UTF-8."
        )
    return "utf-8-sig"


def _undecodable_line(path: Path) -> int:
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return before.count(b"\n") + 1
    return 1


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, line without its end) of a text file, blank lines left out."""
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.rstrip("\n")


class CsvTable:
    """A CSV file that is read row by row.

    A byte order mark, any line ends and quotes are understood, as are Excel's line `sep=` and
    fields that semicolons, tabs or bars separate. Blank lines are left out, blanks around fields
    stripped, and names of columns taken as they look (`plain_name`). A column without a name is
    read over where it is empty, and where it stands first and holds whole numbers: pandas writes
    its row numbers so.

    Attributes:
        path, line: the file, and where its header starts.
        header: names of the columns.
        separator: what stands between fields.
        unnamed: places, from 1, of the columns without a name.

    Raises:
        DataError: for an empty file, one whose separator cannot be told, and a column listed
            twice; while rows are read, for one that has many fields as the header, a
            field in a column without a name, and broken quotes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line = 0
        self.separator = ","
        self.unnamed: list[int] = []
        pieces = self._read()
        first = next(pieces)
        assert not isinstance(first, Block)
        self.line, columns = next(first, (0, []))
        if not columns:
            raise DataError(f"{path}: the file holds empty fields alone.")
        columns = list(map(plain_name, columns))
        self._columns = columns
        self._named = [i for i, column in enumerate(columns) if not is_unnamed(column)]
        self.header = [columns[i] for i in self._named]
        self.unnamed = [i + 1 for i, column in enumerate(columns) if is_unnamed(column)]
        reject_repeats(f"{path}, line {self.line}", self.header)
        self._pieces = chain([first], pieces)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Yield (line where the row starts, fields) of the rows below the header."""
        for piece in self._pieces:
            yield from self._all_fitted(piece.rows() if isinstance(piece, Block) else piece)

    def pieces(self) -> Iterator[tuple[Grid | None, Iterator[Row]]]:
        """Yield what `__iter__` does in larger pieces: rows, and a grid of them where there is one.

        Either is to be read, rows to their end, before the next piece.
        """
        for piece in self._pieces:
            if isinstance(piece, Block):
                grid = None if self.unnamed else piece.grid(len(self._columns))
                yield grid, self._all_fitted(piece.rows())
            else:
                yield None, self._all_fitted(piece)

    def _all_fitted(self, rows: Iterator[Row]) -> Iterator[Row]:
        plain = not self.unnamed
        for line, row in rows:
            if plain and len(row) == len(self._columns):
                yield line, row
            else:
                yield line, self._fitted(line, row, self._columns, self._named)

    def _read(self) -> Iterator[Block | Iterator[Row]]:
        with open_text(self.path, newline="") as file:
            before, header = self._start(file)
            yield from self._cut(file, before, header)

    def _cut(self, file: TextIO, before: int, header: list[str]) -> Iterator[Block | Iterator[Row]]:
        """Yield the rows: many lines at a time where nothing in them asks for more."""
        if sum(text.count('"') for text in header) % 2:
            # A quoted field goes on below, as far as anybody knows.
            yield self._split(self._reader(chain(header, file)), before)
            return
        yield self._split(self._reader(header), before)
        line = before + len(header)
        while lines := file.readlines(_BLOCK):
            block = "".join(lines).replace("\r\n", "\n")
            if _is_simple(block, self.separator):
                yield Block(block, self.separator, line + 1)
            elif '"' in block:
                # A quoted field may go on in the lines to come.
                yield self._split(self._reader(chain(lines, file)), line)
                return
            else:
                yield self._split(self._reader(lines), line)
            line += len(lines)

    def _reader(self, lines: Iterable[str]) -> "Reader":
        return csv.reader(lines, delimiter=self.separator, strict=True)

    def _start(self, file: TextIO) -> tuple[int, list[str]]:
        """Find the separator; return how many lines the header is below, and its lines."""
        header: list[str] = []
        before, declared = 0, None
        for line in file:
            if not header and declared is None and (found := _DECLARED.fullmatch(line)):
                declared = found[1]
            elif header or line.strip(" ,;\t|\r\n"):
                header.append(line)
                if sum(text.count('"') for text in header) % 2 == 0:
                    break
                if len(header) == _MOST_HEADER_LINES:
                    break
                continue
            before += 1
        if not header:
            raise DataError(f"{self.path}: the file is empty.")
        self.separator = _separator(f"{self.path}, line {before + 1}", "".join(header), declared)
        return before, header

    def _split(self, reader: "Reader", before: int) -> Iterator[tuple[int, list[str]]]:
        while True:
            line = before + reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(f"{self.path}, line {line}: not a CSV row ({error}).") from error
            fields = row
            # A file may have millions of rows, and hardly one has a field that these two change.
            if _CHANGED.search(",".join(row)):
                fields = [plain_cell(field.strip()) for field in row]
            if any(fields):
                yield line, fields

    def _fitted(
        self, line: int, row: list[str], columns: Sequence[str], named: Sequence[int]
    ) -> list[str]:
        """Return the fields of the columns that have a name."""
        needed = named[-1] + 1 if named else 0
        if len(row) < needed or any(row[len(columns) :]):
            raise DataError(
                f"{self.path}, line {line}: expected {needed} fields as in the header, "
                f"found {len(row)}."
            )
        for i, (column, field) in enumerate(zip(columns, row, strict=False)):
            leading = named and i < named[0]
            if is_unnamed(column) and field and not (leading and _WHOLE.fullmatch(field)):
                raise DataError(
                    f"{self.path}, line {line}: column {i + 1} has no name, but '{field}' stands "
                    "in it; give it one in the header, or take it out."
                )
        return [row[i] for i in named]


def _is_simple(block: str, separator: str) -> bool:
    """Tell that fields of these lines are what stands between separators and line ends."""
    odd = any(sign in block for sign in _ODD if sign != separator)
    return block.isascii() and not odd and "./" not in block


def _separator(where: str, header: str, declared: str | None) -> str:
    bare = _QUOTED.sub("", header)
    found = [separator for separator in SEPARATORS if separator in bare]
    if declared is not None:
        if declared not in SEPARATORS or (found and declared not in found):
            raise DataError(
                f"{where}: the line above says that {declared!r} separates fields, but the header "
                f"has {_in_words(found)}; take the line sep= out."
            )
        return declared
    if len(found) < 2:
        return found[0] if found else ","
    with_key = [separator for separator in found if _KEYS & set(_names(header, separator))]
    if len(with_key) == 1:
        return with_key[0]
    if "," in found and not with_key:
        return ","
    raise DataError(
        f"{where}: fields may be separated by {_in_words(found)}; put names that hold one of "
        "them in quotes."
    )


def _in_words(separators: Sequence[str]) -> str:
    return " or ".join(SEPARATORS[separator] for separator in separators) or "one field"


def _names(header: str, separator: str) -> list[str]:
    return [name.strip(' "\r\n').lower() for name in header.split(separator)]


def read_csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line where the row starts, fields) of a CSV file, the header first; see `CsvTable`."""
    table = CsvTable(path)
    yield table.line, table.header
    yield from table


def reject_repeats(where: str, columns: Sequence[str]) -> None:
    """Raise `DataError`, beginning with `where`, for a column without name or named twice."""
    seen: set[str] = set()
    for column in columns:
        if not column:
            raise DataError(f"{where}: a column has no name; give it one.")
        if column in seen:
            raise DataError(f"{where}: column '{column}' is there twice; keep one.")
        seen.add(column)
