"""The backbone used unless another is named: a pre-activation ResNet with PReLU.

Identity mappings after He et al., ECCV 2016; PReLU and the 7x7/2 stem after
docs/method.md#the-two-architectures. Stage 1 and stage 2 use one class, so that PReLU slopes carry
over (docs/method.md#do-not-repeat-6).
"""

from typing import Final

import torch.nn.functional as F
from torch import Tensor, nn

from sspl.models.activation import PReLU
from sspl.models.backbones.base import Backbone
from sspl.models.network_settings import BackboneSettings

BLOCKS: Final = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
STAGE_WIDTHS: Final = (64, 128, 256, 512)
FEWEST_CHANNELS: Final = 16
"""With fewer, strided 1x1 convolutions are not left to torch in training."""


class BasicBlock(nn.Module):
    """Pre-activation block of two 3x3 convolutions."""

    expansion: Final = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width
        self.norm1, self.act1 = nn.BatchNorm2d(inputs), PReLU(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.norm2, self.act2 = nn.BatchNorm2d(width), PReLU(width)
        self.conv2 = nn.Conv2d(width, outputs, 3, 1, 1, bias=False)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, width, h/stride, w/stride)."""
        active = self.act1(self.norm1(x))
        residual: Tensor = self.conv2(self.act2(self.norm2(self.conv1(active))))
        kept: Tensor = x if self.shortcut is None else self.shortcut(active)
        return kept + residual


class Bottleneck(nn.Module):
    """Pre-activation block of 1x1, 3x3, 1x1 convolutions."""

    expansion: Final = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.norm1, self.act1 = nn.BatchNorm2d(inputs), PReLU(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.norm2, self.act2 = nn.BatchNorm2d(width), PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.norm3, self.act3 = nn.BatchNorm2d(width), PReLU(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, 4 * width, h/stride, w/stride)."""
        active = self.act1(self.norm1(x))
        residual: Tensor = self.conv2(self.act2(self.norm2(self.conv1(active))))
        residual = self.conv3(self.act3(self.norm3(residual)))
        kept: Tensor = x if self.shortcut is None else self.shortcut(active)
        return kept + residual


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    kind = ThinShortcut if inputs < FEWEST_CHANNELS else nn.Conv2d
    return kind(inputs, outputs, 1, stride, bias=False)


class ThinShortcut(nn.Conv2d):
    """1x1 convolution of few channels; in training it drops places first, and then has no stride.

    With a stride torch 2.13 writes beyond its memory on CPUs: the gradient of the weights, in fp32
    and channels last, of 8 channels of 46 px and more.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h/stride, w/stride)."""
        if not self.training:
            return super().forward(x)
        down, across = self.stride
        return F.conv2d(x[:, :, ::down, ::across], self.weight)


class ResNet(Backbone):
    """Pre-activation ResNet with PReLU; the last map is normalised and activated."""

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__()
        block = Bottleneck if settings.depth == 50 else BasicBlock
        widths = [max(8, round(w * settings.width / 8) * 8) for w in STAGE_WIDTHS]
        self.stem = _stem(widths[0], settings.stem_stride)
        inputs = widths[0]
        stages = []
        for index, (width, blocks) in enumerate(zip(widths, BLOCKS[settings.depth], strict=True)):
            layers = []
            for number in range(blocks):
                stride = 2 if index > 0 and number == 0 else 1
                layers.append(block(inputs, width, stride))
                inputs = width * block.expansion
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.norm, self.act = nn.BatchNorm2d(inputs), PReLU(inputs)
        self.widths = tuple(w * block.expansion for w in widths)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @classmethod
    def takes(cls, settings: BackboneSettings) -> bool:
        """Tell whether the settings name no other backbone."""
        return settings.timm is None

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps of the four stages; the first has the stride of the stem."""
        x = self.stem(image)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        maps[-1] = self.act(self.norm(x))
        return maps

    def parts(self) -> list[nn.Module]:
        """Return stem and stages; the closing norm and activation belong to the last stage."""
        last = nn.ModuleList([self.stages[-1], self.norm, self.act])
        return [self.stem, *list(self.stages)[:-1], last]


def _stem(width: int, stride: int) -> nn.Sequential:
    if stride == 4:
        layers: list[nn.Module] = [nn.Conv2d(3, width, 7, 2, 3, bias=False)]
    else:
        layers = [nn.Conv2d(3, width, 3, stride, 1, bias=False)]
    layers += [nn.BatchNorm2d(width), PReLU(width)]
    if stride == 4:
        layers.append(nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(*layers)
