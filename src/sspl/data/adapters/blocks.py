"""Many rows of a table at once: cut by numpy where nothing in them asks for more than cutting.

A file may have millions of rows of dozens of values. What is odd in any way is not looked at here:
then there is no grid, and whoever reads goes row by row, as for all other rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Row = tuple[int, list[str]]
Places = NDArray[np.int64]

NO_CODE: Final = -1
_LONGEST: Final = 2
"""Characters of the values that are looked up here; longer ones are odd."""


@dataclass(frozen=True)
class Block:
    """Whole lines of ASCII whose fields are what stands between separators.

    Args:
        text: the lines, each with its `\\n` but perhaps the last.
        separator: one character.
        line: number of the first line.
    """

    text: str
    separator: str
    line: int

    def rows(self) -> Iterator[Row]:
        """Yield (line, fields) of the rows; lines without a field are left out."""
        for number, text in enumerate(self.text.split("\n"), self.line):
            if text.strip(self.separator):
                yield number, text.split(self.separator)

    def grid(self, columns: int) -> "Grid | None":
        """Return where each field is; None where a line has not so many of them."""
        text = self.text if self.text.endswith("\n") else f"{self.text}\n"
        signs = np.frombuffer(text.encode("ascii"), np.uint8)
        found = np.flatnonzero((signs == ord(self.separator)) | (signs == ord("\n")))
        if len(found) % columns:
            return None
        ends: Places = found.reshape(-1, columns)
        last = signs[ends] == ord("\n")
        if not last[:, -1].all() or last[:, :-1].any():
            return None
        starts = np.empty_like(ends)
        starts[:, 1:] = ends[:, :-1] + 1
        starts[0, 0], starts[1:, 0] = 0, ends[:-1, -1] + 1
        return Grid(text, signs, starts, ends, self.line)


@dataclass(frozen=True)
class Grid:
    """Where the fields of rows start and end, int64 (rows, columns), in a text and its bytes.

    Row after row is a line of the file, `line` the first.
    """

    text: str
    signs: NDArray[np.uint8]
    starts: Places
    ends: Places
    line: int

    def __len__(self) -> int:
        return len(self.ends)

    def column(self, place: int) -> list[str]:
        """Return the fields of a column."""
        text, bounds = self.text, (self.starts[:, place].tolist(), self.ends[:, place].tolist())
        return [text[start:end] for start, end in zip(*bounds, strict=True)]

    def codes(self, places: Sequence[int] | slice, known: Mapping[str, int]) -> bytes | None:
        """Return a byte for each field of some columns, row by row; None where one has no code."""
        columns = places if isinstance(places, slice) else list(places)
        starts = self.starts[:, columns]
        lengths = self.ends[:, columns] - starts
        if lengths.size and lengths.max() > _LONGEST:
            return None
        keys = np.where(lengths > 0, self.signs[starts], 0).astype(np.uint16)
        long = lengths > 1
        keys[long] += 256 * self.signs[starts[long] + 1].astype(np.uint16)
        table = np.full(2**16, NO_CODE, np.int16)
        for text, code in known.items():
            if len(text) <= _LONGEST and text.isascii():
                table[sum(ord(sign) << 8 * i for i, sign in enumerate(text))] = code
        found = table[keys]
        return None if (found == NO_CODE).any() else found.astype(np.uint8).tobytes()
