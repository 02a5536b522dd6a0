"""The four branches of `splnet` and the heads on them.

docs/method.md#the-two-architectures: whole, upper, middle and lower face, each with one
cross-attention block for each stage of the backbone. Where the text is silent: the first block has
no adapting convolution, since the branch feature has the backbone's width and resolution already
(with one in each branch stage 2 would come to 43.3 M parameters, not 43.2 M); convolutions
have no bias and are followed by BatchNorm and PReLU, as in the backbone.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sspl.domain.regions import REGIONS, WHOLE
from sspl.models.activation import PReLU
from sspl.models.backbones.base import pooled

PARTS: Final = tuple(region for region in REGIONS if region != WHOLE)
"""Regions whose features are fused for the adversarial term."""

REDUCTION: Final = 16
"""Channels of the squeeze-and-excitation for each hidden unit."""


class ChannelGate(nn.Module):
    """Squeeze-and-excitation (Hu et al., CVPR 2018) with a residual: x + x * gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // REDUCTION)
        self.squeeze, self.excite = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape; the gate is one number in (0, 1) a channel."""
        gate: Tensor = self.excite(F.relu(self.squeeze(x.mean((2, 3))))).sigmoid()
        return x + x * gate[:, :, None, None]


class SpatialGate(nn.Module):
    """Gate from the mean and the maximum over channels, with a residual: x + x * gate."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape; the gate is one number in (0, 1) a place."""
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        gate: Tensor = self.conv(summary).sigmoid()
        return x + x * gate


class CrossAttention(nn.Module):
    """One block of a branch: its feature meets the backbone's feature of the stage.

    Where it does not halve, the feature has the stage's width already.
    """

    def __init__(self, inputs: int, width: int, halve: bool) -> None:
        super().__init__()
        self.adapt = nn.Sequential()
        if halve:
            # Rounds up at odd sizes, as the backbone's convolutions of stride 2 do.
            pool = nn.MaxPool2d(2, ceil_mode=True)
            self.adapt = _convolution(inputs, width).append(pool)
        self.channel_gate = ChannelGate(2 * width)
        self.mix = _convolution(2 * width, width)
        self.spatial_gate = SpatialGate()

    def forward(self, feature: Tensor, stage: Tensor) -> Tensor:
        """Map (n, inputs, h, w), or twice that size where it halves, and the stage's map.

        `stage` and the result are (n, width, h, w).
        """
        feature = self.adapt(feature)
        by_channel: Tensor = self.mix(self.channel_gate(torch.cat([feature, stage], dim=1)))
        by_place: Tensor = self.spatial_gate(feature + stage)
        return by_channel + by_place


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), PReLU(outputs))


class Branches(nn.ModuleDict):
    """Region to its chain of blocks, one for each stage of the backbone.

    Examples:
        >>> maps = build_backbone(BackboneSettings(width=0.125))(torch.zeros(2, 3, 64, 64))
        >>> branches = Branches([8, 16, 32, 64])
        >>> branches(maps, regions=("lower",))["lower"].shape
        torch.Size([2, 64])
    """

    def __init__(self, widths: Sequence[int]) -> None:
        """Build branches beside a backbone; its maps have `widths` channels, each half as large."""
        inputs = (widths[0], *widths[:-1])
        chains = {}
        for region in REGIONS:
            chains[region] = nn.ModuleList(
                CrossAttention(before, width, halve=stage > 0)
                for stage, (before, width) in enumerate(zip(inputs, widths, strict=True))
            )
        super().__init__(chains)

    def forward(
        self, maps: Sequence[Tensor], regions: Sequence[str] = REGIONS
    ) -> dict[str, Tensor]:
        """Map the backbone's feature maps to each region's pooled feature, float32 (n, channels).

        Only the branches of `regions` are run.
        """
        return {r: pooled([feature]) for r, feature in self.maps(maps, regions).items()}

    def compile_blocks(self) -> None:
        """Compile each block by itself, so that `maps` profits as a pass does."""
        for region in self:
            for block in self._chain(region):
                block.compile()

    def maps(self, maps: Sequence[Tensor], regions: Sequence[str] = REGIONS) -> dict[str, Tensor]:
        """Map the backbone's feature maps to each region's last one, (n, channels, h, w)."""
        features = {}
        for region in regions:
            feature = maps[0]
            for block, stage in zip(self._chain(region), maps, strict=True):
                feature = block(feature, stage)
            features[region] = feature
        return features

    def stage(self, index: int) -> nn.ModuleList:
        """Return the blocks of all branches that stand beside one stage of the backbone."""
        return nn.ModuleList(self._chain(region)[index] for region in self)

    def _chain(self, region: str) -> nn.ModuleList:
        chain = self[region]
        assert isinstance(chain, nn.ModuleList)
        return chain


class Fusion(nn.Module):
    """Last maps of the upper, middle and lower branch to one pooled feature.

    They are concatenated and brought to the width of one by a 1x1 convolution, BatchNorm and PReLU.

    Examples:
        >>> maps = {region: torch.zeros(2, 8, 4, 4) for region in ("upper", "middle", "lower")}
        >>> Fusion(8)(maps).shape
        torch.Size([2, 8])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(len(PARTS) * width, width, 1, bias=False)
        self.mix = nn.Sequential(convolution, nn.BatchNorm2d(width), PReLU(width))

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Map the branches' last maps, (n, width, h, w) by region, to float32 (n, width)."""
        return pooled([self.mix(torch.cat([maps[region] for region in PARTS], dim=1))])


class RegionHeads(nn.ModuleDict):
    """One linear head for each region that has outputs; the logits keep the outputs' own order.

    Groups are keyed by the region's name (docs/method.md#do-not-repeat-8), and the logits stand
    where the groups say, not group after group ("Do not repeat" 9).

    Examples:
        >>> heads = RegionHeads(4, {"upper": (1,), "lower": (0, 2)})
        >>> heads.set_bias(torch.tensor([5.0, 6.0, 7.0]))
        >>> zero = torch.zeros(1, 4)
        >>> heads({"upper": zero, "lower": zero}).tolist()
        [[5.0, 6.0, 7.0]]
    """

    order: Tensor

    def __init__(self, features: int, groups: Mapping[str, Sequence[int]]) -> None:
        """Build heads on `features` channels.

        Args:
            features: channels of every region's feature.
            groups: region to the places of its outputs; together each place from 0 on once.
        """
        kept = {region: tuple(places) for region, places in groups.items() if places}
        super().__init__({region: nn.Linear(features, len(kept[region])) for region in kept})
        self.groups = kept
        places = [p for group in kept.values() for p in group]
        assert sorted(places) == list(range(len(places)))
        order = sorted(range(len(places)), key=places.__getitem__)
        self.register_buffer("order", torch.tensor(order), persistent=False)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Map each region's feature (n, features) to logits, float32 (n, outputs)."""
        first = next(iter(features.values()))
        # The heads are tiny and their logits are compared finely: no bf16 here.
        with torch.autocast(first.device.type, enabled=False):
            logits = [head(features[region].float()) for region, head in self.items()]
        return torch.cat(logits, dim=1)[:, self.order]

    def set_bias(self, values: Tensor) -> None:
        """Set the biases to float (outputs,) in the outputs' own order."""
        with torch.no_grad():
            for region, places in self.groups.items():
                head = self[region]
                assert isinstance(head, nn.Linear)
                head.bias.copy_(values[list(places)])
