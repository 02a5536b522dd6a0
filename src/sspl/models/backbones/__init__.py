"""Backbones; one file holds one, and the settings say which is built."""

from typing import Final

from sspl.models.backbones.base import Backbone
from sspl.models.backbones.own_backbone import build_own
from sspl.models.backbones.resnet import ResNet
from sspl.models.backbones.timm_backbone import TimmBackbone
from sspl.models.network_settings import BackboneSettings

BACKBONES: Final[tuple[type[Backbone], ...]] = (ResNet, TimmBackbone)
"""The backbones there are; a new one needs its file, its line here and its key in the settings."""


def build_backbone(settings: BackboneSettings) -> Backbone:
    """Build the backbone with weights as initialised; raise `SettingsError` when it cannot be.

    Examples:
        >>> backbone = build_backbone(BackboneSettings(width=0.125, stem_stride=2))
        >>> [tuple(x.shape) for x in backbone(torch.zeros(2, 3, 32, 32))]
        [(2, 8, 16, 16), (2, 16, 8, 8), (2, 32, 4, 4), (2, 64, 2, 2)]
    """
    if settings.own is not None:
        return build_own(settings)
    return next(kind for kind in BACKBONES if kind.takes(settings))(settings)
