"""Results kept picture by picture while a prediction runs, so that an interrupted one goes on."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sspl.errors import DataError, SsplError
from sspl.io.json_lines import record_of, whole_lines

HEADER: Final = "prediction"

log = logging.getLogger(__name__)

Entry = dict[str, Any]
Kept = Callable[[Iterator[Entry]], int]
"""Returns how many entries, from the first, are of what is looked at now."""


class PredictionJournal:
    """A file beside the result with a line for each picture, removed when the result is there.

    Args:
        out: file of the result.
        identity: JSON values, by a word for each, that tell this prediction from others; what
            another one left is thrown away.
        anew: throw away what this one left, too.
        kept: looks at what was noted; the rest is looked at again.
    """

    def __init__(
        self, out: Path, identity: Mapping[str, Any], anew: bool = False, kept: Kept | None = None
    ) -> None:
        self.anew, self.identity, self.kept = anew, identity, kept
        self.path = out.with_name(f".{out.name}.partial")
        self.header = json.dumps({HEADER: identity}, sort_keys=True)
        self.done = 0
        self._waiting: list[str] = []

    def __enter__(self) -> Self:
        end = self._end_of_whole_lines()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("r+" if end else "w", encoding="utf-8", newline="\n")
            self._file.seek(end)
            self._file.truncate()
        except OSError as error:
            raise self._unwritable(error) from error
        if not end:
            self._write(self.header)
            self.flush()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            # Tries again to write what could not be written.
            self._file.close()
        except OSError as failed:
            if kind is None:
                raise self._unwritable(failed) from failed
        # Nothing is in it that the next one could go on from.
        if kind is not None and (self.anew or not self.done):
            self.remove()

    def _end_of_whole_lines(self) -> int:
        """Count the lines of an earlier run of this prediction; return where they end, else 0."""
        if self.anew or not self.path.exists():
            return 0
        ends = [0]
        with self.path.open("rb") as file:
            for number, line in enumerate(whole_lines(file)):
                if number == 0 and line.decode("utf-8", "replace").rstrip("\n") != self.header:
                    log.warning(
                        "%s is of a prediction with another %s; all pictures are looked at again.",
                        self.path,
                        self._other(line),
                    )
                    return 0
                ends.append(ends[-1] + len(line))
        if len(ends) == 1:
            return 0
        self.done = len(ends) - 2
        if self.kept is not None:
            self.done = self.kept(islice(self.entries(), self.done))
        return ends[self.done + 1]

    def _other(self, line: bytes) -> str:
        try:
            there = json.loads(line)[HEADER]
            return next(key for key, value in self.identity.items() if there[key] != value)
        except (ValueError, KeyError, TypeError, StopIteration):
            return "version of sspl"

    def add(self, entry: Entry) -> None:
        """Note what was found on the next picture."""
        self._write(json.dumps(entry))
        self.done += 1

    def flush(self) -> None:
        """Hand what was noted to the operating system, at once.

        So a kill between two calls leaves what the batches before it gave, and a run that goes on
        forms the batches that an undisturbed one does.
        """
        try:
            self._file.write("".join(self._waiting))
            self._file.flush()
            self._waiting.clear()
        except OSError as error:
            raise self._unwritable(error) from error

    def entries(self) -> Iterator[Entry]:
        """Yield what was noted, picture by picture."""
        with self.path.open("rb") as file:
            next(file)
            for number, line in enumerate(file, 2):
                entry = record_of(line)
                if entry is None:
                    raise DataError(
                        f"{self.path}, line {number}: damaged; remove the file to have all "
                        "pictures looked at again."
                    )
                yield entry

    def remove(self) -> None:
        """Throw the file away."""
        self.path.unlink(missing_ok=True)

    def _write(self, line: str) -> None:
        self._waiting.append(f"{line}\n")

    def _unwritable(self, error: OSError) -> SsplError:
        return SsplError(
            f"cannot write {self.path}: {error.strerror or error}; free some space or choose "
            "another --out."
        )
