"""Features from outside and the probes on them, as settings."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from sspl.io.user_code import is_user_code
from sspl.settings import Settings


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


class NormalisedSettings(Settings):
    """What a network of the user's wants: RGB pictures of `(pixel / 255 - mean) / std`."""

    mean: tuple[float, float, float] = Field(
        (0.485, 0.456, 0.406), description="taken from each colour, of pixels from 0 to 1"
    )
    std: tuple[float, float, float] = Field(
        (0.229, 0.224, 0.225), description="what each colour is divided by then"
    )


class OnnxSettings(NormalisedSettings):
    """A network of the user's: the first output of an ONNX file, flattened, is the feature.

    The number of pictures and their side are read from the graph's input where it says them.
    """

    kind: Literal["onnx"] = Field(description="a network in an ONNX file")
    path: Path = Field(description="the file")
    layout: Literal["nchw", "nhwc"] = Field(
        "nchw", description="order of its input: channels first or last"
    )
    size: int | None = Field(None, ge=8, description="side in px, where the graph leaves it open")


class TorchSettings(NormalisedSettings):
    """A network of the user's in torch: FUNCTION of a Python file returns it, weights and all.

    It maps float32 (n, 3, size, size) to a tensor of n rows, which is flattened.
    """

    kind: Literal["torch"] = Field(description="a network in torch")
    path: str = Field(description="FILE.py:FUNCTION")
    size: int = Field(ge=8, description="side of its pictures, px")

    @field_validator("path")
    @classmethod
    def _names_a_function(cls, path: str) -> str:
        if not is_user_code(path):
            raise ValueError(f"'{path}' must be FILE.py:FUNCTION")
        return path


FeatureSettings = Annotated[HogSettings | OnnxSettings | TorchSettings, Field(discriminator="kind")]


class LinearSettings(Settings):
    """Linear probe: logistic regression, one strength of L2 regularisation for all attributes."""

    strengths: tuple[float, ...] = Field(
        (10.0, 1.0, 0.1, 0.01, 0.001, 0.0001),
        min_length=1,
        description="candidates, per labelled face: weight of half the squared norm of the weights",
    )


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
