"""Small accumulators for figures that grow batch by batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sspl.metrics.pixels import mean_iou


@dataclass
class Mean:
    """A weighted mean under way.

    Examples:
        >>> mean = Mean(total=3, count=4)
        >>> mean.merge(Mean(1, 1))
        >>> mean.value()
        0.8
    """

    total: float = 0.0
    count: float = 0.0

    def add(self, total: float, count: float) -> None:
        """Add `count` observations whose sum is `total`."""
        self.total += total
        self.count += count

    def merge(self, other: "Mean") -> None:
        """Add another batch's observations."""
        self.add(other.total, other.count)

    def value(self) -> float:
        """Return the mean, NaN before the first observation."""
        return self.total / self.count if self.count else float("nan")

    def state(self) -> dict[str, Any]:
        """Return what `restored` makes the same tally from, as JSON values."""
        return {"total": self.total, "count": self.count}


@dataclass
class Confusion:
    """A pixel confusion matrix under way; its value is the mean IoU.

    Examples:
        >>> tally = Confusion(torch.tensor([[1, 1], [0, 0]]))
        >>> tally.merge(Confusion(torch.tensor([[0, 0], [0, 1]])))
        >>> tally.value()
        0.5
    """

    counts: Tensor

    def merge(self, other: "Confusion") -> None:
        """Add another batch's counts."""
        self.counts = self.counts + other.counts

    def value(self) -> float:
        """Return the mean IoU over the classes seen so far."""
        return mean_iou(self.counts)

    def state(self) -> dict[str, Any]:
        """Return what `restored` makes the same tally from, as JSON values."""
        return {"counts": self.counts.tolist()}


def restored(state: Mapping[str, Any]) -> Mean | Confusion:
    """Return the tally that has this state."""
    if "counts" in state:
        return Confusion(torch.tensor(state["counts"]))
    return Mean(**state)


Tally = Mean | Confusion


def add(tallies: dict[str, Tally], more: Mapping[str, Tally]) -> None:
    """Add other observations to tallies by name, in place."""
    for name, tally in more.items():
        if name in tallies:
            tallies[name].merge(tally)  # type: ignore[arg-type]
        else:
            tallies[name] = tally


def together(everyones: Sequence[dict[str, Tally]]) -> dict[str, Tally]:
    """Return the tallies of all processes as one: the first ones, grown by the others."""
    whole, *others = everyones
    for tallies in others:
        add(whole, tallies)
    return whole
