"""Which network there is, as settings."""

from typing import Literal, Self

from pydantic import Field, model_validator

from sspl.io.user_code import PINNED
from sspl.settings import Settings

Architecture = Literal["sspl", "splnet"]


class BackboneSettings(Settings):
    """Size of the backbone; depth 18, width 1, stem stride 4 is the paper's.

    `timm` names a model of the timm package instead, which brings its own sizes; `own` a class of
    the user's, whose code comes along with no model (`sspl.io.user_code`).

    Examples:
        >>> BackboneSettings(width=0.25).depth
        18
    """

    depth: Literal[18, 34, 50] = Field(18, description="layers of the ResNet")
    width: float = Field(1.0, gt=0, le=4, description="1 is 64 channels in the first stage")
    stem_stride: Literal[1, 2, 4] = Field(
        4, description="px of the input for each place of the first feature map"
    )
    # No colon or slash: timm would look such a name up on a hub or in a folder.
    timm: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_.]+$", description="model of the timm package to use"
    )
    own: str | None = Field(
        None,
        pattern=PINNED,
        description="file, class and SHA-256 of your own; `--backbone` sets it",
    )

    @model_validator(mode="after")
    def _one_kind_of_backbone(self) -> Self:
        own = (self.depth, self.width, self.stem_stride)
        if self.timm is not None and own != (18, 1.0, 4):
            raise ValueError(
                "backbone.timm brings its own depth, width and stem stride; "
                f"write 'backbone={{timm: {self.timm}}}' to set nothing else"
            )
        if self.timm is not None and self.own is not None:
            raise ValueError("backbone.timm and --backbone name two; leave one of them out")
        return self


class SegmentationSettings(Settings):
    """Shape of the segmentation head, which stage 2 may take over.

    `attention: criss_cross` with `maps: 1` is the reference's head.

    Examples:
        >>> SegmentationSettings(maps=3).attention
        'none'
    """

    maps: int = Field(1, ge=1, le=4, description="how many of the last feature maps the head reads")
    width: int = Field(128, ge=8, description="channels of the head")
    attention: Literal["none", "criss_cross"] = Field(
        "none", description="criss_cross: what the reference has"
    )


class HeadSettings(Settings):
    """The attribute heads and what they read.

    `pooling: average` is the paper's: the last feature map averaged over its places. `regions`
    goes beyond it: PST's segmentation head comes along to stage 2, and the heads also read
    feature map `region_map` averaged over each semantic class's places.

    Examples:
        >>> HeadSettings(dropout=0.2).pooling
        'average'
    """

    dropout: float = Field(
        0.0, ge=0, lt=1, description="share of the pooled feature that is dropped in training"
    )
    pooling: Literal["average", "regions"] = Field(
        "average",
        description="what the heads read: the mean feature, or that of each semantic class too",
    )
    region_map: int = Field(2, ge=1, le=4, description="stage whose map is pooled by region")
