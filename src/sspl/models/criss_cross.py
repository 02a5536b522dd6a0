"""Criss-cross attention: each place looks along its row and its column.

After CCNet (Huang et al., ICCV 2019), which docs/method.md#pst-patch-segmentation names as the
reference's head. Applied twice with the same weights, every place has seen every other one.
"""

from typing import Final

import torch
from torch import Tensor, nn

RECURRENCES: Final = 2
REDUCTION: Final = 4
"""Input channels for each channel that the attention works on."""

KEY_REDUCTION: Final = 8
"""Channels of the attention for each channel of query and key."""

DROPOUT: Final = 0.1
"""Chance of each channel to be left out before the classes."""


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
    and, with dropout of whole channels, classified by a 1x1 convolution. No layer is activated.
    """

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        channels = max(1, inputs // REDUCTION)
        self.enter = _conv_norm(inputs, channels)
        self.attention = CrissCrossAttention(channels)
        self.leave = _conv_norm(channels, channels)
        self.bottleneck = _conv_norm(inputs + channels, width)
        self.dropout = nn.Dropout2d(DROPOUT)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to logits (n, classes, h, w)."""
        context = self.enter(x)
        for _ in range(RECURRENCES):
            context = self.attention(context)
        both = torch.cat([x, self.leave(context)], dim=1)
        logits: Tensor = self.classify(self.dropout(self.bottleneck(both)))
        return logits


def _conv_norm(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))
