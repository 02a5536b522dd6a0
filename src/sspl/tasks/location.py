"""Relative patch location: in which direction from the centre a second patch lies.

Doersch, Gupta, Efros, "Unsupervised Visual Representation Learning by Context Prediction", ICCV
2015. As there, patches come from a 3 x 3 grid with gaps and a random place in their cell, and both
pass through the same network. Instead of dropping colour channels, every patch is normalised by its
own mean and deviation, as in PRT.
"""

from typing import Final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sspl.data.transforms import cut_squares
from sspl.distributed.random import randint, sent
from sspl.models.backbones.base import Backbone, pooled
from sspl.settings import Settings
from sspl.tasks.base import (
    Maps,
    PretextTask,
    Regions,
    TaskContext,
    TaskResult,
    Views,
    accuracy_tally,
)
from sspl.tasks.prt import draw_offsets, patch_side, standardise

GRID: Final = 3
CENTRE: Final = 4
AROUND: Final = torch.tensor([0, 1, 2, 3, 5, 6, 7, 8])
"""The cells around the centre, row by row; the place in this list is the class."""


class LocationSettings(Settings):
    """Settings of relative patch location."""

    patch_size: int | None = Field(
        None, ge=8, description="patch side in px; default: half of the input's"
    )


class RelativeLocation(PretextTask):
    """A small network on the pooled features of both patches; one class for each direction.

    Examples:
        >>> backbone = build_backbone(BackboneSettings(width=0.125))
        >>> context = TaskContext(backbone, load_taxonomy("celebamask19"), input_size=32)
        >>> RelativeLocation(RelativeLocation.Settings(patch_size=24), context).size
        24
    """

    name = "location"
    uses_crop = False
    needs_masks = False
    Settings = LocationSettings
    uses_all_parameters = True

    def __init__(self, settings: LocationSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.size = settings.patch_size or context.input_size // 2
        features = context.features
        self.head = nn.Sequential(
            nn.Linear(2 * features, features, bias=False),
            nn.BatchNorm1d(features),
            nn.PReLU(features),
            nn.Linear(features, len(AROUND)),
        )

    def pairs(self, views: Views) -> tuple[Tensor, Tensor, Tensor]:
        """Return centre and other patch float32 (n, 3, s, s), and the direction int64 (n,)."""
        n, canvas, device = len(views.canvas), views.canvas.shape[-1], views.canvas.device
        top, left = draw_offsets(n, canvas, GRID, views.generator)
        direction = randint(len(AROUND), (n,), views.generator)
        cells = torch.stack([torch.full((n,), CENTRE), AROUND[direction]], dim=1)
        places = (sent(top.gather(1, cells), device), sent(left.gather(1, cells), device))
        patches = cut_squares(views.canvas, *places, patch_side(canvas, GRID)).float()
        small = F.interpolate(
            patches.flatten(0, 1), self.size, mode="bilinear", align_corners=False
        )
        both = standardise(small, small.new_zeros(3, 1, 1)).reshape(n, 2, *small.shape[1:])
        return both[:, 0], both[:, 1], sent(direction, device)

    def forward(
        self, backbone: Backbone, views: Views, maps: Maps, regions: Regions = None
    ) -> TaskResult:
        """Return the cross-entropy over the eight directions; metric `accuracy`."""
        centre, other, direction = self.pairs(views)
        patches = torch.cat([centre, other]).contiguous(memory_format=torch.channels_last)
        with self.beside_crops(backbone, maps):
            features = pooled(backbone(patches))
        logits = self.head(torch.cat(features.chunk(2), dim=1)).float()
        accuracy = accuracy_tally(logits, direction)
        return TaskResult(F.cross_entropy(logits, direction), {"accuracy": accuracy})
