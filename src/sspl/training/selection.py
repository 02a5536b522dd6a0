"""Which epoch of stage 2 is kept, by which figure, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sspl.data.records import MISSING, FaceSet, Labels
from sspl.errors import DataError
from sspl.metrics.attributes import all_figures, lacking, lacking_text, means
from sspl.training.partition import Partition
from sspl.training.stage_settings import LabelledSettings

FEW: Final = 10
"""Faces of the rarer answer below which an attribute counts as rare."""

RARE: Final = 0.1
"""Share of the validation faces below which it does, too."""

TIE: Final = 9
"""Decimals in which two epochs' figures must agree to count as equal."""

LAST: Final = "last"
"""Way to select that looks at no figure."""

EpochRow = Mapping[str, Any]
Rates = NDArray[np.float64]


@dataclass(frozen=True)
class Selection:
    """How epochs are compared.

    Args:
        figure: that decides, or `last`: the last epoch is kept.
        why: it was chosen, as the end of a sentence.
        left_out: attributes that cannot be judged, each with the reason; they are in no mean.
    """

    figure: str
    why: str
    left_out: Mapping[str, str]

    @property
    def key(self) -> str:
        """Column of the log that decides."""
        return "epoch" if self.figure == LAST else f"val/{self.figure}"

    @property
    def shown(self) -> str:
        """Column of the log that tells how a run goes."""
        return f"val/{'accuracy' if self.figure == LAST else self.figure}"

    def merit(self, row: EpochRow) -> tuple[float, float, float]:
        """Return what epochs are compared by: the figure, then the loss, then AP."""
        first, loss, last = (row.get(k) for k in (self.key, "val/loss", "val/average_precision"))
        return (
            round(first or 0.0, TIE),
            -np.inf if loss is None else round(-loss, TIE),
            round(last or 0.0, TIE),
        )

    def best(self, rows: Sequence[EpochRow]) -> EpochRow | None:
        """Return the validated epoch to keep, of wholly equal ones the latest."""
        looked = [row for row in rows if self.key in row]
        return max(reversed(looked), key=self.merit, default=None)

    def looks_since_gain(self, rows: Sequence[EpochRow]) -> int:
        """Return how many looks at the validation faces have brought nothing better."""
        merits = [self.merit(row) for row in rows if self.key in row]
        return len(merits) - 1 - merits.index(max(merits)) if merits else 0

    def text(self, rows: Sequence[EpochRow], epochs: int) -> str:
        """Say which epoch of how many was kept, and why."""
        best = self.best(rows)
        if best is None:
            return ""
        if self.figure == LAST:
            return f"Epoch {best['epoch']} of {epochs} kept: the latest, {self.why}."
        value = self.merit(best)[0]
        equals = sum(self.key in row and self.merit(row)[0] == value for row in rows)
        tie = (
            f"; {equals} epochs are equal in it, and of those it has the least validation loss"
            if equals > 1
            else ""
        )
        return (
            f"Epoch {best['epoch']} of {epochs} kept: best {_words(self.figure)} "
            f"({100 * value:.2f} %) on the validation faces{tie}. Chosen by "
            f"{_words(self.figure)} {self.why}."
        )


def _words(figure: str) -> str:
    return figure.replace("_", " ")


def selection(settings: LabelledSettings, parts: Partition) -> Selection:
    """Resolve by what the epochs of a run are compared.

    `auto` is average precision where at least half of the attributes are rare: fewer than `FEW`
    labelled or validation faces, or less than `RARE` of the validation faces, give the rarer
    answer; most of the accuracy is then that of always giving the commoner one. Else it is
    accuracy. Where there are no validation faces the labelled ones alone say what can be judged.
    Raises `DataError` when no attribute can be.
    """
    names = parts.train.schema.names
    reasons: dict[str, str] = {}
    for faces, where in ((parts.val, "validation"), (parts.train, "labelled")):
        found = lacking(names, faces.labels) if len(faces) else {}
        reasons |= {name: f"no {kind} among the {where} faces" for name, kind in found.items()}
    left_out = {name: reasons[name] for name in names if name in reasons}
    if len(left_out) == len(names):
        raise DataError(
            f"{parts.train.source}: there is nothing to learn and to select by: "
            f"{lacking_text(left_out)}; label faces of both kinds, in train and in val."
        )
    if settings.select_by != "auto":
        return Selection(settings.select_by, "as the settings say", left_out)
    judged = [i for i, name in enumerate(names) if name not in left_out]
    rare = _rare(parts.train.labels[:, judged], parts.val.labels[:, judged])
    if 2 * rare.sum() >= len(judged):
        return Selection(
            "average_precision",
            f"because {rare.sum()} of {len(judged)} attributes have few faces of one kind",
            left_out,
        )
    return Selection(
        "accuracy", "because most attributes have faces enough of either kind", left_out
    )


def _rare(train: Labels, val: Labels) -> NDArray[np.bool_]:
    """Return bool (attributes,): which of them are rare among faces (n, attributes)."""
    (labelled, _), (validation, known) = map(_rarer, (train, val))
    return (labelled < FEW) | (validation < FEW) | (validation < RARE * known)


def _rarer(labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return int64 (attributes,) faces of the rarer kind, and known ones."""
    yes, no = (labels == 1).sum(0), (labels == 0).sum(0)
    return np.minimum(yes, no), (labels != MISSING).sum(0)


def validation_figures(
    faces: FaceSet, logits: NDArray[np.float32], rates: Rates, left_out: Mapping[str, str]
) -> dict[str, float | None]:
    """Return the means over all attributes but those `left_out`, and the loss.

    Nothing without faces.
    `logits` are (n, attributes); `rates` (attributes,) the labelled faces' shares of positives.
    """
    if not len(faces):
        return {}
    figures = all_figures(faces.schema.names, faces.labels, expit(logits), rates)
    return means(figures, left_out) | {"loss": validation_loss(logits, faces.labels)}


def validation_loss(logits: NDArray[np.float32], labels: Labels) -> float:
    """Return the cross-entropy of logits (n, attributes), averaged over the known labels."""
    known = labels != MISSING
    signs = np.where(labels == 1, -1.0, 1.0)[known]
    return float(np.logaddexp(0.0, signs * logits[known].astype(np.float64)).mean())
