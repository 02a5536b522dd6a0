"""Exponential moving averages of weights."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def warmed_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]:
    """Return an in-place exponential moving average whose decay grows to `decay`.

    After n updates the decay is at most (1 + n) / (10 + n), so that a short training does not
    keep a share of its random start.
    """

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], updates: Any) -> None:
        n = int(updates)
        keep = min(decay, (1 + n) / (10 + n))
        for mean, value in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value.to(mean.dtype), 1 - keep)
            else:
                mean.copy_(value)

    return update


def averaged_model(network: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of a network that follows it, BatchNorm statistics too.

    Call `update_parameters(network)` after every step; the copy itself is `.module`.

    Examples:
        >>> layer = torch.nn.Linear(1, 1)
        >>> average = averaged_model(layer, decay=0.99)
        >>> average.update_parameters(layer)
        >>> torch.equal(average.module.weight, layer.weight)
        True
    """
    return AveragedModel(network, multi_avg_fn=warmed_average(decay), use_buffers=True)
