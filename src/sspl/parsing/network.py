"""A bilateral segmentation network after BiSeNetV2 (Yu et al., IJCV 2021), for small inputs.

A detail branch keeps resolution, a semantic branch gathers context at 1/32, and guided
aggregation lets each gate the other. Two departures from the paper, both for faces of about
256 px on a CPU: the detail branch stops at 1/4 instead of 1/8, and every width is scaled.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sspl.parsing.parser_settings import ParserModelSettings


def conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    """Return convolution, BatchNorm and, when `act`, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if act:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Stem(nn.Module):
    """Semantic branch to 1/4: a convolution path and a pooling path, concatenated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv(3, width, stride=2)
        self.left = nn.Sequential(conv(width, width // 2, 1), conv(width // 2, width, stride=2))
        self.fuse = conv(2 * width, width)

    def forward(self, image: Tensor) -> Tensor:
        """Map (n, 3, h, w) to (n, width, h/4, w/4)."""
        x = self.first(image)
        pooled = F.max_pool2d(x, 3, 2, 1)
        fused: Tensor = self.fuse(torch.cat([self.left(x), pooled], dim=1))
        return fused


class GatherExpand(nn.Module):
    """Gather-and-expansion layer: 3x3, depth-wise expansion by 6, 1x1 projection, residual."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, expansion: int = 6) -> None:
        super().__init__()
        hidden = inputs * expansion
        depthwise = [conv(inputs, inputs), conv(inputs, hidden, stride=stride, groups=inputs)]
        if stride == 2:
            depthwise.insert(2, conv(hidden, hidden, groups=hidden, act=False))
        self.body = nn.Sequential(*depthwise, conv(hidden, outputs, 1, act=False))
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2 or inputs != outputs:
            self.shortcut = nn.Sequential(
                conv(inputs, inputs, stride=stride, groups=inputs, act=False),
                conv(inputs, outputs, 1, act=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h/stride, w/stride)."""
        return F.relu(self.body(x) + self.shortcut(x))


class ContextEmbedding(nn.Module):
    """Add the global average to every place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.embed = conv(width, width, 1)
        self.out = conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width, h, w) to the same shape."""
        context = self.embed(self.norm(x.mean((2, 3), keepdim=True)))
        embedded: Tensor = self.out(x + context)
        return embedded


class GuidedAggregation(nn.Module):
    """Bilateral guided aggregation: each branch gates the other, at its own resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.detail_keep = nn.Sequential(
            conv(width, width, groups=width, act=False), nn.Conv2d(width, width, 1, bias=False)
        )
        self.detail_down = conv(width, width, stride=2, act=False)
        self.semantic_keep = nn.Sequential(
            conv(width, width, groups=width, act=False), nn.Conv2d(width, width, 1, bias=False)
        )
        self.semantic_up = conv(width, width, act=False)
        self.out = conv(width, width)

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        """Fuse (n, width, h, w) with (n, width, h', w') into (n, width, h, w)."""
        large, small = detail.shape[2:], (semantic.shape[2], semantic.shape[3])
        up = resize(self.semantic_up(semantic), large)
        fine = self.detail_keep(detail) * torch.sigmoid(up)
        down = F.adaptive_avg_pool2d(self.detail_down(detail), small)
        coarse = down * torch.sigmoid(self.semantic_keep(semantic))
        fused: Tensor = self.out(fine + resize(coarse, large))
        return fused


def resize(x: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Resize (n, c, h, w) bilinearly to `size`."""
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


class ParserNetwork(nn.Module):
    """Faces to class logits.

    Args:
        classes: number of semantic classes.
        settings: size of the network.
    """

    def __init__(self, classes: int, settings: ParserModelSettings) -> None:
        super().__init__()

        def scaled(channels: int) -> int:
            return max(8, round(channels * settings.width / 8) * 8)

        c1, c2, c3 = scaled(64), scaled(64), scaled(128)
        self.detail = nn.Sequential(
            conv(3, c1, stride=2),
            conv(c1, c1),
            conv(c1, c2, stride=2),
            conv(c2, c2),
            conv(c2, c2),
            conv(c2, c3),
            conv(c3, c3),
        )
        s1, s2, s3 = scaled(32), scaled(64), scaled(128)
        self.stem = Stem(s1)
        self.stage3 = nn.Sequential(GatherExpand(s1, s2, 2), GatherExpand(s2, s2))
        self.stage4 = nn.Sequential(GatherExpand(s2, s3, 2), GatherExpand(s3, s3))
        self.stage5 = nn.Sequential(
            GatherExpand(s3, c3, 2), GatherExpand(c3, c3), ContextEmbedding(c3)
        )
        self.aggregate = GuidedAggregation(c3)
        self.head = self._head(c3, c3, classes)
        self.boosters = nn.ModuleList(self._head(w, w, classes) for w in (s1, s2, s3, c3))

    @staticmethod
    def _head(inputs: int, hidden: int, classes: int) -> nn.Sequential:
        return nn.Sequential(conv(inputs, hidden), nn.Dropout2d(0.1), nn.Conv2d(hidden, classes, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map float (n, 3, h, w) in [-1, 1], sides multiples of 32, to logits.

        Returns (n, classes, h/4, w/4); in training mode the booster heads' coarser logits of
        the semantic branch follow, which exist for the loss only.
        """
        detail = self.detail(image)
        stem = self.stem(image)
        stage3 = self.stage3(stem)
        stage4 = self.stage4(stage3)
        stage5 = self.stage5(stage4)
        logits = self.head(self.aggregate(detail, stage5))
        if not self.training:
            return [logits]
        stages = (stem, stage3, stage4, stage5)
        return [logits, *(head(x) for head, x in zip(self.boosters, stages, strict=True))]
