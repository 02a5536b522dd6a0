"""How far a study is, and how long the rest will take."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal

from sspl.io.locks import is_locked
from sspl.io.run_files import finished
from sspl.study.cells import (
    FAILURE_FILE,
    RESULT_FILE,
    Cell,
    StudyPlan,
    cell_folder,
    plan,
    read_json,
)
from sspl.study.cost import cell_minutes, stage1_minutes
from sspl.study.results import cell_of, read_results
from sspl.study.runner import SECONDS_FILE, Study

State = Literal["done", "running", "failed", "to do"]


@dataclass(frozen=True)
class Piece:
    """A cell or a run of stage 1.

    Args:
        name: of its folder.
        state: how it stands.
        seconds: that it took, or will take as one can tell.
        measured: whether `seconds` were measured, on this piece or on like ones.
    """

    name: str
    state: State
    seconds: float
    measured: bool


def survey(study: Study, cells: list[Cell]) -> list[Piece]:
    """Return every piece of work of these cells, stage 1 before the cells that need it."""
    plans = [plan(study.settings, cell) for cell in cells]
    times = _Times(study)
    pieces = {f"pretrained/{p.stage1}": _stage1(study, p, times) for p in plans if p.stage1}
    for each in plans:
        seconds = times.of(each.cell)
        state = _state(study, each)
        known = seconds is not None
        pieces[each.cell.name] = Piece(
            each.cell.name, state, times.planned(each) if seconds is None else seconds, known
        )
    return list(pieces.values())


def report(pieces: Iterable[Piece]) -> str:
    """Return a line for each piece, and the sum of what is to be done."""
    lines, left = [], 0.0
    for piece in pieces:
        sign = "" if piece.measured else "~"
        lines.append(f"{piece.state:<8}{sign + _minutes(piece.seconds):>10}  {piece.name}")
        left += piece.seconds if piece.state != "done" else 0.0
    return "\n".join([*lines, f"{left / 3600:.1f} hours are left for one process (~: as planned)"])


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def _state(study: Study, each: StudyPlan) -> State:
    folder = cell_folder(study.out, each.cell)
    if (folder / RESULT_FILE).exists():
        return "done"
    if is_locked(study.lock(each.cell.name)):
        return "running"
    return "failed" if (folder / FAILURE_FILE).exists() else "to do"


def _stage1(study: Study, each: StudyPlan, times: "_Times") -> Piece:
    folder = study.stage1 / each.stage1
    state: State = "done" if finished(folder) else "to do"
    if state != "done" and is_locked(study.stage1_lock(each)):
        state = "running"
    took = (read_json(folder / SECONDS_FILE) or {}).get("train_seconds")
    return Piece(
        f"pretrained/{each.stage1}", state, took or times.planned_stage1(each), took is not None
    )


class _Times:
    """Measured seconds of cells, and planned ones.

    Measured are those of the method's own like cells. Where the study says what its cells cost,
    others are planned by that, corrected by how long the finished ones took; else by like cells of
    any method, and then by the budget.
    """

    def __init__(self, study: Study) -> None:
        self.settings, self.cost = study.settings, study.settings.cost
        self.seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
        ratios = []
        for result in read_results(study.out):
            if result["train_seconds"] is None:
                continue
            like = (result["protocol"], str(result["labels"]))
            for key in (like, (*like, result["method"])):
                self.seconds[key].append(result["train_seconds"])
            if self.cost is not None and result["method"] in self.settings.methods:
                each = plan(self.settings, cell_of(result))
                ratios.append(result["train_seconds"] / self._counted(each))
        self.ratio = median(ratios) if ratios else 1.0

    def of(self, cell: Cell) -> float | None:
        like = (cell.protocol, str(cell.labels))
        found = self.seconds.get((*like, cell.method))
        if found is None and self.cost is None:
            found = self.seconds.get(like)
        return median(found) if found else None

    def planned(self, each: StudyPlan) -> float:
        return 60 * each.minutes if self.cost is None else self.ratio * self._counted(each)

    def planned_stage1(self, each: StudyPlan) -> float:
        if self.cost is None:
            return 60 * each.stage1_minutes
        return self.ratio * 60 * stage1_minutes(each, self.cost)

    def _counted(self, each: StudyPlan) -> float:
        assert self.cost is not None
        return 60 * cell_minutes(each, self.cost)
