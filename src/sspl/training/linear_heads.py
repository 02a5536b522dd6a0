"""Linear heads on frozen features: logistic regression, its strength chosen on validation faces."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from sspl.data.records import MISSING, Labels
from sspl.metrics.attributes import all_figures, means, positive_rates
from sspl.training.feature_settings import LinearSettings

Features = NDArray[np.float32]
Logits = NDArray[np.float64]
P = TypeVar("P", bound=Callable[[Features], Logits])

SURE: Final = 0.999
"""Largest probability that a probe states, so that its logit is finite."""


@dataclass(frozen=True)
class LabelledFeatures:
    """Features float32 (n, d) and labels int8 (n, attributes) of the same faces."""

    features: Features
    labels: Labels


@dataclass(frozen=True)
class LinearHeads:
    """Logistic regressions, one for each attribute, on features as they come.

    Args:
        weight: float64 (d, attributes).
        bias: float64 (attributes,).
        strength: of the regularisation.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    strength: float

    def __call__(self, features: Features) -> Logits:
        """Map features (n, d) to logits (n, attributes)."""
        logits: Logits = features @ self.weight + self.bias
        return logits


def fit_linear(
    settings: LinearSettings, train: LabelledFeatures, val: LabelledFeatures, select_by: str
) -> LinearHeads:
    """Fit logistic regressions on standardised features, one for each attribute.

    Of equally good strengths the first, so the largest, is taken. `select_by` names the figure.
    """
    mean, inverse = standardisation(train.features)
    x = (train.features - mean) * inverse

    def fitted(strength: float) -> LinearHeads:
        weights = [_regression(x, column, strength) for column in train.labels.T]
        weight = np.stack([w for w, _ in weights], axis=1) * inverse[:, None]
        bias = np.array([b for _, b in weights]) - mean @ weight
        return LinearHeads(weight, bias, strength)

    return choose(fitted, settings.strengths, train.labels, val, select_by)[1]


def standardisation(features: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the means of features (n, d) and one over their deviations, 0 for constant ones."""
    mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    return mean, np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-6)


def _regression(
    x: NDArray[np.float64], column: NDArray[np.int8], strength: float
) -> tuple[NDArray[np.float64], float]:
    # Takes seconds to import, and most runs fit none.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    known = column != MISSING
    truth = column[known] == 1
    rate = float(truth.mean()) if len(truth) else 0.5
    if rate in (0.0, 1.0) or not len(truth):
        return np.zeros(x.shape[1]), float(logit(np.clip(rate, 1 - SURE, SURE)))
    # scikit-learn weighs the sum of the losses by C: loss mean + strength / 2 * norm squared.
    model = LogisticRegression(C=1 / (strength * len(truth)), max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x[known], truth)
    return model.coef_[0], float(model.intercept_[0])


def choose(
    fitted: Callable[[float], P],
    candidates: Sequence[float],
    learnt: Labels,
    val: LabelledFeatures,
    select_by: str,
) -> tuple[float, P]:
    """Return the candidate, and what was fitted with it, that is best on validation faces.

    Of equally good ones the first is taken. `learnt` are the labels that were fitted to.
    """
    fits = {candidate: fitted(candidate) for candidate in candidates}
    rates = positive_rates(learnt)
    best = max(fits, key=lambda c: figure(fits[c](val.features), val.labels, rates, select_by))
    return best, fits[best]


def figure(logits: Logits, labels: Labels, rates: NDArray[np.float64], select_by: str) -> float:
    """Return one mean figure of logits (n, attributes); `rates` are as in `all_figures`."""
    names = tuple(str(i) for i in range(labels.shape[1]))
    found: dict[str, Any] = means(all_figures(names, labels, expit(logits), rates))
    return float(found[select_by] or 0.0)
