"""How a face parser is trained, as settings."""

from pydantic import Field

from sspl.data.view_settings import ColourSettings, GeometrySettings
from sspl.settings import Precision, Settings


class ParserModelSettings(Settings):
    """Size of the parser network."""

    width: float = Field(0.5, gt=0, le=4, description="1 is BiSeNetV2's own width")


class ParserSettings(Settings):
    """How a parser is trained."""

    seed: int = Field(0, ge=0, description="of initial weights, order and views")
    taxonomy: str = Field(
        "celebamask19", description="classes of the masks: a built-in list, or a file"
    )
    pairs: int | None = Field(None, ge=1, description="training pairs to use; all when empty")
    size: int = Field(256, ge=64, le=1024, multiple_of=32, description="canvas side in px")
    view: int = Field(192, ge=32, le=1024, multiple_of=32, description="training view in px")
    steps: int = Field(5400, ge=1, description="changes of the weights")
    batch_size: int = Field(16, ge=2, description="pairs of a step")
    lr: float = Field(2e-3, gt=0, description="largest learning rate")
    weight_decay: float = Field(0.02, ge=0, description="pull of the weights towards 0")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps that warm up")
    ema: float = Field(0.995, ge=0, lt=1, description="decay of the averaged weights")
    booster_weight: float = Field(
        0.2, ge=0, description="loss weight of the heads inside the network"
    )
    dice_weight: float = Field(1.0, ge=0, description="loss weight of the overlap of each class")
    rare_class_power: float = Field(0.1, ge=0, le=1, description="0 weighs all classes alike")
    model: ParserModelSettings = ParserModelSettings()
    geometry: GeometrySettings = GeometrySettings(scale=(0.7, 1.25), rotation=20)
    colour: ColourSettings = ColourSettings(
        brightness=0.4, contrast=0.4, saturation=0.4, cast=0.1, grey=0.1
    )
    degrade: float = Field(0.4, ge=0, le=1, description="chance of a low-resolution view")
    noise: float = Field(8.0, ge=0, description="largest standard deviation, grey levels")
    save_every: int = Field(200, ge=1, description="steps between saves; the end is always saved")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1 or the like")
    precision: Precision = Field(
        "auto", description="auto: bf16 where that is fast, else fp16 on GPUs, else fp32"
    )
