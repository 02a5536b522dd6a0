"""Figures of merit of binary attributes with missing labels."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sspl.data.records import MISSING, Labels
from sspl.metrics.rankings import ranking_figures

ATTRIBUTE_FIGURES: Final = (
    "accuracy",
    "balanced_accuracy",
    "f1",
    "average_precision",
    "auc",
    "calibration_error",
)
THRESHOLD: Final = 0.5
BINS: Final = 15


@dataclass(frozen=True)
class AttributeFigures:
    """Figures of one attribute over the faces where it is known.

    A figure is None where it is not defined: balanced accuracy and AUC need both classes, F1
    and average precision a positive, all of them a known label. `majority_accuracy` is that of
    always saying what most labelled training faces say.

    Examples:
        >>> figures = attribute_figures("Bangs", np.array([1, 0]), np.array([0.9, 0.2]), 0.3)
        >>> figures.positives, figures.balanced_accuracy, figures.majority_accuracy
        (1, 1.0, 0.5)
    """

    name: str
    positives: int
    negatives: int
    accuracy: float | None
    balanced_accuracy: float | None
    f1: float | None
    average_precision: float | None
    auc: float | None
    calibration_error: float | None
    majority_accuracy: float | None


def attribute_figures(
    name: str, labels: Labels, probabilities: NDArray[np.floating[Any]], training_rate: float
) -> AttributeFigures:
    """Judge one attribute.

    Args:
        name: its name.
        labels: int8 (n,) of 1, 0 and `MISSING`; missing ones are left out.
        probabilities: float (n,) in [0, 1]; yes from 0.5 on (docs/method.md#data-and-protocol).
        training_rate: share of positives among the labelled training faces.

    Examples:
        >>> labels, said = np.array([1, 1, 0, MISSING]), np.array([0.9, 0.2, 0.4, 0.8])
        >>> figures = attribute_figures("Bangs", labels, said, training_rate=0.3)
        >>> round(figures.accuracy, 3), figures.balanced_accuracy
        (0.667, 0.75)
    """
    known = labels != MISSING
    truth, score = labels[known] == 1, probabilities[known]
    decision = score >= THRESHOLD
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not len(truth):
        return AttributeFigures(name, 0, 0, None, None, None, None, None, None, None)
    both = positives > 0 and negatives > 0
    found, spared = decision[truth], ~decision[~truth]
    precision = area = math.nan
    if positives:
        once = np.ones((len(truth), 1))
        precision, area = (float(value) for (value,) in ranking_figures(score, truth, once))
    return AttributeFigures(
        name,
        positives,
        negatives,
        accuracy=float((decision == truth).mean()),
        balanced_accuracy=float(found.mean() + spared.mean()) / 2 if both else None,
        f1=float(2 * found.sum() / (positives + decision.sum())) if positives else None,
        average_precision=precision if positives else None,
        auc=area if both else None,
        calibration_error=expected_calibration_error(truth, score),
        majority_accuracy=float((truth == (training_rate >= THRESHOLD)).mean()),
    )


def expected_calibration_error(
    truth: NDArray[np.bool_], probabilities: NDArray[np.floating[Any]]
) -> float:
    """Return the mean distance between probability and frequency of yes, over 15 equal bins.

    After Guo et al., ICML 2017, of the positive class; each bin weighs as its faces.

    Examples:
        >>> truth = np.array([True, False])
        >>> round(expected_calibration_error(truth, np.array([0.6, 0.6])), 3)
        0.1
    """
    gaps = np.bincount(_bins(probabilities), probabilities - truth, BINS)
    return float(np.abs(gaps).sum() / len(truth))


def _bins(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    return np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)


def reliability(
    labels: Labels, probabilities: NDArray[np.floating[Any]]
) -> list[dict[str, float | None]]:
    """Return what is said and what is true in 15 equal bins of probability.

    `labels` and `probabilities` are (n, attributes), taken together; missing labels are left out.
    Each bin has its bounds `low` and `high`, its `cases`, their mean `probability` and their
    `frequency` of yes; the last two are None in an empty bin.
    """
    known = labels != MISSING
    truth, score = labels[known] == 1, probabilities[known].astype(np.float64)
    bins = _bins(score)
    cases, said, yes = (np.bincount(bins, w, BINS) for w in (None, score, truth))
    return [
        {
            "low": i / BINS,
            "high": (i + 1) / BINS,
            "cases": int(cases[i]),
            "probability": float(said[i] / cases[i]) if cases[i] else None,
            "frequency": float(yes[i] / cases[i]) if cases[i] else None,
        }
        for i in range(BINS)
    ]


def all_figures(
    names: tuple[str, ...],
    labels: Labels,
    probabilities: NDArray[np.floating[Any]],
    training_rates: NDArray[np.float64],
) -> list[AttributeFigures]:
    """Judge every attribute: `labels` and `probabilities` are (n, attributes).

    Examples:
        >>> labels, said = np.array([[1, 0], [0, 0]]), np.array([[0.9, 0.1], [0.2, 0.6]])
        >>> figures = all_figures(("Bangs", "Bald"), labels, said, np.array([0.3, 0.1]))
        >>> [one.accuracy for one in figures]
        [1.0, 0.5]
    """
    return [
        attribute_figures(name, labels[:, i], probabilities[:, i], float(training_rates[i]))
        for i, name in enumerate(names)
    ]


def means(
    figures: Sequence[AttributeFigures], without: Collection[str] = ()
) -> dict[str, float | None]:
    """Return the mean of each figure over the attributes that can be judged.

    Left out are those `without` meaning and those of which these faces show one kind alone; None
    where that leaves none.

    Examples:
        >>> labels, said = np.array([[1, 0], [0, 1]]), np.array([[0.9, 0.1], [0.2, 0.1]])
        >>> figures = all_figures(("Bangs", "Bald"), labels, said, np.array([0.3, 0.1]))
        >>> means(figures)["accuracy"], means(figures, without=["Bald"])["accuracy"]
        (0.75, 1.0)
    """
    judged = [f for f in figures if f.positives and f.negatives and f.name not in without]
    result: dict[str, float | None] = {}
    for figure in (*ATTRIBUTE_FIGURES, "majority_accuracy"):
        values = [getattr(f, figure) for f in judged]
        result[figure] = float(np.mean(values)) if values else None
    return result


def lacking(names: Sequence[str], labels: Labels) -> dict[str, str]:
    """Return what there is none of, `positive`, `negative` or `label`, by attribute.

    `labels` int8 (n, attributes); an attribute of both kinds is not in the result.
    """
    found = {}
    for name, column in zip(names, labels.T, strict=True):
        yes, no = bool((column == 1).any()), bool((column == 0).any())
        if not (yes and no):
            found[name] = "positive" if no else "negative" if yes else "label"
    return found


def lacking_text(reasons: Mapping[str, str]) -> str:
    """Return in one line why some attributes cannot be judged, `reasons` by attribute."""
    grouped: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        grouped.setdefault(reason, []).append(name)
    return "; ".join(f"{reason}: {', '.join(names)}" for reason, names in grouped.items())


def one_answer(names: Sequence[str], decisions: NDArray[np.bool_]) -> list[str]:
    """Return the attributes on which all decisions bool (n, attributes) are the same, if any."""
    if not len(decisions):
        return []
    shares = decisions.mean(0)
    return [name for name, share in zip(names, shares, strict=True) if share in (0.0, 1.0)]


def remarks(summary: Mapping[str, Any], total: int, faces: str) -> list[str]:
    """Return what must be said beside the means over `total` attributes, a sentence each.

    `summary` may have the reasons why attributes are `left_out`, and those with `one_answer` for
    all `faces`.
    """
    lines = []
    if left_out := summary.get("left_out"):
        kept = total - len(left_out)
        lines.append(
            f"Means are over {kept} of {total} attributes, left out are: {lacking_text(left_out)}."
        )
    if names := summary.get("one_answer"):
        which = "every attribute" if len(names) == total else f"{len(names)} of {total} attributes"
        lines.append(
            f"The model gives all {faces} the same answer, no better than always the commoner one, "
            f"on {which}: {', '.join(names)}."
        )
    return lines


def positive_rates(labels: Labels) -> NDArray[np.float64]:
    """Return the share of positives among the known labels (n, a) of each attribute, 0 if none.

    Examples:
        >>> positive_rates(np.array([[1, MISSING], [0, 1], [0, 1]])).round(2).tolist()
        [0.33, 1.0]
    """
    known = (labels != MISSING).sum(0)
    rates: NDArray[np.float64] = (labels == 1).sum(0) / np.maximum(known, 1)
    return rates
