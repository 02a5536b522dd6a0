"""PCT, patch classification: which semantic classes a crop shows.

docs/method.md#pct-patch-classification.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sspl.distributed.group import shared_count
from sspl.domain.regions import REGIONS
from sspl.metrics.tallies import Mean
from sspl.models.backbones.base import Backbone, pooled
from sspl.models.branches import RegionHeads
from sspl.tasks.base import PretextTask, TaskContext, TaskResult, Views
from sspl.tasks.task_settings import PCTSettings


def class_counts(masks: Tensor, classes: int) -> Tensor:
    """Count pixels: uint8 masks (n, h, w) to int64 (n, classes); other ids are left out."""
    n = len(masks)
    ids = masks.flatten(1).long()
    slots = ids.clamp(max=classes) + torch.arange(n, device=ids.device)[:, None] * (classes + 1)
    counts = torch.bincount(slots.flatten(), minlength=n * (classes + 1))
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

    name: ClassVar[str] = "pct"
    uses_crop: ClassVar[bool] = True
    needs_masks: ClassVar[bool] = True
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
        self,
        backbone: Backbone,
        views: Views,
        maps: list[Tensor] | None,
        regions: Mapping[str, Tensor] | None = None,
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
        loss = _mean(losses, known)
        if isinstance(self.head, RegionHeads):
            groups = [list(places) for places in self.head.groups.values()]
            loss = torch.stack([_mean(losses[:, g], known[:, g]) for g in groups]).sum()
        hits = (((logits > 0) == (target > 0.5)) & known).sum()
        return TaskResult(loss, {"accuracy": Mean(float(hits), float(known.sum()))})


def _mean(losses: Tensor, known: Tensor) -> Tensor:
    """Average losses (n, classes) where `known` (n, classes), over all processes."""
    return (losses * known).sum() / shared_count(known.sum())
