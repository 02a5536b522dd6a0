"""Criss-cross attention: each place looks along its row and its column.

After CCNet (Huang et al., ICCV 2019), which docs/method.md#pst-patch-segmentation names as the
reference's head. Applied twice with the same weights, every place has seen every other one.
"""

from typing import Final

import torch
from torch import Tensor, nn

from sspl.models.activation import PReLU

RECURRENCES: Final = 2
REDUCTION: Final = 8
"""Input channels for each channel that the attention works on.

CCNet takes 4; with 8 the stage-1 SPL-Net has the 46.2 M parameters of
docs/method.md#the-two-architectures.
"""

KEY_REDUCTION: Final = 8
"""Channels of the attention for each channel of query and key."""


class CrissCrossAttention(nn.Module):
    """Attention of each place over its row and column, the place itself counted once.

    The result is weighted by `gamma` and added to the input; `gamma` starts at 0, so that the
    layer starts as the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        reduced = max(1, channels // KEY_REDUCTION)
        self.query = nn.Conv2d(channels, reduced, 1)
        self.key = nn.Conv2d(channels, reduced, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        query, key, value = self.query(x), self.key(x), self.value(x)
        height = x.shape[2]
        column = torch.einsum("nchw,nckw->nhwk", query, key)
        row = torch.einsum("nchw,nchk->nhwk", query, key)
        # The place itself lies on both lines; the row keeps it.
        itself = torch.eye(height, dtype=torch.bool, device=x.device)[:, None]
        column = column.masked_fill(itself, -torch.inf)
        weights = torch.cat([column, row], dim=3).softmax(3).to(value.dtype)
        seen = torch.einsum("nhwk,nckw->nchw", weights[..., :height], value)
        seen = seen + torch.einsum("nhwk,nchk->nchw", weights[..., height:], value)
        return x + self.gamma * seen


class RecurrentCrissCross(nn.Module):
    """Head with recurrent criss-cross attention between two 3x3 convolutions.

    Its output is concatenated with the input, brought to `width` channels by a 3x3 convolution
    and classified by a 1x1 convolution.
    """

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        channels = max(1, inputs // REDUCTION)
        self.enter = _conv_norm_act(inputs, channels)
        self.attention = CrissCrossAttention(channels)
        self.leave = _conv_norm_act(channels, channels)
        self.bottleneck = _conv_norm_act(inputs + channels, width)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to logits (n, classes, h, w)."""
        context = self.enter(x)
        for _ in range(RECURRENCES):
            context = self.attention(context)
        both = torch.cat([x, self.leave(context)], dim=1)
        logits: Tensor = self.classify(self.bottleneck(both))
        return logits


def _conv_norm_act(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        PReLU(outputs),
    )
