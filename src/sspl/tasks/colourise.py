"""Colourisation: what colours a grey face has.

Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016, and Larsson, Maire, Shakhnarovich,
"Colorization as a Proxy Task", CVPR 2017: from luma alone a network tells, place by place, in
which of some bins the colour falls; cross-entropy, since a mean of colours would be grey. Here the
colour is Cb and Cr (ITU-R BT.601), binned each by itself, at the size of the finest map that the
head reads.
"""

from typing import Final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from sspl.distributed.random import sent
from sspl.metrics.tallies import Mean
from sspl.models.backbones.base import Backbone
from sspl.models.segmentation import SegmentationHead
from sspl.settings import Settings
from sspl.tasks.base import Maps, PretextTask, Regions, TaskContext, TaskResult, Views

LUMA: Final = (0.299, 0.587, 0.114)
CHROMA_SCALE: Final = (1.772, 1.402)
"""Cb = (B - Y) / 1.772 and Cr = (R - Y) / 1.402 lie within half of the range of RGB."""


class ColouriseSettings(Settings):
    """Settings of colourisation."""

    bins: int = Field(32, ge=2, description="bins for each of Cb and Cr")
    range: float = Field(0.5, gt=0, le=1, description="largest Cb and Cr told apart; 1 is all")


def luma_and_chroma(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Split RGB (n, 3, h, w) in [-1, 1] into luma (n, 1, h, w) and Cb with Cr (n, 2, h, w)."""
    weights = sent(torch.tensor(LUMA), pictures.device).view(1, 3, 1, 1)
    luma = (pictures * weights).sum(1, keepdim=True)
    blue, red = pictures[:, 2:3] - luma, pictures[:, 0:1] - luma
    return luma, torch.cat([blue / CHROMA_SCALE[0], red / CHROMA_SCALE[1]], dim=1)


def to_bins(chroma: Tensor, bins: int, reach: float) -> Tensor:
    """Return int64 of the same shape: the bin of each value, `bins` equal ones in +-`reach`."""
    place = (chroma / reach + 1) / 2 * bins
    return place.floor().long().clamp(0, bins - 1)


class Colourisation(PretextTask):
    """A head like PST's, with a class for each bin of Cb and of Cr.

    Examples:
        >>> backbone = build_backbone(BackboneSettings(width=0.125))
        >>> context = TaskContext(backbone, load_taxonomy("celebamask19"), input_size=32)
        >>> Colourisation(Colourisation.Settings(bins=8), context).settings.bins
        8
    """

    name = "colourise"
    uses_crop = False
    needs_masks = False
    Settings = ColouriseSettings
    uses_all_parameters = True

    def __init__(self, settings: ColouriseSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.settings = settings
        self.head = SegmentationHead(context.segmentation, context.widths, 2 * settings.bins)

    def forward(
        self, backbone: Backbone, views: Views, maps: Maps, regions: Regions = None
    ) -> TaskResult:
        """Return the cross-entropies of Cb and Cr added; metric `accuracy` over both."""
        luma, chroma = luma_and_chroma(views.crop)
        grey = luma.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        with self.beside_crops(backbone, maps):
            logits = self.head(backbone(grey))
        n, _, height, width = logits.shape
        logits = logits.view(n, 2, self.settings.bins, height, width)
        # One row a value: of the loss over channels in front GPUs know no fixed order.
        logits = logits.movedim(2, -1).flatten(0, -2)
        coarse = F.adaptive_avg_pool2d(chroma, (height, width))
        target = to_bins(coarse, self.settings.bins, self.settings.range).flatten()
        hits = logits.argmax(1) == target
        accuracy = Mean(hits.sum(), hits.numel())
        return TaskResult(2 * F.cross_entropy(logits, target), {"accuracy": accuracy})
