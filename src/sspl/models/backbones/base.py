"""What any backbone must offer, and the settings that name one."""

from abc import ABC, abstractmethod
from typing import Final

import torch
from torch import Tensor, nn

from sspl.models.network_settings import BackboneSettings

MAPS: Final = 4
"""Feature maps of a backbone."""

TRIAL: Final = 64
"""Side in px of the picture that a backbone from elsewhere is tried with."""


class Backbone(nn.Module, ABC):
    """Pictures to four feature maps, each half the size of the one before.

    One of `sspl.models.backbones.BACKBONES` is built from the settings that it takes.

    Attributes:
        widths: channels of the four maps.

    Examples:
        >>> backbone: Backbone = build_backbone(BackboneSettings(width=0.25))
        >>> backbone.widths
        (16, 32, 64, 128)
    """

    widths: tuple[int, ...]

    @classmethod
    def takes(cls, settings: BackboneSettings) -> bool:
        """Tell whether these settings name this backbone."""
        return False

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Map float (n, 3, h, w) in [-1, 1] to the maps of the four stages.

        Map i has shape (n, widths[i], h / (s * 2**i), w / (s * 2**i)) for the stride s of the
        first, rounded up; the last is ready for pooling.
        """

    @abstractmethod
    def parts(self) -> list[nn.Module]:
        """Return stem and four stages, earliest first; together they hold every parameter once."""

    def body(self) -> nn.Module:
        """Return the module whose tensor names a file of weights for this backbone bears."""
        return self

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters from the earliest layers (stem) to the latest (last stage)."""
        return [list(part.parameters()) for part in self.parts()]


def pooled(maps: list[Tensor]) -> Tensor:
    """Return float32 (n, channels): the last feature map averaged over its places.

    Examples:
        >>> maps = [torch.ones(1, 2, 4, 4), torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]])]
        >>> pooled(maps).tolist()
        [[3.0]]
    """
    return torch.mean(maps[-1].float(), dim=(2, 3))
