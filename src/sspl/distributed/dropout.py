"""Dropout whose draws belong to the faces of a batch, not to the process that has them."""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from sspl.distributed.random import bernoulli, sent

KEPT_WHOLE: Final[dict[str, int | None]] = {
    "Dropout": None,
    "Dropout1d": 2,
    "Dropout2d": 2,
    "Dropout3d": 2,
    "DropPath": 1,
}
"""Kind of layer to the leading dimensions that are drawn for; None: each number by itself.

`DropPath` (stochastic depth) is timm's, which may not be installed.
"""


@dataclass
class FaceDraws:
    """Where all dropout layers of a network draw from, set before each pass in training.

    Without a generator they draw from torch's own.
    """

    generator: torch.Generator | None = None


class DropoutByFace(nn.Module):
    """Dropout with draws for every face of a batch, of which each process takes its own."""

    def __init__(self, p: float, dimensions: int | None, draws: FaceDraws) -> None:
        """Drop with probability `p` what lies behind the leading `dimensions` together."""
        super().__init__()
        self.p, self.dimensions, self.draws = p, dimensions, draws

    def forward(self, x: Tensor) -> Tensor:
        """Map (faces, ...) to the same shape; outside training nothing changes."""
        if not self.training or not self.p:
            return x
        shape = x.shape[: self.dimensions]
        generator = self.draws.generator or torch.default_generator
        kept = sent(bernoulli(1 - self.p, tuple(shape), generator), x.device).to(x)
        if self.p < 1:
            kept = kept / (1 - self.p)
        return x * kept.view(*shape, *[1] * (x.ndim - len(shape)))

    def extra_repr(self) -> str:
        """Return what the layer is printed with."""
        return f"p={self.p}"


def drop_by_face(network: nn.Module) -> FaceDraws:
    """Let the dropout layers of a network draw by face, in place; return where they draw from."""
    draws = FaceDraws()
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            kind = type(layer).__name__
            if kind in KEPT_WHOLE:
                setattr(parent, name, _by_face(layer, KEPT_WHOLE[kind], draws))
    return draws


def _by_face(layer: Any, dimensions: int | None, draws: FaceDraws) -> DropoutByFace:
    p = layer.drop_prob if hasattr(layer, "drop_prob") else layer.p
    return DropoutByFace(float(p or 0.0), dimensions, draws).train(layer.training)
