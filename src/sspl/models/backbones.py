"""The trunk that the settings name."""

from sspl.models.timm_trunk import TimmTrunk
from sspl.models.trunk import ResNetTrunk, Trunk, TrunkSettings


def build_trunk(settings: TrunkSettings) -> Trunk:
    """Build the trunk with weights as initialised; raise `SettingsError` when it cannot be."""
    return ResNetTrunk(settings) if settings.timm is None else TimmTrunk(settings.timm)
