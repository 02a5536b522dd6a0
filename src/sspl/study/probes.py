"""Attributes from frozen features: logistic regression and nearest neighbours.

What is chosen, the strength of the regularisation or the number of neighbours, is chosen on
validation faces, by the figure that selects epochs in fine-tuning.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from sspl.data.records import MISSING, Labels
from sspl.metrics.attributes import all_figures, means, positive_rates
from sspl.study.probe_settings import KNNSettings, LinearSettings
from sspl.training.calibration import fit_temperatures

Features = NDArray[np.float32]
Logits = NDArray[np.float64]
Predictor = Callable[[Features], Logits]

SURE: Final = 0.999
"""Largest probability that a probe states, so that its logit is finite."""


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Args:
        predict: features (n, d) to calibrated logits (n, attributes).
        chosen: the candidate that validation chose.
    """

    predict: Predictor
    chosen: float


@dataclass(frozen=True)
class LabelledFeatures:
    """Features float32 (n, d) and labels int8 (n, attributes) of the same faces."""

    features: Features
    labels: Labels


def fit_linear(
    settings: LinearSettings,
    train: LabelledFeatures,
    val: LabelledFeatures,
    select_by: str,
    calibrate: bool,
) -> Probe:
    """Fit logistic regressions; of equally good strengths the first, so the largest, is taken."""
    scaled = standardiser(train.features)
    x = scaled(train.features)

    def fitted(strength: float) -> Predictor:
        weights = [_regression(x, column, strength) for column in train.labels.T]
        matrix = np.stack([w for w, _ in weights], axis=1)
        bias = np.array([b for _, b in weights])
        return lambda features: scaled(features) @ matrix + bias

    return _choose(fitted, settings.strengths, train, val, select_by, calibrate)


def standardiser(features: Features) -> Callable[[Features], NDArray[np.float64]]:
    """Return the map to zero mean and unit deviation by these features; constant ones become 0."""
    mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    inverse = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-6)
    return lambda x: (x - mean) * inverse


def _regression(
    x: NDArray[np.float64], column: NDArray[np.int8], strength: float
) -> tuple[NDArray[np.float64], float]:
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


def fit_knn(
    settings: KNNSettings,
    train: LabelledFeatures,
    val: LabelledFeatures,
    select_by: str,
    calibrate: bool,
) -> Probe:
    """Keep the labelled faces; more neighbours than there are faces means all of them."""
    numbers = sorted({min(k, len(train.labels)) for k in settings.neighbours})

    def fitted(k: float) -> Predictor:
        return lambda features: knn_logits(train, features, int(k), settings.temperature)

    return _choose(fitted, numbers, train, val, select_by, calibrate)


def knn_logits(train: LabelledFeatures, features: Features, k: int, temperature: float) -> Logits:
    """Return logits (n, attributes) of the votes of each face's `k` nearest labelled faces.

    A neighbour has no vote on an attribute that is missing on it, and the next nearest takes its
    place. An attribute that is known on no face has logit 0.
    """
    similarity = _unit(features) @ _unit(train.features).T
    logits = np.zeros((len(features), train.labels.shape[1]))
    found: dict[bytes, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
    for i, column in enumerate(train.labels.T):
        known = column != MISSING
        if not known.any():
            continue
        # Attributes that are known on the same faces share their neighbours.
        if known.tobytes() not in found:
            found[known.tobytes()] = _nearest(similarity, np.flatnonzero(known), k, temperature)
        nearest, votes = found[known.tobytes()]
        yes = (votes * (column[nearest] == 1)).sum(1)
        logits[:, i] = logit(np.clip(yes, 1 - SURE, SURE))
    return logits


def _nearest(
    similarity: NDArray[np.float64], known: NDArray[np.int64], k: int, temperature: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return (n, k) the nearest of the `known` faces, and their votes, which sum to 1."""
    among = similarity[:, known]
    order = np.argsort(-among, axis=1, kind="stable")[:, :k]
    near = np.take_along_axis(among, order, axis=1)
    votes = np.exp((near - near[:, :1]) / temperature)
    return known[order], votes / votes.sum(1, keepdims=True)


def _unit(features: Features) -> NDArray[np.float64]:
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    unit: NDArray[np.float64] = features / np.maximum(lengths, 1e-12)
    return unit


def _choose(
    fitted: Callable[[float], Predictor],
    candidates: Sequence[float],
    train: LabelledFeatures,
    val: LabelledFeatures,
    select_by: str,
    calibrate: bool,
) -> Probe:
    names = tuple(str(i) for i in range(train.labels.shape[1]))
    rates = positive_rates(train.labels)

    def figure(predict: Predictor) -> float:
        found: dict[str, Any] = means(
            all_figures(names, val.labels, expit(predict(val.features)), rates)
        )
        return float(found[select_by] or 0.0)

    predictors = {candidate: fitted(candidate) for candidate in candidates}
    best = max(predictors, key=lambda candidate: figure(predictors[candidate]))
    predict, logits = predictors[best], predictors[best](val.features)
    temperatures = fit_temperatures(logits, val.labels) if calibrate else np.ones(logits.shape[1])
    return Probe(lambda features: predict(features) / temperatures, best)
