"""The log of a run as TensorBoard reads it."""

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sspl.errors import DataError, SsplError
from sspl.io.run_files import METRICS_CSV, finished

STEPS: Final = ("step", "epoch")
"""Columns that count; the first of them that a log has is the axis of its curves."""

EVENTS: Final = "events.out.tfevents.*"


def read_rows(run: Path) -> list[dict[str, str]]:
    """Return the rows of a run's log so far; raise `DataError` when it has none."""
    file = run / METRICS_CSV
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            return list(csv.DictReader(opened))
    except FileNotFoundError:
        raise DataError(f"{file}: no such log; give the folder of a run.") from None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{file}: no log that can be read ({error}).") from None


def scalars(row: dict[str, str], number: int) -> tuple[int, dict[str, float]]:
    """Return the step of a row, its `number` where none is counted, and its figures by name."""
    figures = {}
    for name, text in row.items():
        try:
            figures[name] = float(text)
        except (TypeError, ValueError):
            continue  # Not every epoch is validated: empty fields are no figures.
    counted = [figures.pop(name) for name in STEPS if name in figures]
    return (int(counted[0]) if counted else number), figures


@dataclass
class _Curves:
    """One run's curves: how many rows are written, and where to."""

    run: Path
    writer: Any
    written: int = 0
    over: bool = field(default=False)

    def catch_up(self) -> None:
        over = finished(self.run)
        for number, row in enumerate(read_rows(self.run)):
            if number >= self.written:
                step, figures = scalars(row, number)
                for name, value in figures.items():
                    self.writer.add_scalar(name, value, step)
                self.written += 1
        self.writer.flush()
        self.over = over


def write_events(
    runs: Sequence[Path],
    out: Path,
    watch: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Write the logs of runs as TensorBoard's files, one folder a run; return the rows.

    Args:
        runs: run folders.
        out: folder for TensorBoard's `--logdir`; what an earlier call wrote is replaced.
        watch: seconds after which to look for new rows, until all runs are over; None: once.
        sleep: waits so many seconds.

    Raises `SsplError` when the extra is not installed, `DataError` for a folder without a log.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SsplError(
            "TensorBoard is not installed; run in the clone of sspl: pip install '.[tensorboard]'."
        ) from None
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SsplError(f"two runs are called {twice}; write their events into two folders.")
    for run in runs:
        read_rows(run)
    curves = []
    for run, name in zip(runs, names, strict=True):
        for old in (out / name).glob(EVENTS):
            old.unlink()
        curves.append(_Curves(run, SummaryWriter(str(out / name))))
    try:
        while True:
            for one in curves:
                one.catch_up()
            if watch is None or all(one.over for one in curves):
                return sum(one.written for one in curves)
            sleep(watch)
    finally:
        for one in curves:
            one.writer.close()
