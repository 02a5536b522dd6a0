"""Small accumulators for figures that grow batch by batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from sspl.metrics.pixels import mean_iou


@dataclass
class Mean:
    """A weighted mean under way.

    Sums may be tensors of any device, so that nobody waits for them before they are looked at.

    Examples:
        >>> mean = Mean(total=3, count=4)
        >>> mean.merge(Mean(1, 1))
        >>> mean.value()
        0.8
    """

    total: float | Tensor = 0.0
    count: float | Tensor = 0.0

    @classmethod
    def of(cls, mean: Tensor, count: float) -> Self:
        """Return a batch's mean over `count` observations, scalar, as a tally where it is."""
        # MPS has no larger floats.
        wide = torch.float32 if mean.device.type == "mps" else torch.float64
        return cls(mean.detach().to(wide) * count, count)

    def add(self, total: float | Tensor, count: float | Tensor) -> None:
        """Add `count` observations whose sum is `total`."""
        self.total = self.total + total
        self.count = self.count + count

    def merge(self, other: "Mean") -> None:
        """Add another batch's observations."""
        self.add(other.total, other.count)

    def value(self) -> float:
        """Return the mean, NaN before the first observation."""
        total, count = float(self.total), float(self.count)
        return total / count if count else float("nan")

    def state(self) -> dict[str, Any]:
        """Return what `restored` makes the same tally from, as JSON values."""
        return {"total": float(self.total), "count": float(self.count)}


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
        """Add another batch's counts, where these are: those of a resumed run come from a file."""
        self.counts = self.counts.to(other.counts.device) + other.counts

    def value(self) -> float:
        """Return the mean IoU over the classes seen so far."""
        return mean_iou(self.counts.cpu())

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


def states(tallies: Mapping[str, Tally]) -> dict[str, dict[str, Any]]:
    """Return the state of each tally, read from wherever it is."""
    return {name: tally.state() for name, tally in tallies.items()}


def together(everyones: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Tally]:
    """Return the tallies of all processes as one, from their states."""
    whole, *others = (
        {name: restored(state) for name, state in tallies.items()} for tallies in everyones
    )
    for tallies in others:
        add(whole, tallies)
    return whole
