"""Learning-rate factors as pure functions of progress."""

import math
from collections.abc import Sequence
from typing import Final

from pydantic import Field

from sspl.settings import Settings

MOST_WARMUP: Final = 0.5
"""Largest share of a run that may warm up."""


def warmup_cosine(progress: float, warmup: float, floor: float = 0.001) -> float:
    """Return the learning-rate factor at `progress` in [0, 1].

    Linear from near 0 to 1 over the first `warmup` share, then a half cosine down to `floor`.

    Examples:
        >>> [round(warmup_cosine(p, warmup=0.2), 2) for p in (0.1, 0.2, 0.6, 1.0)]
        [0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return max(progress / warmup, floor)
    after = (progress - warmup) / (1 - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(after, 1.0)))


def stepwise(epoch: int, warmup_epochs: int, steps: Sequence[tuple[int, float]]) -> float:
    """Return the learning-rate factor of a 0-based epoch.

    `steps` are (until epoch, factor) pairs with growing ends; an epoch before the end of a pair
    has its factor, epochs past the last have the last's. The first `warmup_epochs` rise linearly
    to the first factor, which the last of them has (docs/method.md#optimisation-in-the-reference).

    Examples:
        >>> [stepwise(epoch, 2, [(4, 1.0), (6, 0.1)]) for epoch in range(6)]
        [0.5, 1.0, 1.0, 1.0, 0.1, 0.1]
    """
    if epoch < warmup_epochs:
        return steps[0][1] * (epoch + 1) / warmup_epochs
    for until, factor in steps:
        if epoch < until:
            return factor
    return steps[-1][1]


class ScheduleSettings(Settings):
    """Learning rate over the run, as a factor on `optim.lr`.

    `steps` are (until epoch, factor) pairs with a linear warm-up to the first factor; without
    them the warm-up, at most half of the run, leads into a half cosine down to a thousandth.

    Examples:
        >>> ScheduleSettings(steps=((4, 1.0), (6, 0.1))).factor(5, 1.0, epochs=6)
        0.1
    """

    warmup_epochs: int = Field(0, ge=0, description="epochs in which the rate rises")
    steps: tuple[tuple[int, float], ...] = Field(
        (), description="until which epoch which factor on optim.lr; none: a half cosine"
    )

    @property
    def whole(self) -> bool:
        """Whether the factor of an epoch depends on how many there are in all."""
        return not self.steps

    def factor(self, epoch: int, progress_in_epoch: float, epochs: int) -> float:
        """Return the factor in a 0-based epoch; `progress_in_epoch` is in (0, 1]."""
        if self.steps:
            return stepwise(epoch, self.warmup_epochs, self.steps)
        progress = (epoch + progress_in_epoch) / epochs
        return warmup_cosine(progress, min(self.warmup_epochs / epochs, MOST_WARMUP))
