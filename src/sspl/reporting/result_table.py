"""The table of a study's results: read, checked and averaged over label subsets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sspl.data.adapters.dialect import read_csv
from sspl.errors import DataError
from sspl.study.cells import KTH
from sspl.study.results import FIGURE_COLUMNS, LATER_COLUMNS, RESULT_COLUMNS
from sspl.study.study_settings import EVERY_KTH

RESULT_FIGURES: Final = tuple(FIGURE_COLUMNS)
TITLES: Final = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "average_precision": "average precision",
    "auc": "AUC",
    "f1": "F1",
    "ece": "calibration error",
    "majority_accuracy": "majority",
}
PROTOCOLS: Final = {
    "finetune": "Fine-tuning",
    "linear": "Linear probe",
    "knn": "Nearest neighbours",
}


@dataclass(frozen=True)
class ResultRow:
    """One finished cell, judged on one split; figures are shares, None where not defined.

    `subset` is the seed of a random subset, or `KTH`.
    """

    method: str
    protocol: str
    data: str
    labels: int
    subset: int
    seed: int
    split: str
    figures: dict[str, float | None]
    train_seconds: float | None

    @property
    def draw(self) -> "Draw":
        """Which of the cells that differ in chance alone it is: subset and seed."""
        return self.subset, self.seed

    @property
    def subset_text(self) -> str:
        """The subset as tables name it."""
        return "every k-th" if self.subset == KTH else str(self.subset)


Draw = tuple[int, int]


@dataclass(frozen=True)
class Group:
    """The cells that differ in their label subset alone."""

    method: str
    protocol: str
    data: str
    labels: int
    rows: tuple[ResultRow, ...]

    def values(self, figure: str) -> list[float]:
        """Return a figure of each cell where it is defined."""
        return [v for row in self.rows if (v := row.figures[figure]) is not None]

    def mean(self, figure: str) -> float | None:
        """Return the mean over the cells."""
        values = self.values(figure)
        return float(np.mean(values)) if values else None

    def spread(self, figure: str) -> float | None:
        """Return the standard deviation over the cells; None for fewer than two."""
        values = self.values(figure)
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def text(self, figure: str) -> str:
        """Return mean and standard deviation in percent, as `86.72 +- 0.13`."""
        mean, spread = self.mean(figure), self.spread(figure)
        if mean is None:
            return "-"
        return f"{100 * mean:.2f}" + ("" if spread is None else f" +- {100 * spread:.2f}")


def read_results_csv(path: Path, split: str = "test") -> list[ResultRow]:
    """Return the rows of one split of a results table.

    Raises `DataError` naming file and line for a column that is not there, a value that is no
    number, a share that is none, or a cell given twice.
    """
    lines = read_csv(path)
    line, header = next(lines)
    for column in RESULT_COLUMNS:
        if column not in header and column not in LATER_COLUMNS:
            raise DataError(f"{path}, line {line}: no column '{column}'; it is no results table.")
    rows: list[ResultRow] = []
    seen: set[tuple[object, ...]] = set()
    for line, fields in lines:
        values = dict(zip(header, fields, strict=True))
        if values["split"] != split:
            continue
        row = _row(path, line, values)
        key = (row.data, row.method, row.protocol, row.labels, row.subset, row.seed)
        if key in seen:
            raise DataError(f"{path}, line {line}: this cell was given before; keep one.")
        seen.add(key)
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: no row of the split '{split}'.")
    return rows


def _row(path: Path, line: int, values: dict[str, str]) -> ResultRow:
    def number(column: str) -> float | None:
        text = values[column]
        try:
            return float(text) if text else None
        except ValueError:
            raise DataError(f"{path}, line {line}: '{column}' is '{text}', no number.") from None

    def whole(column: str) -> int:
        if not values[column].isdecimal():
            raise DataError(
                f"{path}, line {line}: '{column}' is '{values[column]}', no whole number."
            )
        return int(values[column])

    figures = {column: number(column) for column in RESULT_FIGURES}
    for column, value in figures.items():
        if value is not None and not 0 <= value <= 1:
            raise DataError(f"{path}, line {line}: '{column}' is {value}; give shares, 0 to 1.")
    if values["protocol"] not in PROTOCOLS:
        raise DataError(
            f"{path}, line {line}: unknown protocol '{values['protocol']}'; "
            f"use {', '.join(PROTOCOLS)}."
        )
    return ResultRow(
        values["method"],
        values["protocol"],
        values["data"],
        whole("labels"),
        KTH if values["subset"] == EVERY_KTH else whole("subset"),
        whole("seed"),
        values["split"],
        figures,
        number("train_seconds"),
    )


def group_rows(rows: Iterable[ResultRow]) -> list[Group]:
    """Return cells that differ in their subset together, in the order of first appearance."""
    found: dict[tuple[str, str, str, int], list[ResultRow]] = {}
    for row in rows:
        found.setdefault((row.method, row.protocol, row.data, row.labels), []).append(row)
    return [Group(*key, tuple(sorted(some, key=lambda r: r.draw))) for key, some in found.items()]


FIRST: Final = ("sspl", "splnet", "builtin", "scratch")
"""Methods that every table and chart begins with."""


def in_order(names: Iterable[str], first: Sequence[str]) -> list[str]:
    """Return names, each once: those in `first` in its order, then the others as they come."""
    there = list(dict.fromkeys(names))
    return [n for n in first if n in there] + [n for n in there if n not in first]
