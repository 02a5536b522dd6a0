"""Locks between processes that work on one folder at once."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sspl.errors import SsplError


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the lock file `path` while the block runs; yield whether it could be had.

    With `wait` it is waited for. The operating system holds the lock for the process and lets go
    of it when the process ends in whatever way, so that a lock cannot go stale; the file stays,
    and tells whose it is or was. Raises `SsplError` where there are no such locks.
    """
    try:
        import fcntl
    except ImportError:
        raise SsplError("a study needs the file locks of Linux or macOS; run it there.") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    # Append mode: opening must not wipe out what another process has written.
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        try:
            yield True
        finally:
            file.truncate(0)
            fcntl.flock(file, fcntl.LOCK_UN)


def is_locked(path: Path) -> bool:
    """Tell whether a process holds the lock file at this moment."""
    if not path.exists():
        return False
    with locked(path) as free:
        return not free
