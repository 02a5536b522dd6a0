"""What is known of frozen extractors, and of a model that reads their features."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator

from sspl.models.network_settings import (
    Architecture,
    BackboneSettings,
    HeadSettings,
    SegmentationSettings,
)
from sspl.settings import Settings

Three = tuple[float, float, float]
Positive = Annotated[float, Field(gt=0)]
Layout = Literal["nchw", "nhwc"]

FROZEN: Final = "frozen"
"""What a network without a backbone of its own is called where others name their architecture."""

MOST_BYTES: Final = 2**31 - 1
LEAST_SIDE, MOST_SIDE = 8, 4096
"""Of the pictures that a network takes, px."""


class PixelSettings(Settings):
    """How a network of the user's wants its pixels: `(grey level * scale - mean) / std`.

    Examples:
        >>> PixelSettings(mean=0.5, std="0.5").std
        (0.5, 0.5, 0.5)
        >>> PixelSettings(scale="1/255").scale == 1 / 255
        True
    """

    channels: Literal["rgb", "bgr"] = Field(
        "rgb", description="order of the colour channels, and of mean and std"
    )
    scale: float = Field(
        1 / 255, gt=0, description="what a grey level of 0 to 255 is multiplied by first"
    )
    mean: Three = Field(
        (0.0, 0.0, 0.0), description="what is subtracted then, for each channel or all"
    )
    std: tuple[Positive, Positive, Positive] = Field(
        (1.0, 1.0, 1.0), description="what is divided by then, likewise"
    )

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _for_each_channel(cls, value: Any) -> Any:
        """Take one number for all three channels, and numbers with a colon between them."""
        parts = str(value).split(":") if isinstance(value, str | int | float) else value
        return tuple(parts) * 3 if isinstance(parts, Sequence) and len(parts) == 1 else parts

    @field_validator("scale", mode="before")
    @classmethod
    def _ratio(cls, value: Any) -> Any:
        """Take a fraction, as in 1/255."""
        above, bar, below = value.partition("/") if isinstance(value, str) else ("", "", "")
        try:
            return float(above) / float(below) if bar else value
        except (ValueError, ZeroDivisionError):
            return value


class OnnxAbout(PixelSettings):
    """What is known of an ONNX graph that gives features.

    Attributes:
        name: of its file, without folders.
        sha256: of its bytes.
        bytes: how many there are.
        side: of the square picture that it takes, px.
        layout: where the channels stand in its input.
        batch: pictures that it takes at once; None: any number.
        output: name of the output that is read.
        features: how many there are for each picture.
    """

    kind: Literal["onnx"] = "onnx"
    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=1, le=MOST_BYTES)
    side: int = Field(ge=LEAST_SIDE, le=MOST_SIDE)
    layout: Layout
    batch: int | None = Field(None, ge=1)
    output: str
    features: int = Field(ge=1)


class RunAbout(Settings):
    """What is known of a backbone with its pooling; `features` are those that heads would read."""

    kind: Literal["run"] = "run"
    name: str
    architecture: Architecture
    backbone: BackboneSettings
    head: HeadSettings
    segmentation: SegmentationSettings = SegmentationSettings()
    classes: tuple[str, ...] = ()
    side: int = Field(ge=1, le=MOST_SIDE, description="of the canvas, px")
    input_size: int = Field(ge=1, le=MOST_SIDE)
    features: int = Field(ge=1)


ExtractorAbout = Annotated[OnnxAbout | RunAbout, Field(discriminator="kind")]


class FrozenSettings(Settings):
    """What frozen extractors add to a model.

    Attributes:
        extractors: in the order in which the heads read their features.
        share: weight of their logits; the rest is that of the fine-tuned network's.
        own_canvas: side in px of the canvas that the fine-tuned network's views are cut from;
            None without one.
    """

    extractors: tuple[ExtractorAbout, ...] = Field(min_length=1)
    share: float = Field(1.0, ge=0, le=1)
    own_canvas: int | None = Field(None, ge=1, le=MOST_SIDE)
