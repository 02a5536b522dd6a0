"""Networks: the backbone and the architectures built on it."""

from sspl.models.attributes import AttributeNetwork, HeadSettings
from sspl.models.backbones import build_backbone
from sspl.models.backbones.base import Backbone, BackboneSettings, pooled
from sspl.models.branches import Branches, RegionHeads
from sspl.models.bundle import AttributeModel, load_model, save_model
from sspl.models.segmentation import SegmentationHead, SegmentationSettings
from sspl.models.splnet import BranchAttributeNetwork

__all__ = [
    "AttributeModel",
    "AttributeNetwork",
    "Backbone",
    "BackboneSettings",
    "BranchAttributeNetwork",
    "Branches",
    "HeadSettings",
    "RegionHeads",
    "SegmentationHead",
    "SegmentationSettings",
    "build_backbone",
    "load_model",
    "pooled",
    "save_model",
]
