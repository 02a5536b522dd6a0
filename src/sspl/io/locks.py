"""Locks between processes that work on one file or folder.

The operating system holds a lock for the process and lets go of it when the process ends in
whatever way, so that a lock cannot go stale. Its file is removed by who held it; one that a killed
process left says whose it was, and is in nobody's way.
"""

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import lock_descriptor

from sspl.errors import SsplError
from sspl.io.files import AS_BYTES, LOCK_FILE, remove_leftovers

_held: Final[set[int]] = set()
_claims: Final[set[Path]] = set()


def _let_go() -> None:
    """Close the locks in a process that was forked off, else it would hold them, too."""
    for handle in _held:
        with suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class ClaimedError(SsplError):
    """Another process works on this file or folder."""


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the lock file `path` while the block runs; yield whether it could be had.

    With `wait` it is waited for. Raises `SsplError` where the file cannot be made.
    """
    handle = _acquire(path, wait)
    if handle is None:
        yield False
        return
    _held.add(handle)
    try:
        yield True
    finally:
        # Before it is let go of, else another process could lock the name in between. Windows
        # removes no open file: there it stays, and is in nobody's way.
        with suppress(OSError):
            path.unlink()
        _held.discard(handle)
        os.close(handle)


def _acquire(path: Path, wait: bool) -> int | None:
    flags = os.O_RDWR | os.O_CREAT | AS_BYTES | getattr(os, "O_NOFOLLOW", 0)
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, flags, 0o666)
        except OSError as error:
            raise SsplError(
                f"cannot write {path}: {error.strerror or error}; choose another folder."
            ) from error
        try:
            if not _lock(handle, wait):
                os.close(handle)
                return None
            if _is_at(handle, path):
                os.ftruncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {platform.node()}\n".encode())
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # who held it has removed the file meanwhile


def _lock(handle: int, wait: bool) -> bool:
    try:
        return lock_descriptor(handle, blocking=wait)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            return True  # a file system without locks: nobody can hold one
        raise


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def is_locked(path: Path) -> bool:
    """Tell whether a process holds the lock file at this moment."""
    if not path.exists():
        return False
    with locked(path) as free:
        return not free


def lock_of(out: Path, folder: bool = False) -> Path:
    """Return the file that a process locks which writes the file, or the folder, `out`."""
    return out / LOCK_FILE if folder else out.with_name(f".{out.name}{LOCK_FILE}")


@contextmanager
def claimed(out: Path, folder: bool = False, deep: bool = False) -> Iterator[None]:
    """Let no other process write the file, or the folder, `out` while the block runs.

    Unfinished files that killed writers left there are removed, with `deep` those in all folders
    below it as well. A folder that is made for this and stays empty is removed again.

    Raises `ClaimedError` at once when another process has it; this one may claim it again.
    """
    place = out.absolute()
    if place in _claims:
        yield
        return
    lock = lock_of(out, folder)
    new = _absent(lock.parent)
    try:
        with locked(lock) as free:
            if not free:
                raise ClaimedError(
                    f"{out} is being written by another process ({_holder(lock)}); wait until it "
                    "has ended, or choose another --out."
                )
            _sweep(out, folder, deep)
            _claims.add(place)
            yield
            _sweep(out, folder, deep)
    finally:
        _claims.discard(place)
        for made in new:
            with suppress(OSError):
                made.rmdir()


def _sweep(out: Path, folder: bool, deep: bool) -> None:
    if folder:
        remove_leftovers(out, deep=deep)
    else:
        remove_leftovers(out.parent, out.name)


def _absent(folder: Path) -> list[Path]:
    """Return the folders that have to be made for this one, the deepest first."""
    found = []
    while not folder.exists():
        found.append(folder)
        folder = folder.parent
    return found


def _holder(lock: Path) -> str:
    try:
        return lock.read_text(encoding="utf-8", errors="replace").strip() or "it begins just now"
    except OSError:
        return "it ends just now"
