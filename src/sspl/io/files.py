"""Atomic writing: a file stands under its final name whole or not at all."""

import csv
import io
import json
import os
import re
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from filelock import lock_descriptor

from sspl.errors import DataError, SsplError

ARCHIVE_DAMAGES: Final = (
    OSError, ValueError, KeyError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
"""What numpy raises for a damaged archive of arrays; RuntimeError where it seems encrypted."""

LOCK_FILE: Final = ".lock"
"""What a process that works on a folder locks in it; for a file it is `.NAME.lock` beside it."""

AS_BYTES: Final[int] = getattr(os, "O_BINARY", 0)
"""Flag of `os.open` by which Windows, too, leaves the ends of lines as they are."""

_LEFTOVER: Final = re.compile(r"\..+\.[a-z0-9_]{1,8}\.tmp", re.DOTALL)
_LOCKS_TELL: Final = os.name != "nt"
"""Whether a locked file can be written and renamed, so that a lock may tell of a living writer."""

_SURELY_DEAD: Final = 24 * 3600.0
"""Seconds after which an unfinished file is nobody's, where locks cannot tell."""

_KINDS: Final = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


@contextmanager
def atomic_path(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds.

    With `previous`, a file that was at `path` is kept there. Raises `SsplError` when the folder
    cannot be written or the disk is full, or something else than a file is at `path`; a file that
    was there before stays as it was.
    """
    require_file_place(path)
    temporary, handle = None, None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = _temporary(path)
        yield temporary
        with temporary.open("r+b") as written:  # Windows has no fsync of what one only reads
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        if previous is not None and path.exists():
            _keep(path, previous)
        if not _LOCKS_TELL:
            os.close(handle)  # an open file cannot be renamed there
            handle = None
        temporary.replace(path)
    except OSError as error:
        raise SsplError(
            f"cannot write {path}: {error.strerror or error}; "
            "free some space or choose another folder."
        ) from error
    finally:
        if handle is not None:
            os.close(handle)
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> tuple[int, Path]:
    """Make an unfinished file; the lock on it tells others that its writer lives."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        if _LOCKS_TELL:
            with suppress(OSError):  # a file system without locks
                lock_descriptor(handle)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # taken for a leftover before it was locked


def require_file_place(path: Path) -> None:
    """Raise `SsplError` when something is at `path` that a file must not take the place of.

    A rename would do so: a device that root writes to would be gone.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no file")
        raise SsplError(f"{path} is {kind}, which is not written over; choose another name.")


def _keep(path: Path, previous: Path) -> None:
    """Give a file a second name, so that there is no moment without it under its own."""
    previous.unlink(missing_ok=True)
    try:
        previous.hardlink_to(path)
    except OSError:  # a file system without hard links
        path.replace(previous)


def remove_leftovers(folder: Path, name: str | None = None, deep: bool = False) -> None:
    """Remove what writers left in a folder that were killed before their file was whole.

    With `name` that of this file alone; with `deep` also in the folders below, hidden ones and
    links left out. Files whose writers live are left to them.
    """
    for place, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".")] if deep else []
        for file in files:
            if _LEFTOVER.fullmatch(file) and (name is None or file.startswith(f".{name}.")):
                _remove_if_left(Path(place, file))


def _remove_if_left(path: Path) -> None:
    with suppress(OSError):
        handle = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            left = _is_left(handle)
            if left and _LOCKS_TELL:
                path.unlink(missing_ok=True)
        finally:
            os.close(handle)
        if left and not _LOCKS_TELL:  # an open file cannot be removed there
            path.unlink(missing_ok=True)


def _is_left(handle: int) -> bool:
    try:
        if _LOCKS_TELL:
            return lock_descriptor(handle, blocking=False)
    except OSError:
        pass
    return time.time() - os.fstat(handle).st_mtime > _SURELY_DEAD


def holds_nothing(folder: Path) -> bool:
    """Tell whether a folder is not there, or has but what processes at work or killed leave."""
    if not folder.exists():
        return True
    return all(p.name == LOCK_FILE or _LEFTOVER.fullmatch(p.name) for p in folder.iterdir())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path` atomically."""
    write_bytes(path, text.encode("utf-8"))


def append_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` at the end of a file; raise `SsplError` where that cannot be done."""
    try:
        with path.open("ab") as file:
            file.write(text.encode())
    except OSError as error:
        raise SsplError(
            f"cannot write {path}: {error.strerror or error}; "
            "free some space and repeat the command."
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON; a NaN is refused since JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_text(path: Path) -> str:
    """Return a UTF-8 text; raise `DataError` naming the file when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}).") from None


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; raise `DataError` naming it when it cannot be read."""
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise DataError(f"{path}: not JSON that can be read ({error}).") from None


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one where there is no file or something else.

    Raises `DataError` naming the file when it is not JSON.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON that can be read ({error}).") from None
    return content if isinstance(content, dict) else {}


def parse_json(text: str) -> Any:
    """Return the content of a JSON text; raise `ValueError` when it is none.

    A key that comes twice in one object is refused instead of the last one being kept, and so is
    half of a pair of surrogates, which could not be written again.
    """
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _SURROGATE.search(text):
        json.dumps(content, ensure_ascii=False).encode()
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key comes twice")
    return content


_FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
_PATHS: Final = frozenset({"image", "source", "name"})
"""Columns of names of files."""


def cell(column: str, value: Any) -> Any:
    """Return a value as it stands in a CSV file, where a spreadsheet would take it for a formula.

    A path that begins with one of `=+-@` gets `./` before it, which names the same file, and
    another text an apostrophe; numbers stay. `plain_cell` turns both back.
    """
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return f"./{value}" if column in _PATHS and value[0] != "'" else f"'{value}"


def plain_cell(text: str) -> str:
    """Return what `cell` was given."""
    for before in ("./", "'"):
        if text.startswith(before) and _FORMULA.match(text.removeprefix(before)):
            return text.removeprefix(before)
    return text


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a header and rows as `csv_text` gives them."""
    write_text(path, csv_text(header, rows))


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a header and rows as CSV; None becomes an empty field, and no text a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([cell(c, v) for c, v in zip(header, row, strict=True)] for row in rows)
    return buffer.getvalue()
