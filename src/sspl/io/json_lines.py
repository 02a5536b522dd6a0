"""Journals of JSON lines: a record a line, added at the end, read again after any kill."""

import json
from collections.abc import Iterable, Iterator
from typing import Any


def record_of(line: bytes) -> dict[str, Any] | None:
    """Return the record that a line holds; None where it holds none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def whole_lines(file: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a journal, without a last one that was cut short.

    Only the last can be, by whoever was killed or lost power while writing it: it lacks its end or
    is no record. A first line, which says what the journal is, need only have its end.
    """
    before = None
    first = True
    for line in file:
        if before is not None:
            yield before
            first = False
        before = line
    if before is not None and before.endswith(b"\n") and (first or record_of(before) is not None):
        yield before
