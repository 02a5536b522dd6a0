"""Stage 2: attribute heads on a pooled feature of the backbone."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sspl.models.backbones import build_backbone
from sspl.models.backbones.base import pooled
from sspl.models.network_settings import (
    Architecture,
    BackboneSettings,
    HeadSettings,
    SegmentationSettings,
)
from sspl.models.segmentation import SegmentationHead
from sspl.settings import build

SMALL_REGION = 0.5
"""Places a region must cover for its mean feature to count at about two thirds."""


class AveragePooling(nn.Module):
    """The last feature map averaged over its places: float32 (n, features)."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.features = widths[-1]

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Map the backbone's feature maps to float32 (n, features)."""
        return pooled(maps)


class RegionPooling(nn.Module):
    """Features averaged over the face's semantic regions, as the segmentation head sees them.

    Beyond the paper: pooling over the whole face mixes hair with skin, and a few labels do not
    suffice to separate them again; PST has already learnt where each part is.
    """

    def __init__(
        self, widths: tuple[int, ...], region_map: int, head: SegmentationSettings, classes: int
    ) -> None:
        super().__init__()
        self.region_map = region_map
        self.segmentation = SegmentationHead(head, widths, classes)
        self.features = classes * (widths[region_map - 1] + 1) + widths[-1]
        # Regions differ in size and contrast; the heads see every feature at the same scale.
        self.norm = nn.BatchNorm1d(self.features, affine=False)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Map the backbone's feature maps to float32 (n, features).

        The features of a face are, class by class, the mean feature of the class's places
        (weighted by the class's probability, and near zero where the class is absent), each
        class's share of the face, and the average-pooled feature; each is standardised over the
        batch and all are scaled to a vector of length about 1.
        """
        shares, weights = self.regions(maps)
        with torch.autocast(shares.device.type, enabled=False):
            scaled: Tensor = self.norm(self.unscaled(maps, shares, weights)) / self.features**0.5
        return scaled

    def regions(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return where each class is.

        First each class's share of every place of the segmentation, float32 (n, classes, h, w);
        then its weights of the pooled map's places, float32 (n, classes, places), with a sum below
        1 where the class is small.
        """
        shares = self.segmentation(maps).softmax(1)
        chosen = maps[self.region_map - 1]
        with torch.autocast(chosen.device.type, enabled=False):
            weights = _resample(shares, chosen.shape[2:]).flatten(2)
            weights = weights / (weights.sum(2, keepdim=True) + SMALL_REGION)
        return shares, weights

    def unscaled(self, maps: list[Tensor], shares: Tensor, weights: Tensor) -> Tensor:
        """Return the features before they are standardised, float32 (n, features)."""
        places = maps[self.region_map - 1].float().flatten(2)
        means = weights @ places.transpose(1, 2)
        return torch.cat([means.flatten(1), shares.mean((2, 3)), pooled(maps)], dim=1)


def _resample(shares: Tensor, size: torch.Size) -> Tensor:
    if shares.shape[2:] == size:
        return shares
    return F.interpolate(shares, size, mode="bilinear", align_corners=False, antialias=True)


class AttributeNetwork(nn.Module):
    """The `sspl` architecture of stage 2: backbone, pooling and one linear head per attribute.

    Examples:
        >>> network = AttributeNetwork(BackboneSettings(width=0.125), HeadSettings(), attributes=40)
        >>> network(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 40])
    """

    architecture: ClassVar[Architecture] = "sspl"

    def __init__(
        self,
        backbone: BackboneSettings,
        head: HeadSettings,
        attributes: int,
        segmentation: SegmentationSettings | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        """Build it.

        Args:
            backbone, head: their settings.
            attributes: number of attributes.
            segmentation, classes: shape of PST's head and the semantic classes; needed for
                pooling by region alone.
        """
        super().__init__()
        self.backbone_settings, self.head_settings = backbone, head
        self.segmentation = segmentation or SegmentationSettings()
        self.classes = tuple(classes)
        self.backbone = build_backbone(backbone)
        self.pooling = self._build_pooling()
        self.dropout = nn.Dropout(head.dropout)
        self.head = nn.Linear(self.pooling.features, attributes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Map float (n, 3, h, w) in [-1, 1] to logits, float32 (n, attributes)."""
        feature = self.dropout(self.pooling(self.backbone(image)))
        # The heads are tiny and their logits are compared finely: no bf16 here.
        with torch.autocast(feature.device.type, enabled=False):
            logits: Tensor = self.head(feature.float())
        return logits

    def _build_pooling(self) -> "AveragePooling | RegionPooling":
        widths, head = self.backbone.widths, self.head_settings
        if head.pooling == "average":
            return AveragePooling(widths)
        return RegionPooling(widths, head.region_map, self.segmentation, len(self.classes))

    def metadata(self) -> dict[str, Any]:
        """Return what `from_metadata` needs to build this network again, as JSON values."""
        parts = {
            "backbone": self.backbone_settings,
            "head": self.head_settings,
            "segmentation": self.segmentation,
        }
        dumped = {name: part.model_dump(mode="json") for name, part in parts.items()}
        return dumped | {"classes": list(self.classes)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], attributes: int) -> "AttributeNetwork":
        """Build the network that `metadata` describe, with weights as initialised."""
        return cls(
            build(BackboneSettings, metadata["backbone"]),
            build(HeadSettings, metadata["head"]),
            attributes,
            build(SegmentationSettings, metadata["segmentation"]),
            tuple(metadata["classes"]),
        )
