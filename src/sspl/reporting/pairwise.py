"""The methods of a study against one another, on the same faces and the same label subsets."""

import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

from sspl.evaluation.paired import Sampled, differences, on_the_same_faces, sample
from sspl.evaluation.predictions import Predictions, load_predictions, predictions_file
from sspl.evaluation.statistics import Resampling, resampling_of
from sspl.io.progress import watched
from sspl.reporting.result_table import PROTOCOLS, Draw, Group, in_order
from sspl.study.cells import Cell, cell_folder
from sspl.study.study_settings import Protocol

MAIN: Final = ("accuracy", "balanced_accuracy", "average_precision")
"""Figures that are drawn, tabulated by label count and compared."""

FINETUNED: Final[Protocol] = "finetune"
PROBE: Final[Protocol] = "linear"

COUNTED: Final = MAIN[:2]
RANKED: Final = MAIN[2:]
RANKED_RESAMPLES: Final = 200
"""Rankings take far longer to resample than decisions; a study has hundreds of cells."""


@dataclass(frozen=True)
class PairedComparison:
    """Two methods under one protocol at one label count, on the label subsets of both."""

    a: str
    b: str
    protocol: str
    labels: int
    subsets: tuple[Draw, ...]
    summary: dict[str, Any]


class Both(NamedTuple):
    """Figures of one cell in all resamples, and those of rankings in fewer."""

    counted: Sampled
    ranked: Sampled


class Cells:
    """The predictions of a study's cells on one order of faces, each sampled once.

    Cells whose predictions are not there have no part in what is worked out from them.
    """

    def __init__(self, study: Path, groups: Sequence[Group], resamples: int) -> None:
        self.groups, self.resamples = groups, resamples
        self.predictions: dict[Cell, Predictions] = {}
        self.first: Predictions | None = None
        self.seed = min(row.seed for group in groups for row in group.rows)
        for cell in (self._cell(group, row.draw) for group in groups for row in group.rows):
            file = predictions_file(cell_folder(study, cell), "test")
            if file.is_file():
                found = load_predictions(file)
                self.first = self.first or found
                self.predictions[cell] = on_the_same_faces(self.first, found, str(file))
        self.sampled: dict[Cell, Both] = {}
        self.counted: Resampling | None = None
        self.ranked: Resampling | None = None
        if self.first is not None:
            self.counted = resampling_of(self.first, resamples)
            self.ranked = replace(self.counted, count=min(resamples, RANKED_RESAMPLES))

    def drawn(self) -> str:
        """Return in words what the intervals are made of."""
        if self.counted is None:
            return ""
        fewer = min(self.resamples, RANKED_RESAMPLES)
        text = (
            f"{self.resamples:,} resamples of {self.counted.units:,} test "
            f"{self.counted.unit_name}, and of the label subsets where there are several"
        )
        return text if fewer == self.resamples else f"{text}; {fewer} for average precision"

    def comparisons(
        self, a: str, others: Sequence[str], labels: Collection[int] | None = None
    ) -> list[PairedComparison]:
        """Compare `a` with every other method wherever both have cells on the same subsets.

        At every label count, or at `labels` alone. A method that is never fine-tuned, a network
        from outside, meets fine-tuned ones by its linear probe.
        """
        meetings = []
        for group in (g for g in self.groups if g.method == a):
            for other in self.groups:
                met = (self._met_as(other.method, group.protocol), group.labels)
                same = (other.protocol, other.labels) == met
                wanted = other.method in others and (labels is None or group.labels in labels)
                draws = tuple(sorted(self._draws(group) & self._draws(other)))
                if same and draws and wanted:
                    meetings.append((group, other, draws))
        if self.counted is None or self.ranked is None:
            return []
        self._sample(
            self._cell(group, draw)
            for one, other, draws in meetings
            for group in (one, other)
            for draw in draws
        )
        found = [self._compared(*each) for each in meetings]
        order = protocols_of(self.groups)
        return sorted(found, key=lambda d: (order.index(d.protocol), others.index(d.b), d.labels))

    def _met_as(self, method: str, protocol: str) -> str:
        """Return the protocol by which a method meets others of `protocol`."""
        own = {g.protocol for g in self.groups if g.method == method}
        return PROBE if protocol == FINETUNED and FINETUNED not in own else protocol

    def _sample(self, cells: Iterable[Cell]) -> None:
        assert self.counted is not None
        assert self.ranked is not None
        missing = sorted(set(cells) - set(self.sampled))
        for cell in watched(missing, "resample", unit="cell", leave=False):
            given = self.predictions[cell]
            self.sampled[cell] = Both(
                sample(given, self.counted, COUNTED), sample(given, self.ranked, RANKED)
            )

    def _cell(self, group: Group, draw: Draw) -> Cell:
        subset, seed = draw
        protocol = _protocol(group.protocol)
        return Cell(group.method, protocol, group.labels, subset, seed - self.seed)

    def _draws(self, group: Group) -> set[Draw]:
        return {r.draw for r in group.rows if self._cell(group, r.draw) in self.predictions}

    def _compared(self, one: Group, other: Group, draws: tuple[Draw, ...]) -> PairedComparison:
        assert self.counted is not None
        assert self.ranked is not None
        a, b = ([self.sampled[self._cell(g, draw)] for draw in draws] for g in (one, other))
        parts = (
            differences([s.counted for s in a], [s.counted for s in b], self.counted),
            differences([s.ranked for s in a], [s.ranked for s in b], self.ranked),
        )
        summary = {
            "mean": parts[0]["mean"] | parts[1]["mean"],
            "attributes": {
                name: found | parts[1]["attributes"][name]
                for name, found in parts[0]["attributes"].items()
            },
        }
        return PairedComparison(one.method, other.method, one.protocol, one.labels, draws, summary)

    def both(
        self, comparisons: Sequence[PairedComparison], pair: tuple[str, str]
    ) -> list[tuple[str, Predictions]]:
        """Return the predictions of both methods in the first of `comparisons`, on one subset."""
        found = []
        for comparison in comparisons[:1]:
            for method in pair:
                shown = (method, self._met_as(method, comparison.protocol), comparison.labels)
                group = next(g for g in self.groups if (g.method, g.protocol, g.labels) == shown)
                cell = self._cell(group, comparison.subsets[0])
                title = f"{method}, {comparison.labels:,} labels, subset {cell.subset_text}"
                found.append((title, self.predictions[cell]))
        return found


def _protocol(name: str) -> Protocol:
    (found,) = (p for p in get_args(Protocol) if p == name)
    protocol: Protocol = found
    return protocol


def middle_first(comparisons: Sequence[PairedComparison]) -> list[PairedComparison]:
    """Return the comparisons of fine-tuning, that of the median label count first.

    Where nothing was fine-tuned, those of the first other protocol.
    """
    protocols = in_order((d.protocol for d in comparisons), tuple(PROTOCOLS))
    of_one = [d for d in comparisons if d.protocol == protocols[0]] if protocols else []
    if not of_one:
        return []
    middle = statistics.median_low([d.labels for d in of_one])
    return sorted(of_one, key=lambda d: (d.labels != middle, d.labels))


def protocols_of(groups: Sequence[Group]) -> list[str]:
    """Return the protocols that have cells, fine-tuning first."""
    return in_order((g.protocol for g in groups), tuple(PROTOCOLS))
