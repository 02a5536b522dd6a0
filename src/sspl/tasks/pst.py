"""PST, patch segmentation: the semantic class of every pixel of a crop.

METHOD.md "Stage 1", "PST, patch segmentation (pixel-level semantics)".
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sspl.distributed.group import shared_count
from sspl.domain.taxonomy import UNKNOWN, Taxonomy
from sspl.metrics.pixels import confusion_matrix
from sspl.metrics.tallies import Confusion
from sspl.models.activation import PReLU
from sspl.models.trunk import Trunk
from sspl.settings import Settings
from sspl.tasks.base import PretextTask, TaskResult, Views
from sspl.tasks.criss_cross import RecurrentCrissCross


class SegmentationSettings(Settings):
    """Shape of the segmentation head, which stage 2 may take over.

    `attention: criss_cross` with `maps: 1` is the reference's head.
    """

    maps: int = Field(1, ge=1, le=4, description="how many of the last feature maps the head reads")
    width: int = Field(128, ge=8, description="channels of the head")
    attention: Literal["none", "criss_cross"] = "none"


class PSTSettings(Settings):
    """Settings of patch segmentation."""

    label_smoothing: float = Field(0.1, ge=0, lt=1)
    target_stride: int = Field(1, ge=1, le=16, description="take every k-th mask pixel as target")


class SegmentationHead(nn.Module):
    """Each map is projected by 1x1, brought to the finest one's size and summed; then classified.

    With `maps: 1` it sees the last feature map alone, as in the paper; criss-cross attention then
    reads that map as it is, without a projection.
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


def _light(width: int, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(width),
        PReLU(width),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        PReLU(width),
        nn.Conv2d(width, classes, 1),
    )


class PatchSegmentation(PretextTask):
    """The segmentation head on the feature maps of a crop."""

    name: ClassVar[str] = "pst"
    uses_crop: ClassVar[bool] = True
    needs_masks: ClassVar[bool] = True

    def __init__(
        self, settings: PSTSettings, head: SegmentationSettings, widths: tuple[int, ...],
        taxonomy: Taxonomy,
    ) -> None:  # fmt: skip
        super().__init__()
        self.settings = settings
        self.classes = len(taxonomy)
        self.head = SegmentationHead(head, widths, self.classes)

    def forward(
        self, trunk: Trunk, views: Views, maps: list[Tensor] | None,
        regions: Mapping[str, Tensor] | None = None,
    ) -> TaskResult:  # fmt: skip
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
