"""Thresholds, and where a model had better say "not sure", chosen on the validation faces."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from sspl.data.records import MISSING, Labels
from sspl.models.decisions import THRESHOLD, Band, Decisions

ThresholdRule = Literal["half", "balanced", "f1"]

FEWEST: Final = 10
"""Faces of either kind below which an attribute keeps the threshold 0.5."""

NEVER_SURE: Final[Band] = (0.0, 1.0)
_CLOSEST: Final = 1e-9

Floats = NDArray[np.float64]
Truth = NDArray[np.bool_]


def best_threshold(probabilities: Floats, truth: Truth, rule: ThresholdRule) -> float:
    """Return the threshold with the best balanced accuracy or F1; of equals the one next to 0.5.

    Args:
        probabilities: float64 (n,).
        truth: bool (n,), with both kinds.
        rule: `half` is 0.5 whatever the faces.

    Thresholds lie halfway between neighbouring probabilities, and at 0.5.
    """
    if rule == "half":
        return THRESHOLD
    values = np.unique(probabilities)
    candidates = np.append((values[1:] + values[:-1]) / 2, THRESHOLD)
    order = np.sort(probabilities[truth]), np.sort(probabilities[~truth])
    # How many of each kind lie at or above each candidate.
    hits, alarms = (len(o) - np.searchsorted(o, candidates) for o in order)
    positives, negatives = len(order[0]), len(order[1])
    if rule == "balanced":
        worth = (hits / positives + 1 - alarms / negatives) / 2
    else:
        worth = 2 * hits / (hits + alarms + positives)
    best = candidates[worth >= worth.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - THRESHOLD))])


def unsure_band(
    probabilities: Floats, truth: Truth, threshold: float, accuracy: float
) -> Band | None:
    """Return the smallest band about a threshold outside which decisions are right often enough.

    Its ends are equally far from the threshold on the scale of logits, and the probability of one
    of the faces, which is still decided, is one of them.

    Args:
        probabilities: float64 (n,).
        truth: bool (n,).
        threshold: from which on the answer is yes.
        accuracy: share of right decisions among the faces outside the band.

    None where all decisions together are right often enough, `NEVER_SURE` where not even `FEWEST`
    faces farthest from the threshold are.
    """
    if len(truth) < FEWEST:
        return NEVER_SURE
    inner = np.clip([threshold, *probabilities], _CLOSEST, 1 - _CLOSEST)
    middle, places = logit(inner[0]), logit(inner[1:])
    distances = np.abs(places - middle)
    right = (probabilities >= threshold) == truth
    order = np.argsort(distances, kind="stable")
    # Right decisions among the k-th nearest face and all that are farther away.
    farther = np.arange(len(order), 0, -1)
    shares = np.cumsum(right[order][::-1])[::-1] / farther
    # A band leaves out all faces nearer than its end, never one of several as far away.
    first_of_equals = np.append(True, np.diff(distances[order]) > 0)
    enough = (shares >= accuracy) & first_of_equals & (farther >= FEWEST)
    if not enough.any():
        return NEVER_SURE
    nearest = int(np.argmax(enough))
    if nearest == 0:
        return None
    face = order[nearest]
    end = float(probabilities[face])
    other = float(expit(2 * middle - places[face]))
    return (min(end, other), max(end, other))


def never_sure(decisions: Decisions, names: tuple[str, ...]) -> bool:
    """Tell whether no face could get an answer, of all attributes together."""
    return all(decisions.unsure.get(name) == NEVER_SURE for name in names)


def choose_decisions(
    names: tuple[str, ...],
    probabilities: Floats,
    labels: Labels,
    rule: ThresholdRule,
    accuracy: float | None,
    given: Mapping[str, float] = MappingProxyType({}),
) -> Decisions:
    """Choose each attribute's threshold and, with an `accuracy` to reach, its band.

    Args:
        names: attributes.
        probabilities: float64 (n, attributes), calibrated, of the validation faces.
        labels: int8 (n, attributes); missing ones are left out.
        rule, accuracy: as in `best_threshold` and `unsure_band`.
        given: thresholds that are not to be chosen, by attribute.

    An attribute with fewer than `FEWEST` faces of either kind keeps 0.5.
    """
    thresholds: dict[str, float] = {}
    unsure: dict[str, Band] = {}
    for i, name in enumerate(names):
        known = labels[:, i] != MISSING
        truth, found = labels[known, i] == 1, probabilities[known, i]
        threshold = THRESHOLD
        if name in given:
            threshold = given[name]
        elif min(truth.sum(), (~truth).sum()) >= FEWEST:
            threshold = best_threshold(found, truth, rule)
        if threshold != THRESHOLD:
            thresholds[name] = threshold
        band = None if accuracy is None else unsure_band(found, truth, threshold, accuracy)
        if band is not None:
            unsure[name] = band
    return Decisions(thresholds=thresholds, unsure=unsure)
