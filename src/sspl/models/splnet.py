"""Stage 2 of the `splnet` architecture, and the choice between the two architectures."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from sspl.domain.attributes import AttributeSchema
from sspl.domain.regions import REGIONS
from sspl.models.attributes import AttributeNetwork, HeadSettings
from sspl.models.backbones import build_trunk
from sspl.models.branches import Architecture, Branches, RegionHeads
from sspl.models.trunk import TrunkSettings
from sspl.settings import build
from sspl.tasks.pst import SegmentationSettings


class BranchAttributeNetwork(nn.Module):
    """The `splnet` architecture of stage 2: trunk, branches and a linear head for each region.

    METHOD.md "The two architectures": each branch predicts the attributes of its region. A
    branch whose region has no attribute is carried along but not run. The adversarial term is
    left to stage 1, where there are faces enough to train a discriminator on.
    """

    architecture: ClassVar[Architecture] = "splnet"

    def __init__(self, trunk: TrunkSettings, head: HeadSettings, schema: AttributeSchema) -> None:
        super().__init__()
        self.trunk_settings, self.head_settings = trunk, head
        self.trunk = build_trunk(trunk)
        self.pooling = Branches(self.trunk.widths)
        self.dropout = nn.Dropout(head.dropout)
        groups = {region: schema.group(region) for region in REGIONS}
        self.head = RegionHeads(self.trunk.widths[-1], groups)
        for layer in self.head.values():
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Map float (n, 3, h, w) in [-1, 1] to logits, float32 (n, attributes), in schema order."""
        features = self.pooling(self.trunk(image), tuple(self.head.groups))
        logits: Tensor = self.head({r: self.dropout(f) for r, f in features.items()})
        return logits

    def facts(self) -> dict[str, Any]:
        """Return the settings that the network is built from, as JSON values."""
        parts = {"trunk": self.trunk_settings, "head": self.head_settings}
        return {name: part.model_dump(mode="json") for name, part in parts.items()}


AnyAttributeNetwork = AttributeNetwork | BranchAttributeNetwork


def build_attribute_network(
    architecture: Architecture, trunk: TrunkSettings, head: HeadSettings, schema: AttributeSchema,
    segmentation: SegmentationSettings | None = None, classes: Sequence[str] = (),
) -> AnyAttributeNetwork:  # fmt: skip
    """Build the stage-2 network of an architecture, for the attributes of a schema.

    `segmentation` and `classes` are as in `AttributeNetwork`; `splnet` has no use for them.
    """
    if architecture == "splnet":
        return BranchAttributeNetwork(trunk, head, schema)
    return AttributeNetwork(trunk, head, len(schema), segmentation, classes)


def network_from_facts(facts: Mapping[str, Any], schema: AttributeSchema) -> AnyAttributeNetwork:
    """Build the network that a model file describes, with weights as initialised."""
    if facts.get("architecture") == "splnet":
        trunk, head = build(TrunkSettings, facts["trunk"]), build(HeadSettings, facts["head"])
        return BranchAttributeNetwork(trunk, head, schema)
    return AttributeNetwork.from_facts(facts, len(schema))
