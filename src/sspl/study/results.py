"""What a cell found, and the table of all cells."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sspl.evaluation.comparison import spread
from sspl.io.files import write_csv
from sspl.io.locks import locked
from sspl.study.cells import KTH, RESULT_FILE, Cell, StudyPlan, read_json
from sspl.study.provenance import code_hash, machine
from sspl.study.study_settings import EVERY_KTH

RESULTS_FILE: Final = "results.csv"
FIGURE_COLUMNS: Final = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "f1": "f1",
    "average_precision": "average_precision",
    "auc": "auc",
    "ece": "calibration_error",
    "majority_accuracy": "majority_accuracy",
}
"""Column of the table: its name among the figures; means over the attributes, as shares."""

RESULT_COLUMNS: Final = (
    "method", "protocol", "data", "labels", "subset", "seed", "split", *FIGURE_COLUMNS,
    "train_seconds", "settings_hash", "code_hash", "machine",
)  # fmt: skip
LATER_COLUMNS: Final = ("code_hash", "machine")
"""What tables of version 0.1 do not have."""


def cell_result(
    plan: StudyPlan,
    name: str,
    figures: Mapping[str, Mapping[str, Any]],
    seconds: float | None,
    details: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what `result.json` of a cell holds: `figures` are the summaries by split."""
    cell = plan.cell
    return {
        "method": cell.method,
        "protocol": cell.protocol,
        "data": name,
        "labels": cell.labels,
        "subset": EVERY_KTH if cell.subset == KTH else cell.subset,
        "repeat": cell.repeat,
        "seed": plan.finetune.seed,
        "train_seconds": None if seconds is None else round(seconds, 1),
        "settings_hash": plan.settings_hash,
        "code_hash": code_hash(),
        "machine": machine(plan.finetune.runtime.device),
        **details,
        "figures": figures,
    }


def cell_of(result: Mapping[str, Any]) -> Cell:
    """Return the cell that a result is of."""
    subset = KTH if result["subset"] == EVERY_KTH else result["subset"]
    names = (result["method"], result["protocol"], result["labels"])
    return Cell(*names, subset, result.get("repeat", 0))


def read_results(out: Path) -> list[dict[str, Any]]:
    """Return the results of all finished cells of a study, sorted by their folders."""
    files = sorted((out / "cells").rglob(RESULT_FILE))
    return [found for file in files if (found := read_json(file)) is not None]


def write_results(out: Path) -> Path:
    """Write `results.csv` anew from the finished cells: one row for each cell and split."""
    with locked(out / "locks" / "results.lock", wait=True):
        rows = [row for result in read_results(out) for row in _rows(result)]
        write_csv(out / RESULTS_FILE, RESULT_COLUMNS, rows)
    return out / RESULTS_FILE


def _rows(result: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    rows = []
    for split, found in result["figures"].items():
        mean = found["mean"]
        values = dict(result) | {"split": split}
        values |= {column: _rounded(mean[name]) for column, name in FIGURE_COLUMNS.items()}
        rows.append(tuple(values.get(column) for column in RESULT_COLUMNS))
    return rows


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def results_table(out: Path) -> str:
    """Return the test figures, mean and standard deviation over the label subsets, in percent."""
    groups: dict[tuple[int, str, str], list[dict[str, Any]]] = {}
    for result in read_results(out):
        key = (result["labels"], result["protocol"], result["method"])
        groups.setdefault(key, []).append(result["figures"]["test"]["mean"])
    lines: list[str] = []
    title: tuple[int, str] | None = None
    for (labels, protocol, method), rows in sorted(groups.items()):
        if title != (labels, protocol):
            title = (labels, protocol)
            lines += [
                "",
                f"{f'{labels} labels, {protocol}':<28}{'accuracy':>16}{'balanced':>16}{'AP':>16}",
            ]
        cells = [
            spread([row[name] for row in rows if row[name] is not None])
            for name in ("accuracy", "balanced_accuracy", "average_precision")
        ]
        lines.append(f"{method:<28}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines[1:])
