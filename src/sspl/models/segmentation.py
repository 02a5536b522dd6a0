"""The segmentation head: the class of every place from the backbone's feature maps.

docs/method.md#pst-patch-segmentation; stage 2 may pool features by what it says.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from sspl.models.activation import PReLU
from sspl.models.backbones import build_backbone
from sspl.models.criss_cross import RecurrentCrissCross
from sspl.models.network_settings import BackboneSettings, SegmentationSettings


class SegmentationHead(nn.Module):
    """Each map is projected by 1x1, brought to the finest one's size and summed; then classified.

    With `maps: 1` it sees the last feature map alone, as in the paper; criss-cross attention then
    reads that map as it is, without a projection.

    Examples:
        >>> settings = SegmentationSettings(maps=2, width=16)
        >>> head = SegmentationHead(settings, (8, 16, 32, 64), classes=19)
        >>> maps = [torch.zeros(2, w, s, s) for w, s in ((8, 16), (16, 8), (32, 4), (64, 2))]
        >>> head(maps).shape
        torch.Size([2, 19, 4, 4])
    """

    def __init__(
        self, settings: SegmentationSettings, widths: tuple[int, ...], classes: int
    ) -> None:
        super().__init__()
        self.settings = settings
        read, width = widths[-settings.maps :], settings.width
        attends = settings.attention == "criss_cross"
        as_it_is = attends and settings.maps == 1
        self.project = nn.ModuleList(
            nn.Identity() if as_it_is else nn.Conv2d(w, width, 1, bias=False) for w in read
        )
        inputs = read[0] if as_it_is else width
        self.mix = (
            RecurrentCrissCross(inputs, width, classes) if attends else _light(width, classes)
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Map feature maps to logits float32 (n, classes, h, w) at the finest map's size."""
        used = maps[-self.settings.maps :]
        projected = [layer(x) for layer, x in zip(self.project, used, strict=True)]
        size = projected[0].shape[2:]
        merged = projected[0]
        for coarse in projected[1:]:
            merged = merged + F.interpolate(coarse, size, mode="bilinear", align_corners=False)
        logits: Tensor = self.mix(merged)
        return logits.float()


class FaceSegmentation(nn.Module):
    """Backbone and segmentation head of stage 1, by themselves: a face parser.

    Examples:
        >>> parser = FaceSegmentation(BackboneSettings(width=0.125), SegmentationSettings(), 19)
        >>> parser(torch.zeros(2, 3, 64, 64))[0].shape
        torch.Size([2, 19, 2, 2])
    """

    def __init__(
        self, backbone: BackboneSettings, segmentation: SegmentationSettings, classes: int
    ) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)
        self.head = SegmentationHead(segmentation, self.backbone.widths, classes)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map float (n, 3, h, w) in [-1, 1] to logits (n, classes, h', w'), alone in a list."""
        return [self.head(self.backbone(image))]


def _light(width: int, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(width),
        PReLU(width),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        PReLU(width),
        nn.Conv2d(width, classes, 1),
    )
