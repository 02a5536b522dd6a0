"""Masked image modelling: what a face shows where it is covered.

Xie et al., "SimMIM: A Simple Framework for Masked Image Modeling", CVPR 2022, which also trains
convolutional networks so: random square cells are covered, one linear layer on the last feature map
states every pixel below each of its places, L1 loss over covered pixels alone. The cover is one
learnt colour, laid on the picture, since a convolutional backbone has no tokens.
"""

from typing import Final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sspl.distributed.random import rand, sent
from sspl.models.backbones.base import Backbone
from sspl.settings import Settings
from sspl.tasks.base import Maps, PretextTask, Regions, TaskContext, TaskResult, Views

CHANNELS: Final = 3


class MaskedSettings(Settings):
    """Settings of masked image modelling."""

    grid: int = Field(6, ge=2, description="the picture is cut into grid x grid cells")
    ratio: float = Field(0.6, gt=0, lt=1, description="share of the cells that are covered")


def draw_cover(n: int, grid: int, ratio: float, size: int, generator: torch.Generator) -> Tensor:
    """Return bool (n, 1, size, size): equally many cells of each picture, drawn at random."""
    covered = max(1, round(ratio * grid**2))
    order = rand((n, grid**2), generator).argsort(dim=1)
    cells = (order.argsort(dim=1) < covered).view(n, 1, grid, grid)
    # Integer edges, so that cells fill a picture whose side is no multiple of the grid.
    cell = torch.arange(size) * grid // size
    return cells[:, :, cell[:, None], cell[None, :]]


def masked_l1(prediction: Tensor, target: Tensor, cover: Tensor) -> Tensor:
    """Return the mean absolute error of (n, c, h, w) where `cover` bool (n, 1, h, w) is true."""
    error = (prediction - target).abs() * cover
    return error.sum() / (cover.sum() * target.shape[1]).clamp(min=1)


class MaskedModelling(PretextTask):
    """A linear head on the last map that states the pixels of the crop.

    Examples:
        >>> backbone = build_backbone(BackboneSettings(width=0.125))
        >>> context = TaskContext(backbone, load_taxonomy("celebamask19"), input_size=32)
        >>> MaskedModelling(MaskedModelling.Settings(), context).cover.shape
        torch.Size([1, 3, 1, 1])
    """

    name = "masked"
    uses_crop = False
    needs_masks = False
    Settings = MaskedSettings
    uses_all_parameters = True

    def __init__(self, settings: MaskedSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.settings = settings
        backbone, input_size = context.backbone, context.input_size
        self.cover = nn.Parameter(torch.zeros(1, CHANNELS, 1, 1))
        self.stride = -(-input_size // _last_side(backbone, input_size))
        self.head = nn.Conv2d(backbone.widths[-1], CHANNELS * self.stride**2, 1)

    def forward(
        self, backbone: Backbone, views: Views, maps: Maps, regions: Regions = None
    ) -> TaskResult:
        """Return the mean absolute error over covered pixels, which are in [-1, 1]."""
        n, size = len(views.crop), views.crop.shape[-1]
        settings = self.settings
        cover = draw_cover(n, settings.grid, settings.ratio, size, views.generator)
        cover = sent(cover, views.crop.device)
        pictures = torch.where(cover, self.cover.to(views.crop.dtype), views.crop)
        with self.beside_crops(backbone, maps):
            last = backbone(pictures.contiguous(memory_format=torch.channels_last))[-1]
        stated = F.pixel_shuffle(self.head(last).float(), self.stride)[..., :size, :size]
        return TaskResult(masked_l1(stated, views.crop, cover))


def _last_side(backbone: Backbone, input_size: int) -> int:
    """Return the side of the backbone's last map."""
    training = backbone.training
    with torch.no_grad():
        side = backbone.eval()(torch.zeros(1, CHANNELS, input_size, input_size))[-1].shape[-1]
    backbone.train(training)
    return int(side)
