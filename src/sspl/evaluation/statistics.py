"""How sure a figure is: bootstrap over test faces, the pictures of one person kept together.

A resample draws as many people (or faces, where nobody is named) as there are, with replacement;
an interval lies between percentiles of a figure over the resamples (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993). All figures are exact in every resample: those of decisions
by weighted counts, those of rankings by weighted cumulative sums. It is code of our own because
no library at hand resamples people and ranks once for all resamples.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sspl.data.records import IDENTITY, MISSING
from sspl.evaluation.predictions import Predictions
from sspl.metrics.attributes import THRESHOLD
from sspl.metrics.rankings import ranking_figures, ratio

RESAMPLES: Final = 1000
LEVEL: Final = 0.95
_95_PERCENT: Final = 1.959964
"""Standard deviations on either side of a normal's middle that hold `LEVEL` of it."""

COUNTED: Final = ("accuracy", "balanced_accuracy", "f1")
RANKED: Final = ("average_precision", "auc")
RESAMPLED: Final = (*COUNTED, *RANKED)
"""Figures that have intervals. Calibration error has none: resampling itself makes it larger."""

MOST_RANKED: Final = 2_000_000_000
FEWEST_RANKED: Final = 100
"""Rankings are summed anew in every resample: with very many faces they get fewer, so that
resamples x faces x attributes stay below `MOST_RANKED`, but not fewer than `FEWEST_RANKED`.
"""

COLUMNS_AT_ONCE: Final = 64
MOST_WEIGHTS: Final = 4_000_000
"""Weights held at a time; they are drawn in parts of no more."""

Array = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Resampling:
    """Bootstrap resamples of some faces; the same every time they are asked for.

    Args:
        unit: int64 (faces,), numbers from 0 of what is drawn: a person, or a single face.
        count: how many resamples.
        seed: of the draws.
    """

    unit: NDArray[np.int64]
    count: int = RESAMPLES
    seed: int = 0

    @property
    def units(self) -> int:
        """How many people or faces are drawn, and drawn from."""
        return int(self.unit.max()) + 1

    @property
    def unit_name(self) -> str:
        """What is drawn."""
        return "faces" if self.units == len(self.unit) else "people"

    def weights(self) -> Iterator[NDArray[np.float32]]:
        """Yield float32 (some resamples, units): how often each unit was drawn."""
        rng, units = np.random.default_rng(self.seed), self.units
        at_once = max(1, MOST_WEIGHTS // len(self.unit))
        for start in range(0, self.count, at_once):
            rows = min(at_once, self.count - start)
            drawn = rng.integers(units, size=(rows, units)) + units * np.arange(rows)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=rows * units)
            yield counts.reshape(rows, units).astype(np.float32)

    def sums(self, values: NDArray[Any]) -> Array:
        """Return the sums of whole numbers (faces, columns) in each resample (count, columns)."""
        faces = len(self.unit)
        gather = csr_array((np.ones(faces, np.float32), (self.unit, np.arange(faces))))
        columns = range(0, values.shape[1], COLUMNS_AT_ONCE)
        parts = [gather @ values[:, i : i + COLUMNS_AT_ONCE].astype(np.float32) for i in columns]
        by_unit = np.concatenate(parts, axis=1)
        return np.concatenate([weights @ by_unit for weights in self.weights()]).astype(np.float64)


def resampling_of(predictions: Predictions, count: int = RESAMPLES, seed: int = 0) -> Resampling:
    """Return resamples of people where the faces have a group `identity`, else of faces.

    A face of unknown identity is a unit of its own.
    """
    people = predictions.groups.get(IDENTITY, ("",) * len(predictions))
    keys = [f"person {who}" if who else f"face {i}" for i, who in enumerate(people)]
    unit = np.unique(keys, return_inverse=True)[1].astype(np.int64)
    return Resampling(unit, count, seed)


@dataclass(frozen=True)
class DecisionCounts:
    """Outcomes of decisions, arrays of one shape; a figure is NaN where it is not defined."""

    true_positives: Array
    false_negatives: Array
    false_positives: Array
    true_negatives: Array

    @property
    def positives(self) -> Array:
        """Faces whose label is yes."""
        return self.true_positives + self.false_negatives

    @property
    def negatives(self) -> Array:
        """Faces whose label is no."""
        return self.false_positives + self.true_negatives

    def accuracy(self) -> Array:
        """Share of right decisions."""
        right = self.true_positives + self.true_negatives
        return ratio(right, self.positives + self.negatives)

    def true_positive_rate(self) -> Array:
        """Share of the positives that are found."""
        return ratio(self.true_positives, self.positives)

    def false_positive_rate(self) -> Array:
        """Share of the negatives that are taken for positives."""
        return ratio(self.false_positives, self.negatives)

    def balanced_accuracy(self) -> Array:
        """Mean of the shares of positives and of negatives that are told rightly."""
        return (self.true_positive_rate() + 1 - self.false_positive_rate()) / 2

    def f1(self) -> Array:
        """Harmonic mean of precision and recall; not defined without a positive."""
        wrong = self.false_negatives + self.false_positives
        f1 = ratio(2 * self.true_positives, 2 * self.true_positives + wrong)
        return np.where(self.positives > 0, f1, np.nan)


def outcomes(predictions: Predictions) -> NDArray[np.bool_]:
    """Return bool (4, faces, attributes), the outcomes of `DecisionCounts` in its order.

    All are False where the label is missing.
    """
    yes = predictions.labels == 1
    no = (predictions.labels != MISSING) & ~yes
    said = predictions.probabilities >= THRESHOLD
    return np.stack([yes & said, yes & ~said, no & said, no & ~said])


def resampled_counts(predictions: Predictions, resampling: Resampling) -> DecisionCounts:
    """Return the outcomes in each resample, arrays (resamples, attributes)."""
    table = outcomes(predictions)
    flat = np.concatenate(list(table), axis=1)
    return DecisionCounts(*np.split(resampling.sums(flat), len(table), axis=1))


def resampled_figures(
    predictions: Predictions, resampling: Resampling, figures: Sequence[str] = RESAMPLED
) -> dict[str, Array]:
    """Return for each of `figures` float64 (resamples, attributes), NaN where not defined."""
    found = {}
    if set(figures) & set(COUNTED):
        counts = resampled_counts(predictions, resampling)
        found = {name: getattr(counts, name)() for name in COUNTED if name in figures}
    if set(figures) & set(RANKED):
        found |= _resampled_rankings(predictions, resampling)
    return {name: found[name] for name in figures}


def point_figures(predictions: Predictions, figures: Sequence[str] = RESAMPLED) -> dict[str, Array]:
    """Return for each of `figures` float64 (attributes,) of the faces as they are.

    They equal those of `sspl.metrics.attributes`, and take a fraction of the time.
    """
    counts = DecisionCounts(*outcomes(predictions).sum(1).astype(np.float64))
    found = {name: getattr(counts, name)() for name in COUNTED if name in figures}
    if set(figures) & set(RANKED):
        found |= {name: np.full(len(predictions.attributes), np.nan) for name in RANKED}
        for column in range(len(predictions.attributes)):
            known = predictions.labels[:, column] != MISSING
            truth = predictions.labels[known, column] == 1
            if truth.any():
                once = np.ones((len(truth), 1), np.float32)
                both = ranking_figures(predictions.probabilities[known, column], truth, once)
                for name, (value,) in zip(RANKED, both, strict=True):
                    found[name][column] = value
    return {name: found[name] for name in figures}


def _resampled_rankings(predictions: Predictions, resampling: Resampling) -> dict[str, Array]:
    shape = (resampling.count, len(predictions.attributes))
    found = {name: np.full(shape, np.nan) for name in RANKED}
    start = 0
    for weights in resampling.weights():
        rows = slice(start, start := start + len(weights))
        by_face = np.ascontiguousarray(weights[:, resampling.unit].T)
        for column in range(len(predictions.attributes)):
            known = predictions.labels[:, column] != MISSING
            scores = predictions.probabilities[known, column]
            truth = predictions.labels[known, column] == 1
            if truth.any():
                both = ranking_figures(scores, truth, by_face[known])
                for name, values in zip(RANKED, both, strict=True):
                    found[name][rows, column] = values
    return found


def mean_over_attributes(samples: Array) -> Array:
    """Return the mean (resamples,) over those attributes where a figure is defined."""
    defined = ~np.isnan(samples)
    return ratio(np.where(defined, samples, 0).sum(1), defined.sum(1).astype(np.float64))


def interval(samples: Array, level: float = LEVEL) -> Interval | None:
    """Return the percentiles between which `level` of the samples (n,) lie.

    Samples that are not defined are left out; None where that leaves fewer than half of them.
    """
    defined = samples[~np.isnan(samples)]
    if 2 * len(defined) < len(samples) or not len(defined):
        return None
    low, high = np.quantile(defined, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def wilson(hits: int, count: int) -> tuple[float, float, float]:
    """Return a share and the limits of its 95 % interval after Wilson."""
    share, z2 = hits / count, _95_PERCENT**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    half = _95_PERCENT * half / (1 + z2 / count)
    return share, max(0.0, centre - half), min(1.0, centre + half)


def interval_summary(
    predictions: Predictions, resampling: Resampling, without: Collection[str] = ()
) -> dict[str, Any]:
    """Return the intervals of the mean figures and of each attribute's, JSON-able.

    Means are over the attributes that are not in `without`.
    """
    judged = [i for i, name in enumerate(predictions.attributes) if name not in without]
    affordable = MOST_RANKED // max(1, predictions.labels.size)
    fewer = min(resampling.count, max(FEWEST_RANKED, affordable))
    samples = resampled_figures(predictions, resampling, COUNTED)
    samples |= resampled_figures(predictions, replace(resampling, count=fewer), RANKED)
    return {
        "level": LEVEL,
        "resamples": resampling.count,
        "ranked_resamples": fewer,
        "seed": resampling.seed,
        "drawn": resampling.unit_name,
        "units": resampling.units,
        "mean": {name: interval(mean_over_attributes(s[:, judged])) for name, s in samples.items()},
        "attributes": {
            attribute: {name: interval(s[:, i]) for name, s in samples.items()}
            for i, attribute in enumerate(predictions.attributes)
        },
    }


def drawn_text(summary: Mapping[str, Any]) -> str:
    """Return in words what `interval_summary` was drawn from."""
    text = (
        f"{100 * summary['level']:g} % intervals from {summary['resamples']:,} resamples of "
        f"{summary['units']:,} {summary['drawn']}"
    )
    fewer = summary.get("ranked_resamples", summary["resamples"])
    return text if fewer == summary["resamples"] else f"{text} ({fewer:,} for AP and AUC)"
