"""Exponential moving averages of weights."""

from itertools import chain

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class WarmedAverage(AveragedModel):
    """A copy of a network, buffers and all: an exponential moving average whose decay grows.

    After n updates the decay is at most (1 + n) / (10 + n), so that a short training does not
    keep a share of its random start. torch's own counts updates on the network's device, which each
    of them would wait for; here that stays on the CPU.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Follow the network by one step."""
        n = int(self.n_averaged)
        keep = min(self.decay, (1 + n) / (10 + n))
        own, other = (chain(m.parameters(), m.buffers()) for m in (self.module, model))
        for mean, value in zip(own, other, strict=True):
            if n and mean.is_floating_point():
                mean.lerp_(value.to(mean.dtype), 1 - keep)
            else:
                mean.copy_(value)
        self.n_averaged += 1


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
    return WarmedAverage(network, decay)
