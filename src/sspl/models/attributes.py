"""Stage 2: attribute heads on the trunk's pooled feature."""

import torch
from pydantic import Field
from torch import Tensor, nn

from sspl.models.trunk import Trunk, TrunkSettings, pooled
from sspl.settings import Settings


class HeadSettings(Settings):
    """The attribute heads."""

    dropout: float = Field(0.0, ge=0, lt=1)


class AttributeNetwork(nn.Module):
    """The `sspl` architecture of stage 2: trunk and one linear head for each attribute."""

    def __init__(self, trunk: TrunkSettings, head: HeadSettings, attributes: int) -> None:
        super().__init__()
        self.trunk = Trunk(trunk)
        self.dropout = nn.Dropout(head.dropout)
        self.head = nn.Linear(self.trunk.widths[-1], attributes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Map float (n, 3, h, w) in [-1, 1] to logits, float32 (n, attributes)."""
        feature = self.dropout(pooled(self.trunk(image)))
        # The heads are tiny and their logits are compared finely: no bf16 here.
        with torch.autocast(feature.device.type, enabled=False):
            logits: Tensor = self.head(feature.float())
        return logits
