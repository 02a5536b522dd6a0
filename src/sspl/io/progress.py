"""Progress bars for people: none where nobody looks."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar, overload

from tqdm import tqdm

T = TypeVar("T")

log = logging.getLogger(__name__)


def _speaks() -> bool:
    """Tell whether this is the first process; torch, which knows, is not loaded to ask it."""
    group = sys.modules.get("sspl.distributed.group")
    return group is None or bool(group.is_first())


def is_watched() -> bool:
    """Tell whether bars are shown: this is the first process, and its stderr is a terminal.

    TQDM_DISABLE turns them off, as `--quiet` does; what tqdm is told outright would win over it.
    """
    asked = os.environ.get("TQDM_DISABLE", "0") in ("", "0")
    return _speaks() and asked and sys.stderr is not None and sys.stderr.isatty()


@overload
def watched(iterable: Iterable[T], *more: Any, **options: Any) -> "tqdm[T]": ...
@overload
def watched(**options: Any) -> "tqdm[NoReturn]": ...
def watched(iterable: Any = None, *more: Any, **options: Any) -> "tqdm[Any]":
    """Return tqdm's bar, of which a log or a pipe gets nothing."""
    kind: Any = tqdm
    bar: tqdm[Any] = kind(iterable, *more, disable=not is_watched(), **options)
    return bar


def counted(count: int, unit: str) -> str:
    """Return a number of things in words.

    Examples:
        >>> counted(1, "face"), counted(1200, "face")
        ('1 face', '1,200 faces')
    """
    return f"{count:,} {unit}" + ("" if count == 1 else "s")


def spoken(seconds: float) -> str:
    """Return a time as people say it, to a precision that they care for.

    Examples:
        >>> spoken(42.3), spoken(100), spoken(8000)
        ('42 s', '2 min', '2 h 13 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


class Pace:
    """How long the rest of a run takes, at the pace since this was made.

    Args:
        done, total: what is behind the run, and all there is, in any unit.
        clock: seconds, never going back.
    """

    def __init__(
        self, done: float, total: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.before, self.total, self.clock = done, total, clock
        self.begun = clock()

    def left(self, done: float) -> str:
        """Return in words how long the rest takes once so much is behind; empty at the end."""
        if not self.before < done < self.total:
            return ""
        each = (self.clock() - self.begun) / (done - self.before)
        return f"about {spoken(each * (self.total - done))} left"


def note(
    unit: str, done: int, total: int, figures: Mapping[str, float | None], left: str = ""
) -> None:
    """Write a line into the log of a long run where no bar is shown; `left` is as in `Pace`."""
    if _speaks() and not is_watched():
        known = [f"{name} {value:.4g}" for name, value in figures.items() if value is not None]
        log.info("%s %d/%d: %s", unit, done, total, ", ".join([*known, *([left] if left else [])]))
