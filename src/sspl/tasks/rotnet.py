"""RotNet: by what angle the whole face was turned.

Gidaris, Singh, Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations",
ICLR 2018. There a batch holds every picture at all four angles; here each crop is turned once, by
an angle drawn for it, so that a step costs what a step of the other tasks does.
"""

import torch.nn.functional as F
from torch import Tensor, nn

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
from sspl.tasks.prt import ANGLES, turn


class WholeRotation(PretextTask):
    """A linear head on the pooled feature of the turned crop; one class for each quarter turn.

    Examples:
        >>> backbone = build_backbone(BackboneSettings(width=0.125))
        >>> context = TaskContext(backbone, load_taxonomy("celebamask19"), input_size=32)
        >>> WholeRotation(WholeRotation.Settings(), context).head.out_features
        4
    """

    name = "rotnet"
    uses_crop = False
    needs_masks = False
    uses_all_parameters = True

    def __init__(self, settings: Settings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.head = nn.Linear(context.features, ANGLES)

    def turned(self, views: Views) -> tuple[Tensor, Tensor]:
        """Return the turned crops float32 (n, 3, s, s) and their quarter turns int64 (n,)."""
        quarters = randint(ANGLES, (len(views.crop),), views.generator)
        return turn(views.crop, quarters), sent(quarters, views.crop.device)

    def forward(
        self, backbone: Backbone, views: Views, maps: Maps, regions: Regions = None
    ) -> TaskResult:
        """Return the cross-entropy over the four angles; metric `accuracy`."""
        pictures, quarters = self.turned(views)
        with self.beside_crops(backbone, maps):
            logits = self.head(pooled(backbone(pictures))).float()
        accuracy = accuracy_tally(logits, quarters)
        return TaskResult(F.cross_entropy(logits, quarters), {"accuracy": accuracy})
