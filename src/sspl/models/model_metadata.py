"""What a fine-tuned model says of itself, known without its network, and so without torch."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, PositiveInt, model_validator

from sspl.data.images import Box
from sspl.errors import DataError, SettingsError
from sspl.io.files import read_json
from sspl.io.run_files import PRETRAINED_FILE
from sspl.io.weight_headers import stated_metadata
from sspl.models.decisions import Decisions, check_decisions
from sspl.models.extractor_settings import FROZEN, MOST_SIDE, FrozenSettings
from sspl.models.network_settings import (
    Architecture,
    BackboneSettings,
    HeadSettings,
    SegmentationSettings,
)
from sspl.settings import Settings, build
from sspl.settings.early_files import renamed_keys

MODEL_FILE: Final = "model.safetensors"
CONFIG_FILE: Final = "config.json"
HALF_RANGE: Final = 127.5


class Normalisation(Settings):
    """How 8-bit pixels reach the network: (pixel - mean) / std; there is one way only."""

    mean: float = Field(HALF_RANGE, ge=HALF_RANGE, le=HALF_RANGE)
    std: float = Field(HALF_RANGE, ge=HALF_RANGE, le=HALF_RANGE)


class ModelMetadata(Settings):
    """What a prediction needs besides the weights; other keys are let pass.

    Attributes:
        architecture, backbone, head, segmentation, classes, frozen: as in `any_network`;
            a model of frozen features alone has no backbone and no head of that kind.
        attributes: name to face region, in output order.
        box, canvas, input_size, flip_average, training_rates, temperatures: as in
            `AttributeModel`.
        pictures: as in `AttributeModel`; absent from the files of early versions.
        thresholds, unsure: as in `Decisions`; absent from the files of early versions.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    architecture: Architecture | Literal["frozen"] = "sspl"
    backbone: BackboneSettings | None = None
    head: HeadSettings | None = None
    segmentation: SegmentationSettings = SegmentationSettings()
    classes: tuple[str, ...] = ()
    attributes: dict[str, str] = Field(min_length=1)
    box: Box
    canvas: int = Field(ge=1, le=MOST_SIDE)
    input_size: int = Field(ge=1, le=MOST_SIDE)
    flip_average: bool
    training_rates: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    temperatures: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]
    thresholds: dict[str, float] = Field(default_factory=dict)
    unsure: dict[str, tuple[float, float]] = Field(default_factory=dict)
    normalisation: Normalisation = Normalisation()
    pictures: tuple[PositiveInt, PositiveInt] | None = None
    frozen: FrozenSettings | None = None

    @model_validator(mode="after")
    def _has_its_network(self) -> Self:
        own = self.architecture != FROZEN
        for key in ("backbone", "head") if own else ("frozen",):
            if getattr(self, key) is None:
                raise ValueError(f"{key}: is missing")
        if self.frozen is not None and own == (self.frozen.own_canvas is None):
            raise ValueError("frozen.own_canvas is for a model with a backbone of its own")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        left, top, right, bottom = self.box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError("box needs left < right and top < bottom, as fractions from 0 to 1")
        if self.head and self.head.pooling == "regions" and not self.classes:
            raise ValueError("classes must be named where features are pooled by region")
        for key in ("training_rates", "temperatures"):
            if len(getattr(self, key)) != len(self.attributes):
                raise ValueError(f"{key} needs one number for each attribute")
        check_decisions(self.thresholds, self.unsure)
        for name in self.decisions().unknown(tuple(self.attributes)):
            raise ValueError(f"'{name}' has a threshold or band but is no attribute")
        return self

    def decisions(self) -> Decisions:
        """Return what the model decides by."""
        return Decisions(thresholds=self.thresholds, unsure=self.unsure)


def not_alone(where: object) -> DataError:
    """Return the error for a model that is wanted as one backbone with its heads, and is not."""
    return DataError(
        f"{where}: the model reads features of frozen networks, and cannot be explained or gone on "
        "from; give a run of 'sspl pretrain', or of 'sspl finetune' without features."
    )


def read_metadata(path: Path) -> ModelMetadata:
    """Return what the model of a run folder, a model folder or a file of either says of itself.

    Raises `DataError` when there is no model, or a damaged one.
    """
    file = model_file(path)
    return checked_model(*stated(file, stated_metadata(file)))


def model_file(path: Path) -> Path:
    """Return the file of weights of a run or model folder, or the file that `path` is.

    Raises `DataError` for a run of stage 1.
    """
    if not path.is_dir():
        return path
    if not (path / MODEL_FILE).is_file() and (path / PRETRAINED_FILE).is_file():
        raise DataError(
            f"{path}: is a run of stage 1, which knows no attributes; fine-tune it first (sspl "
            f"finetune --from {path})."
        )
    return path / MODEL_FILE


def stated(file: Path, content: Any) -> tuple[Any, Path]:
    """Return a model's metadata, and where they stand: with its weights, or in the config beside.

    `content` are those with the weights, which come first: they were written with them.
    """
    config = file.parent / CONFIG_FILE
    return (content, file) if content is not None else (read_config(config, file), config)


def checked_model(content: Any, where: Path) -> ModelMetadata:
    """Return metadata that fit together; raise `DataError` for those that do not."""
    if not isinstance(content, dict) or content.get("kind") != "attributes":
        kind = content.get("kind") if isinstance(content, dict) else content
        raise DataError(f"{where}: holds no fine-tuned model but '{kind}'.")
    try:
        return build(ModelMetadata, dict(content))
    except SettingsError as error:
        raise DataError(f"{where}: {error}") from None


def read_config(config: Path, weights: Path) -> Any:
    """Return the content of a config.json; raise `DataError` where none is beside the weights."""
    if not config.is_file():
        raise DataError(
            f"{weights}: not a model of this software; it carries no 'sspl' metadata, and there is "
            f"no {CONFIG_FILE} beside it."
        )
    content = read_json(config)
    return renamed_keys(content) if isinstance(content, dict) else content
