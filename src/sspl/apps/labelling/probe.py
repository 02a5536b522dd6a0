"""A linear probe: what a few labels say of all other faces, on features that stay as they are."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from sspl.data.records import MISSING, Labels
from sspl.evaluation.statistics import wilson
from sspl.metrics.attributes import THRESHOLD

INVERSE_PENALTY: Final = 10.0
"""`C` of scikit-learn, for features of length about 1."""

FOLDS: Final = 5
FEWEST: Final = 3
"""Faces of the rarer answer below which nothing is said of an attribute's quality."""


def has_both(labels: Labels) -> bool:
    """Tell whether labels int8 (n,) hold a yes and a no."""
    return bool((labels == 1).any() and (labels == 0).any())


def probe(
    features: NDArray[np.float32], labels: Labels, others: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return what a logistic regression, yes and no weighed alike, makes of other faces.

    Args:
        features: (m, d) of the labelled faces.
        labels: int8 (m,) of 1 and 0, both there.
        others: (n, d).

    Returns:
        (n,) probabilities of yes, as if yes and no were equally frequent.
    """
    # The weights of a penalised regression lie in the span of its faces (representer theorem),
    # so that there are no more unknowns than faces.
    basis = np.linalg.qr(features.T)[0]
    model = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=1000)
    model.fit((features @ basis).astype(np.float64), labels)
    weights = (basis @ model.coef_[0]).astype(np.float32)
    probabilities: NDArray[np.float64] = expit(
        (others @ weights).astype(np.float64) + model.intercept_[0]
    )
    return probabilities


def opinions(
    features: NDArray[np.float32], labels: Labels, prior: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return a probability of each attribute for each face.

    Args:
        features: (n, d) of all faces.
        labels: int8 (n, a), `MISSING` where nobody has answered.
        prior: (n, a) of a model, NaN for attributes that it has not; used where the labels hold
            no yes or no no. Without one such an attribute gets (yes + 1) / (answers + 2).
    """
    result = np.empty(labels.shape)
    for column in range(labels.shape[1]):
        known = np.flatnonzero(labels[:, column] != MISSING)
        answers = labels[known, column]
        if has_both(answers):
            result[:, column] = probe(features[known], answers, features)
        elif prior is not None and not np.isnan(prior[:, column]).any():
            result[:, column] = prior[:, column]
        else:
            result[:, column] = (np.sum(answers == 1) + 1) / (len(answers) + 2)
    return result


@dataclass(frozen=True)
class Standing:
    """How well a probe knows an attribute so far.

    Args:
        yes, no: answers.
        balanced_accuracy: mean of the hit rates on yes and no, None with too few of either.
        low, high: its 95 % interval.
    """

    yes: int
    no: int
    balanced_accuracy: float | None = None
    low: float | None = None
    high: float | None = None


def standing(features: NDArray[np.float32], labels: Labels, seed: int = 0) -> Standing:
    """Cross-validate the probe of one attribute on its labelled faces.

    Every face is judged by a probe that has not seen it. The figure is for faces like those that
    were labelled: where they were picked for being hard, it is lower than on faces at random.

    Args:
        features: (m, d) of the faces with an answer.
        labels: int8 (m,) of 1 and 0.
        seed: of the folds.
    """
    yes, no = int((labels == 1).sum()), int((labels == 0).sum())
    if min(yes, no) < FEWEST:
        return Standing(yes, no)
    folds = StratifiedKFold(min(FOLDS, yes, no), shuffle=True, random_state=seed)
    decision = np.empty(len(labels), dtype=bool)
    for learn, judge in folds.split(features, labels):
        decision[judge] = probe(features[learn], labels[learn], features[judge]) >= THRESHOLD
    hits = (int(decision[labels == 1].sum()), int((~decision[labels == 0]).sum()))
    return Standing(yes, no, *balanced_interval(hits[0], yes, hits[1], no))


def balanced_interval(hits_yes: int, yes: int, hits_no: int, no: int) -> tuple[float, float, float]:
    """Return balanced accuracy and its 95 % interval.

    The intervals of the two hit rates (Wilson) are joined by the square-and-add rule of Zou and
    Donner, Statistics in Medicine 2008, which takes the faces to be independent.
    """
    (p, low_p, high_p), (q, low_q, high_q) = wilson(hits_yes, yes), wilson(hits_no, no)
    middle = (p + q) / 2
    below, above = np.hypot(p - low_p, q - low_q) / 2, np.hypot(high_p - p, high_q - q) / 2
    return middle, float(max(0.0, middle - below)), float(min(1.0, middle + above))
