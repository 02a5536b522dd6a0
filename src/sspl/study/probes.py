"""Attributes from frozen features in a study: logistic regression and nearest neighbours.

What is chosen, the strength of the regularisation or the number of neighbours, is chosen on
validation faces, by the figure that selects epochs in fine-tuning.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from sspl.data.records import MISSING
from sspl.study.probe_settings import KNNSettings
from sspl.training.calibration import fit_temperatures
from sspl.training.feature_settings import LinearSettings
from sspl.training.linear_heads import (
    SURE,
    Features,
    LabelledFeatures,
    Logits,
    choose,
    fit_linear,
)

Predictor = Callable[[Features], Logits]


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Args:
        predict: features (n, d) to calibrated logits (n, attributes).
        chosen: the candidate that validation chose.
    """

    predict: Predictor
    chosen: float


def fit_probe(
    settings: LinearSettings | KNNSettings,
    train: LabelledFeatures,
    val: LabelledFeatures,
    select_by: str,
    calibrate: bool,
) -> Probe:
    """Fit the probe that the settings name, and temperatures if it is to be calibrated."""
    predict: Predictor
    if isinstance(settings, LinearSettings):
        heads = fit_linear(settings, train, val, select_by)
        predict, chosen = heads, heads.strength
    else:
        chosen, predict = fit_knn(settings, train, val, select_by)
    if not calibrate:
        return Probe(predict, chosen)
    temperatures = fit_temperatures(predict(val.features), val.labels)
    return Probe(lambda features: predict(features) / temperatures, chosen)


def fit_knn(
    settings: KNNSettings, train: LabelledFeatures, val: LabelledFeatures, select_by: str
) -> tuple[float, Predictor]:
    """Keep the labelled faces; more neighbours than there are faces means all of them.

    Return how many neighbours validation chose, and what they say.
    """
    numbers = sorted({min(k, len(train.labels)) for k in settings.neighbours})

    def fitted(k: float) -> Predictor:
        return lambda features: knn_logits(train, features, int(k), settings.temperature)

    return choose(fitted, numbers, train.labels, val, select_by)


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
