"""Figures of rankings, of many weightings at once: average precision and area under the curve.

Code of our own: scikit-learn's functions take milliseconds for each attribute of each epoch, most
of them to look at their arguments, and rank anew for every resample of an interval.
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Number = TypeVar("Number", np.float32, np.float64)


def ratio(part: Array, whole: Array) -> Array:
    """Return `part / whole`, NaN where `whole` is 0."""
    shares: Array = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return shares


def ranking_figures(
    scores: NDArray[np.floating[Any]], truth: NDArray[np.bool_], weights: NDArray[Number]
) -> tuple[Array, Array]:
    """Return average precision and AUC of scores (n,) for each column of whole weights (n, k).

    As scikit-learn's `average_precision_score` and `roc_auc_score` with `sample_weight`, in the
    numbers that the weights are of; NaN where a column has no positive or, for the AUC, no
    negative.

    Examples:
        >>> said, truth = np.array([0.9, 0.6, 0.4, 0.2]), np.array([True, False, True, False])
        >>> precision, auc = ranking_figures(said, truth, np.ones((4, 1)))
        >>> precision.round(3).tolist(), auc.tolist()
        ([0.833], [0.75])
    """
    order = np.argsort(-scores, kind="stable")
    scores, truth = scores[order], truth[order]
    # Equal scores pass the threshold together. Only runs of them that hold a yes change anything.
    ends = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    starts = np.append(0, ends[:-1] + 1)
    cumulated_yes = np.cumsum(truth)
    holds_yes = cumulated_yes[ends] > cumulated_yes[starts] - truth[starts]
    ends, starts = ends[holds_yes], starts[holds_yes]
    # The sums are whole numbers, exact in float32 up to 2**24.
    above = weights[order].cumsum(0)
    everyone = above[-1].astype(np.float64)
    before = np.where(starts[:, None] > 0, above[starts - 1], 0)
    above = above[ends]
    yes = weights[order[truth]].cumsum(0)[cumulated_yes[ends] - 1]
    new_yes = np.diff(yes, axis=0, prepend=0)
    new_no = above - before - new_yes
    precision = yes / np.maximum(above, 1)
    gained = np.einsum("ij,ij->j", new_yes, precision, dtype=np.float64)
    # A yes outranks every no below it, and half of those beside it.
    outranked_by = np.einsum("ij,ij->j", new_yes, above - yes - new_no / 2, dtype=np.float64)
    positives = yes[-1].astype(np.float64)
    pairs = positives * (everyone - positives)
    return ratio(gained, positives), ratio(pairs - outranked_by, pairs)
