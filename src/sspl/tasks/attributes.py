"""Known attributes: labels that unlabelled faces do not have, and drawn ones have for free.

Not of the paper. Of drawn faces every attribute is known exactly, so stage 1 on them can learn
attributes beside the parts of the face; stage 2 then begins with features that tell them apart
(docs/method.md#beyond-the-paper).
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from sspl.data.records import MISSING
from sspl.distributed.group import mean_over_known
from sspl.domain.attributes import celeba_schema
from sspl.metrics.tallies import Mean
from sspl.models.backbones.base import Backbone, pooled
from sspl.settings import Settings
from sspl.tasks.base import Maps, PretextTask, Regions, TaskContext, TaskResult, Views


class AttributesSettings(Settings):
    """Settings of known attributes."""

    names: tuple[str, ...] = Field(
        celeba_schema().names,
        min_length=1,
        description="attributes to learn; one that a set of faces does not have is unknown there",
    )


class KnownAttributes(PretextTask):
    """A linear head on the pooled feature of a crop; labels that are missing have no part.

    Examples:
        >>> backbone = build_backbone(BackboneSettings(width=0.125))
        >>> context = TaskContext(backbone, load_taxonomy("celebamask19"), input_size=32)
        >>> settings = KnownAttributes.Settings(names=("Smiling", "Bald"))
        >>> KnownAttributes(settings, context).head.out_features
        2
    """

    name = "attributes"
    uses_crop = True
    needs_masks = False
    needs_labels = True
    Settings = AttributesSettings
    uses_all_parameters = True

    def __init__(self, settings: AttributesSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.names = settings.names
        self.head = nn.Linear(context.features, len(self.names))

    def forward(
        self, backbone: Backbone, views: Views, maps: Maps, regions: Regions = None
    ) -> TaskResult:
        """Return the mean binary cross-entropy over known labels; metric `accuracy`."""
        assert maps is not None
        logits = self.head(pooled(maps)).float()
        unknown = torch.full(logits.shape[:1], MISSING, dtype=torch.int8, device=logits.device)
        labels = torch.stack([views.labels.get(n, unknown) for n in self.names], dim=1)
        known = labels != MISSING
        losses = F.binary_cross_entropy_with_logits(
            logits, labels.clamp(min=0).float(), reduction="none"
        )
        loss = mean_over_known(losses, known)
        hits = ((logits > 0) == (labels > 0)) & known
        return TaskResult(loss, {"accuracy": Mean(hits.sum(), known.sum())})
