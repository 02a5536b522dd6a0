"""What the log says of events that clients bring about: some of them, and how many more."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MOST_KINDS: Final = 1000
EVERY: Final = 10.0
"""Seconds in which one kind of event is written once."""


class Sparing(logging.Filter):
    """Lets one record of a kind pass in `every` seconds; the next says how many were left out.

    Records are of one kind when their texts, before values are filled in, are the same.

    Args:
        every: seconds.
        clock: seconds, never going back.
    """

    def __init__(self, every: float = EVERY, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.every = every
        self.clock = clock
        self._kinds: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to write a record."""
        if record.levelno < logging.INFO:
            return True
        kind, now = str(record.msg), self.clock()
        written, left_out = self._kinds.pop(kind, (-float("inf"), 0))
        passes = now - written >= self.every
        self._kinds[kind] = (now, 0) if passes else (written, left_out + 1)
        if len(self._kinds) > MOST_KINDS:
            self._kinds.popitem(last=False)
        if passes and left_out:
            record.msg = f"{record.getMessage()} ({left_out} more like it since the last line)"
            record.args = ()
        return passes
