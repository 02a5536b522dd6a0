"""PReLU with a backward pass that is quick on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PReLU(nn.PReLU):
    """torch's PReLU with another backward pass on a CPU, where torch's is slow.

    Same parameters and, up to rounding, numbers. Outside training, on accelerators and where
    torch compiles it is torch's own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape."""
        plain = not (self.training and x.device.type == "cpu" and torch.is_grad_enabled())
        if plain or torch.compiler.is_compiling():
            return super().forward(x)
        active: Tensor = _QuickBackward.apply(x, self.weight)  # type: ignore[no-untyped-call]
        return active


class _QuickBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slopes: Tensor) -> Tensor:
        ctx.save_for_backward(x, slopes)
        return F.prelu(x, slopes.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, slopes = ctx.saved_tensors
        above = torch.ops.aten.threshold_backward(gradient, x, 0)
        below = gradient - above
        by_channel = slopes.to(gradient.dtype)[:, None, None]
        # Channels last these are rows of memory, which add up sooner than over (0, 2, 3).
        rows = (below * x).permute(0, 2, 3, 1).flatten(0, 2)
        return torch.addcmul(above, below, by_channel), rows.sum(0).to(slopes.dtype)
