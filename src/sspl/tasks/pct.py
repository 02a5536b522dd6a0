"""PCT, patch classification: which semantic classes a crop shows.

docs/method.md#pct-patch-classification.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sspl.device import places_on
from sspl.distributed.group import mean_over_known
from sspl.domain.regions import REGIONS
from sspl.metrics.pixels import count_ids
from sspl.metrics.tallies import Mean
from sspl.models.backbones.base import Backbone, pooled
from sspl.models.branches import RegionHeads
from sspl.settings import Settings
from sspl.tasks.base import Maps, PretextTask, Regions, TaskContext, TaskResult, Views


class PCTSettings(Settings):
    """Settings of patch classification.

    `rule: top` is the reference's: the `top` largest classes are positive. `share`, which is ours,
    takes every class that covers more than `share` of the crop's known pixels, however many.
    """

    rule: Literal["top", "share"] = Field(
        "top", description="positive are the largest classes, or all above a share"
    )
    top: int = Field(9, ge=1, description="v: how many of the largest classes are positive")
    share: float = Field(0.005, ge=0, lt=1, description="share of pixels that a class must exceed")


def class_counts(masks: Tensor, classes: int) -> Tensor:
    """Count pixels: uint8 masks (n, h, w) to int64 (n, classes); other ids are left out."""
    n = len(masks)
    ids = masks.flatten(1).long()
    slots = ids.clamp(max=classes) + torch.arange(n, device=ids.device)[:, None] * (classes + 1)
    counts = count_ids(slots, n * (classes + 1))
    return counts.view(n, classes + 1)[:, :classes]


def largest_classes(counts: Tensor, top: int) -> Tensor:
    """Return float32 (n, classes): 1 for the `top` largest non-empty classes, else 0.

    Of equally large classes the one with the smaller id comes first
    (docs/method.md#do-not-repeat-7).
    """
    order = counts.sort(dim=1, descending=True, stable=True).indices[:, :top]
    targets = torch.zeros(counts.shape, device=counts.device).scatter_(1, order, 1.0)
    return targets * (counts > 0)


def classes_above(counts: Tensor, share: float) -> Tensor:
    """Return float32 (n, classes): 1 for classes with more than `share` of the counted pixels."""
    known = counts.sum(1, keepdim=True).clamp(min=1)
    return (counts / known > share).float()


def positive_classes(counts: Tensor, settings: PCTSettings) -> Tensor:
    """Return float32 (n, classes): 1 for the classes that the rule calls positive."""
    if settings.rule == "share":
        return classes_above(counts, settings.share)
    return largest_classes(counts, settings.top)


class PatchClassification(PretextTask):
    """A linear multi-label head on the pooled feature, or one for each region's classes.

    By region, each branch of `splnet` predicts the classes of its own region, and the loss is the
    sum of the regions' means, as in the reference; targets stay the same.

    Examples:
        >>> backbone = build_backbone(BackboneSettings(width=0.125))
        >>> context = TaskContext(backbone, load_taxonomy("celebamask19"), input_size=32)
        >>> task = PatchClassification(PatchClassification.Settings(top=9), context)
        >>> task.uses_crop, task.needs_masks
        (True, True)
    """

    name = "pct"
    uses_crop = True
    needs_masks = True
    Settings = PCTSettings
    uses_all_parameters = True

    def __init__(self, settings: PCTSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.settings = settings
        self.classes = len(context.taxonomy)
        self.head: nn.Linear | RegionHeads = nn.Linear(context.features, self.classes)
        if context.architecture == "splnet":
            groups = {region: context.taxonomy.group(region) for region in REGIONS}
            self.head = RegionHeads(context.features, groups)

    def forward(
        self, backbone: Backbone, views: Views, maps: Maps, regions: Regions = None
    ) -> TaskResult:
        """Return the binary cross-entropy; metric `accuracy` over all class decisions.

        A crop without one known pixel has no part in either.
        """
        assert maps is not None and views.crop_mask is not None  # noqa: PT018 - see `uses_crop`
        counts = class_counts(views.crop_mask, self.classes)
        target = positive_classes(counts, self.settings)
        logits = self.head(pooled(maps) if regions is None else regions).float()
        known = (counts.sum(1, keepdim=True) > 0).expand_as(target)
        losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        loss = mean_over_known(losses, known)
        if isinstance(self.head, RegionHeads):
            groups = [places_on(g, losses.device) for g in self.head.groups.values()]
            loss = torch.stack([mean_over_known(losses[:, g], known[:, g]) for g in groups]).sum()
        hits = (((logits > 0) == (target > 0.5)) & known).sum()
        return TaskResult(loss, {"accuracy": Mean(hits, known.sum())})
