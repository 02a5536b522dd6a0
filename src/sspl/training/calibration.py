"""Probabilities that mean what they say: one temperature for each attribute.

After Guo et al., ICML 2017; fitted on the validation faces. Decisions at 0.5 stay as they are.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_expit

from sspl.data.records import MISSING, Labels

RANGE: Final = (0.2, 5.0)
FEWEST: Final = 10
"""Faces of either kind below which an attribute takes the temperature of all together."""


def log_loss(logits: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Return the mean binary cross-entropy of logits (n,)."""
    return float(-log_expit(np.where(truth, logits, -logits)).mean())


def fit_temperature(logits: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Return the temperature, within `RANGE`, whose division of logits (n,) fits best."""
    low, high = np.log(RANGE)
    found = minimize_scalar(
        lambda t: log_loss(logits / np.exp(t), truth), bounds=(low, high), method="bounded"
    )
    return float(np.exp(found.x))


def fit_temperatures(logits: NDArray[np.float64], labels: Labels) -> NDArray[np.float64]:
    """Return float64 (a,), a temperature for each attribute.

    Args:
        logits: float (n, a) of the validation faces.
        labels: int8 (n, a); missing ones are left out. Without any known label it is 1.
    """
    known = labels != MISSING
    if not known.any():
        return np.ones(labels.shape[1])
    together = fit_temperature(logits[known], labels[known] == 1)
    temperatures = np.full(labels.shape[1], together)
    for i in range(labels.shape[1]):
        truth = labels[known[:, i], i] == 1
        if min(truth.sum(), (~truth).sum()) >= FEWEST:
            temperatures[i] = fit_temperature(logits[known[:, i], i], truth)
    return temperatures
