"""Features from outside and the probes on them, as settings."""

from typing import Annotated, Literal

from pydantic import Field

from sspl.settings import Settings
from sspl.training.feature_settings import OnnxSettings, RunSettings, TorchSettings


class HogSettings(Settings):
    """Histograms of oriented gradients and mean colours, reduced by PCA.

    The histograms are those of Dalal and Triggs (CVPR 2005); colours are means over a grid, in
    CIELAB. The PCA is fitted on training faces without their labels.
    """

    kind: Literal["hog"] = Field(description="gradients and colours")
    orientations: int = Field(9, ge=2, description="bins of direction")
    cell: int = Field(8, ge=4, description="side of a cell, px of the network's input size")
    colour_grid: int = Field(6, ge=1, description="cells along each side whose mean colour counts")
    components: int = Field(200, ge=1, description="of the PCA")


FeatureSettings = Annotated[
    HogSettings | OnnxSettings | TorchSettings | RunSettings, Field(discriminator="kind")
]


class KNNSettings(Settings):
    """Nearest neighbours by cosine similarity; each votes with exp(similarity / temperature).

    After Wu et al., CVPR 2018, as is common for features of self-supervision. There the faces
    are so many of each class; here, where a face has many attributes, the label count is the
    number of faces, drawn once for each subset seed of the study.
    """

    neighbours: tuple[int, ...] = Field(
        (1, 3, 5, 10, 20, 50, 100),
        min_length=1,
        description="candidates: how many of the nearest faces vote",
    )
    temperature: float = Field(0.07, gt=0, description="of the votes")
