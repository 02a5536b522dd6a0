"""Stage 2 of the `splnet` architecture, and the choice between the two architectures."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from sspl.domain.attributes import AttributeSchema
from sspl.domain.regions import REGIONS
from sspl.models.attributes import AttributeNetwork
from sspl.models.backbones import build_backbone
from sspl.models.branches import Branches, RegionHeads
from sspl.models.network_settings import (
    Architecture,
    BackboneSettings,
    HeadSettings,
    SegmentationSettings,
)
from sspl.settings import build


class BranchAttributeNetwork(nn.Module):
    """The `splnet` architecture of stage 2: backbone, branches and a linear head for each region.

    docs/method.md#the-two-architectures: each branch predicts the attributes of its region. A
    branch whose region has no attribute is carried along but not run. The adversarial term is
    left to stage 1, where there are faces enough to train a discriminator on.

    Examples:
        >>> backbone, schema = BackboneSettings(width=0.125), celeba_schema()
        >>> network = BranchAttributeNetwork(backbone, HeadSettings(), schema)
        >>> network(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 40])
    """

    architecture: ClassVar[Architecture] = "splnet"

    def __init__(
        self, backbone: BackboneSettings, head: HeadSettings, schema: AttributeSchema
    ) -> None:
        super().__init__()
        self.backbone_settings, self.head_settings = backbone, head
        self.backbone = build_backbone(backbone)
        self.pooling = Branches(self.backbone.widths)
        self.dropout = nn.Dropout(head.dropout)
        groups = {region: schema.group(region) for region in REGIONS}
        self.head = RegionHeads(self.backbone.widths[-1], groups)
        for layer in self.head.values():
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Map float (n, 3, h, w) in [-1, 1] to logits, float32 (n, attributes), in schema order."""
        features = self.pooling(self.backbone(image), tuple(self.head.groups))
        logits: Tensor = self.head({r: self.dropout(f) for r, f in features.items()})
        return logits

    def metadata(self) -> dict[str, Any]:
        """Return the settings that the network is built from, as JSON values."""
        parts = {"backbone": self.backbone_settings, "head": self.head_settings}
        return {name: part.model_dump(mode="json") for name, part in parts.items()}


AnyAttributeNetwork = AttributeNetwork | BranchAttributeNetwork


def build_attribute_network(
    architecture: Architecture,
    backbone: BackboneSettings,
    head: HeadSettings,
    schema: AttributeSchema,
    segmentation: SegmentationSettings | None = None,
    classes: Sequence[str] = (),
) -> AnyAttributeNetwork:
    """Build the stage-2 network of an architecture, for the attributes of a schema.

    `segmentation` and `classes` are as in `AttributeNetwork`; `splnet` has no use for them.
    """
    if architecture == "splnet":
        return BranchAttributeNetwork(backbone, head, schema)
    return AttributeNetwork(backbone, head, len(schema), segmentation, classes)


def network_from_metadata(
    metadata: Mapping[str, Any], schema: AttributeSchema
) -> AnyAttributeNetwork:
    """Build the network that a model file describes, with weights as initialised."""
    if metadata.get("architecture") == "splnet":
        backbone, head = (
            build(BackboneSettings, metadata["backbone"]),
            build(HeadSettings, metadata["head"]),
        )
        return BranchAttributeNetwork(backbone, head, schema)
    return AttributeNetwork.from_metadata(metadata, len(schema))
