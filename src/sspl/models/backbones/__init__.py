"""The backbone that the settings name."""

from sspl.models.backbones.resnet import Backbone, BackboneSettings, ResNet
from sspl.models.backbones.timm_backbone import TimmBackbone


def build_backbone(settings: BackboneSettings) -> Backbone:
    """Build the backbone with weights as initialised; raise `SettingsError` when it cannot be.

    Examples:
        >>> backbone = build_backbone(BackboneSettings(width=0.125, stem_stride=2))
        >>> [tuple(x.shape) for x in backbone(torch.zeros(2, 3, 32, 32))]
        [(2, 8, 16, 16), (2, 16, 8, 8), (2, 32, 4, 4), (2, 64, 2, 2)]
    """
    return ResNet(settings) if settings.timm is None else TimmBackbone(settings.timm)
