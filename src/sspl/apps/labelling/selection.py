"""Which faces to label next: uncertainty, then diversity, as functions of arrays alone."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

POOL: Final = 4
"""Uncertain faces that are looked at for each one that is picked."""


def uncertainty(opinions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map probabilities (n, a) to (n,): the expected number of wrong attributes of each face."""
    doubt: NDArray[np.float64] = np.minimum(opinions, 1 - opinions).sum(axis=1)
    return doubt


def spread(
    features: NDArray[np.float32],
    free: NDArray[np.bool_],
    centres: NDArray[np.float32],
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Pick faces that are unlike each other and unlike `centres`.

    The seeding of k-means++ (Arthur and Vassilvitskii, SODA 2007): each is drawn with a
    probability in step with its squared distance from the nearest that is there already, the
    first evenly when nothing is. The farthest face itself, as in core-set selection (Sener and
    Savarese, ICLR 2018), would be an outlier again and again.

    Args:
        features: (n, d).
        free: (n,), faces that may be picked.
        centres: (k, d) of faces to keep away from; k may be 0.
        count: how many.
        rng: draws them.

    Returns:
        int64 (m,), in the order in which they were drawn; m is `count`, or all that are free.
    """
    free = free.copy()
    lengths = np.einsum("nd,nd->n", features, features).astype(np.float64)
    nearest = np.full(len(features), np.inf)

    def keep_away(centre: NDArray[np.float32]) -> None:
        distance = lengths + float(centre @ centre) - 2 * (features @ centre)
        # What rounding leaves of 0 would be a chance for a copy of a centre.
        distance[distance < 1e-5 * lengths] = 0
        np.minimum(nearest, distance, out=nearest)

    for centre in centres:
        keep_away(centre)
    picked: list[int] = []
    for _ in range(min(count, int(free.sum()))):
        weights = np.where(free, nearest, 0.0)
        if not np.isfinite(weights.sum()) or not weights.any():
            weights = free.astype(np.float64)
        face = int(rng.choice(len(weights), p=weights / weights.sum()))
        picked.append(face)
        free[face] = False
        keep_away(features[face])
    return np.array(picked, dtype=np.int64)


def choose(
    features: NDArray[np.float32],
    opinions: NDArray[np.float64],
    taken: NDArray[np.bool_],
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Pick the faces to label next.

    After Zhdanov, arXiv 1901.05954: the `POOL * count` faces of the largest uncertainty are
    kept, and of these some that are spread out (`spread`), away from the labelled ones too.
    Where no face is more uncertain than another, with no answers yet say, all are kept.

    Args:
        features: (n, d).
        opinions: (n, a) probabilities; a may be 0.
        taken: (n,), faces that are labelled, or not to be.
        count: how many.
        rng: draws them.

    Returns:
        int64 (m,); m is `count`, or all that are left.
    """
    doubt = uncertainty(opinions)
    left = np.flatnonzero(~taken)
    centres = features[taken]
    if not len(left) or np.ptp(doubt[left]) == 0:
        return spread(features, ~taken, centres, count, rng)
    pool = left[np.argsort(-doubt[left], kind="stable")[: POOL * count]]
    return pool[spread(features[pool], np.ones(len(pool), dtype=bool), centres, count, rng)]
