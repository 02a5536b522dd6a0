"""PST, patch segmentation: the semantic class of every pixel of a crop.

docs/method.md#pst-patch-segmentation.
"""

import torch.nn.functional as F
from pydantic import Field

from sspl.distributed.group import shared_count
from sspl.domain.taxonomy import UNKNOWN
from sspl.metrics.pixels import confusion_matrix
from sspl.metrics.tallies import Confusion
from sspl.models.backbones.base import Backbone
from sspl.models.segmentation import SegmentationHead
from sspl.settings import Settings
from sspl.tasks.base import Maps, PretextTask, Regions, TaskContext, TaskResult, Views


class PSTSettings(Settings):
    """Settings of patch segmentation."""

    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="share of a target that is spread over all classes"
    )
    target_stride: int = Field(1, ge=1, le=16, description="take every k-th mask pixel as target")


class PatchSegmentation(PretextTask):
    """The segmentation head on the feature maps of a crop.

    Examples:
        >>> backbone = build_backbone(BackboneSettings(width=0.125))
        >>> context = TaskContext(backbone, load_taxonomy("celebamask19"), input_size=32)
        >>> task = PatchSegmentation(PatchSegmentation.Settings(), context)
        >>> task.head(backbone(torch.zeros(2, 3, 32, 32))).shape[:2]
        torch.Size([2, 19])
    """

    name = "pst"
    uses_crop = True
    needs_masks = True
    Settings = PSTSettings
    uses_all_parameters = True

    def __init__(self, settings: PSTSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.settings = settings
        self.classes = len(context.taxonomy)
        self.head = SegmentationHead(context.segmentation, context.widths, self.classes)

    def forward(
        self, backbone: Backbone, views: Views, maps: Maps, regions: Regions = None
    ) -> TaskResult:
        """Return the label-smoothed cross-entropy over known pixels; metric `miou`."""
        assert maps is not None and views.crop_mask is not None  # noqa: PT018 - see `uses_crop`
        start, stride = self.settings.target_stride // 2, self.settings.target_stride
        target = views.crop_mask[:, start::stride, start::stride].long()
        logits = F.interpolate(
            self.head(maps), target.shape[1:], mode="bilinear", align_corners=False
        )
        # One row a pixel, as they lie in memory: the loss over channels in front would copy them.
        logits, target = logits.permute(0, 2, 3, 1).flatten(0, 2), target.flatten()
        smoothing = self.settings.label_smoothing
        loss = F.cross_entropy(
            logits, target, ignore_index=UNKNOWN, label_smoothing=smoothing, reduction="sum"
        )
        # A batch without any known pixel teaches nothing; its mean would be 0 / 0.
        loss = loss / shared_count((target != UNKNOWN).sum())
        counts = confusion_matrix(target, logits.argmax(1), self.classes)
        return TaskResult(loss, {"miou": Confusion(counts)})
