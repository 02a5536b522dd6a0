"""Networks: the backbone and the architectures built on it."""

from typing import TYPE_CHECKING

from sspl import public

if TYPE_CHECKING:
    from sspl.models.attributes import AttributeNetwork as AttributeNetwork
    from sspl.models.backbones import build_backbone as build_backbone
    from sspl.models.backbones.base import Backbone as Backbone
    from sspl.models.backbones.base import pooled as pooled
    from sspl.models.branches import Branches as Branches
    from sspl.models.branches import RegionHeads as RegionHeads
    from sspl.models.bundle import AttributeModel as AttributeModel
    from sspl.models.bundle import load_model as load_model
    from sspl.models.bundle import save_model as save_model
    from sspl.models.network_settings import BackboneSettings as BackboneSettings
    from sspl.models.network_settings import HeadSettings as HeadSettings
    from sspl.models.network_settings import SegmentationSettings as SegmentationSettings
    from sspl.models.segmentation import SegmentationHead as SegmentationHead
    from sspl.models.splnet import BranchAttributeNetwork as BranchAttributeNetwork
else:
    __getattr__, __all__ = public(
        __name__,
        attributes="AttributeNetwork",
        backbones="build_backbone",
        branches="Branches RegionHeads",
        bundle="AttributeModel load_model save_model",
        network_settings="BackboneSettings HeadSettings SegmentationSettings",
        segmentation="SegmentationHead",
        splnet="BranchAttributeNetwork",
        **{
            "backbones.base": "Backbone pooled",
        },
    )
