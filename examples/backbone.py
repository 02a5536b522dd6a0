"""A backbone of one's own: plain 3x3 convolutions, without shortcuts.

    sspl pretrain ... --backbone examples/backbone.py:Plain backbone.width=0.5
    sspl finetune ... --backbone examples/backbone.py:Plain backbone.width=0.5 --from RUN
    sspl evaluate RUN --backbone examples/backbone.py:Plain

Whoever opens a model that was trained with it needs this very file, and names it.
"""

from torch import Tensor, nn

from sspl.models.backbones.base import Backbone
from sspl.models.network_settings import BackboneSettings


class Plain(Backbone):
    """A stem and four stages of two convolutions each, every stage but the first at half size."""

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__()
        first = max(1, round(64 * settings.width))
        self.widths = (first, 2 * first, 4 * first, 8 * first)
        self.stem = layer(3, first, settings.stem_stride)
        inputs = (first, *self.widths)
        self.stages = nn.ModuleList(
            nn.Sequential(layer(inputs[i], width, 1 if i == 0 else 2), layer(width, width, 1))
            for i, width in enumerate(self.widths)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps of the four stages."""
        maps, x = [], self.stem(image)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def parts(self) -> list[nn.Module]:
        """Return stem and stages, so that the first of them can be frozen."""
        return [self.stem, *self.stages]


def layer(inputs: int, width: int, stride: int) -> nn.Module:
    """Return a convolution, its norm and ReLU."""
    convolution = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())
