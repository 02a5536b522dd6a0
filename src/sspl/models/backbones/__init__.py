"""The backbone that the settings name."""

from sspl.models.backbones.resnet import Backbone, BackboneSettings, ResNet
from sspl.models.backbones.timm_backbone import TimmBackbone


def build_backbone(settings: BackboneSettings) -> Backbone:
    """Build the backbone with weights as initialised; raise `SettingsError` when it cannot be."""
    return ResNet(settings) if settings.timm is None else TimmBackbone(settings.timm)
