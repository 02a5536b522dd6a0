"""BYOL: one view of a face foretells what a slowly following network makes of another view.

Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020: projection and prediction heads with
BatchNorm, a target network that is a moving average of the one in training, the squared distance of
unit vectors (2 - 2 cos) as loss, symmetrised. The average's decay is constant, and smaller than in
the paper, because runs here have thousands of steps, not hundreds of thousands.
"""

import copy

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sspl.metrics.tallies import Mean
from sspl.models.backbones.base import Backbone, pooled
from sspl.tasks.base import Maps, PretextTask, Regions, TaskContext, TaskResult, Views
from sspl.tasks.simclr import TwoViewSettings, two_views


class BYOLSettings(TwoViewSettings):
    """Settings of BYOL."""

    decay: float = Field(0.99, ge=0, lt=1, description="of the average that the target network is")
    hidden: int = Field(512, ge=2, description="hidden size of both heads")
    projection: int = Field(128, ge=2, description="size of the vectors that are compared")


def regression_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean of 2 - 2 cos over rows of float (n, d), scalar; no gradient to `target`."""
    cosine = F.cosine_similarity(prediction.float(), target.detach().float(), dim=1)
    return (2 - 2 * cosine).mean()


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
    )


class BYOL(PretextTask):
    """Heads of the network in training, and the target network, which stage 2 leaves behind.

    Examples:
        >>> backbone = build_backbone(BackboneSettings(width=0.125))
        >>> context = TaskContext(backbone, load_taxonomy("celebamask19"), input_size=32)
        >>> BYOL(BYOL.Settings(projection=32), context).settings.projection
        32
    """

    name = "byol"
    uses_crop = False
    needs_masks = False
    Settings = BYOLSettings
    uses_all_parameters = True

    def __init__(self, settings: BYOLSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        backbone = context.backbone
        self.settings = settings
        self.project = _mlp(backbone.widths[-1], settings.hidden, settings.projection)
        self.predict = _mlp(settings.projection, settings.hidden, settings.projection)
        self.target_backbone = copy.deepcopy(backbone).requires_grad_(False)
        self.target_project = copy.deepcopy(self.project).requires_grad_(False)

    @torch.no_grad()
    def follow(self, backbone: Backbone) -> None:
        """Move the target network towards the one in training; once for each forward pass."""
        for own, target in (
            *zip(backbone.parameters(), self.target_backbone.parameters(), strict=True),
            *zip(self.project.parameters(), self.target_project.parameters(), strict=True),
        ):
            target.lerp_(own, 1 - self.settings.decay)

    def forward(
        self, backbone: Backbone, views: Views, maps: Maps, regions: Regions = None
    ) -> TaskResult:
        """Return the loss summed over both directions; metric `spread`.

        `spread` is the deviation of the unit target vectors over a batch times the root of their
        size: about 1 where faces are told apart, 0 where all have become the same vector.
        """
        if self.training:
            self.follow(backbone)
        pictures = two_views(views, self.settings)
        with torch.no_grad():
            target = self.target_project(pooled(self.target_backbone(pictures)))
        with self.beside_crops(backbone, maps):
            prediction = self.predict(self.project(pooled(backbone(pictures))))
        # The prediction of each view against the target of the other, in both directions.
        loss = 2 * regression_loss(prediction, target.roll(len(views.canvas), dims=0))
        unit = F.normalize(target.float(), dim=1)
        spread = unit.std(0).mean().mul(unit.shape[1] ** 0.5)
        return TaskResult(loss, {"spread": Mean.of(spread, len(unit))})
