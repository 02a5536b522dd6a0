"""A fine-tuned model: weights and everything that a prediction needs.

In a run folder both are one file, `model.safetensors` with the metadata in its metadata. A model
folder that travels has the metadata beside the weights, in `config.json`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, PositiveInt, model_validator
from scipy.special import expit
from torch import Tensor

from sspl.data.images import Box
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError, SettingsError
from sspl.io.early_files import renamed_keys
from sspl.io.files import read_json, write_json
from sspl.io.weights import build_strictly, read_tensors, save_tensors
from sspl.models.decisions import Decisions, check_decisions
from sspl.models.network_settings import (
    Architecture,
    BackboneSettings,
    HeadSettings,
    SegmentationSettings,
)
from sspl.models.splnet import AnyAttributeNetwork, network_from_metadata
from sspl.settings import Settings, build

MODEL_FILE: Final = "model.safetensors"
CONFIG_FILE: Final = "config.json"
HALF_RANGE: Final = 127.5
MOST_SIDE: Final = 4096


class Normalisation(Settings):
    """How 8-bit pixels reach the network: (pixel - mean) / std; there is one way only."""

    mean: float = Field(HALF_RANGE, ge=HALF_RANGE, le=HALF_RANGE)
    std: float = Field(HALF_RANGE, ge=HALF_RANGE, le=HALF_RANGE)


class ModelMetadata(Settings):
    """What a prediction needs besides the weights; other keys are let pass.

    Attributes:
        architecture, backbone, head, segmentation, classes: as in `network_from_metadata`.
        attributes: name to face region, in output order.
        box, canvas, input_size, flip_average, training_rates, temperatures: as in
            `AttributeModel`.
        pictures: as in `AttributeModel`; absent from the files of early versions.
        thresholds, unsure: as in `Decisions`; absent from the files of early versions.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    architecture: Architecture = "sspl"
    backbone: BackboneSettings
    head: HeadSettings
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

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        left, top, right, bottom = self.box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError("box needs left < right and top < bottom, as fractions from 0 to 1")
        if self.head.pooling == "regions" and not self.classes:
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


@dataclass(frozen=True)
class AttributeModel:
    """A stage-2 network and the metadata around it.

    Args:
        network: in evaluation mode after `load_model`.
        schema: attributes in output order.
        box: part of each picture that is used, as fractions.
        canvas, input_size: sides in px.
        flip_average: whether predictions average the face and its mirror image.
        training_rates: float64 (attributes,), share of positives among the labelled faces.
        temperatures: float64 (attributes,), divisors of the logits that calibrate them.
        decisions: from which probability on an attribute is there, and where that is not sure.
        pictures: width and height in px of the pictures learnt from, None where not known or
            not alike.

    Examples:
        >>> found = load_model(model)
        >>> found.probabilities(np.zeros((1, 1), np.float32)).tolist()
        [[0.5]]
    """

    network: AnyAttributeNetwork
    schema: AttributeSchema
    box: Box
    canvas: int
    input_size: int
    flip_average: bool
    training_rates: NDArray[np.float64]
    temperatures: NDArray[np.float64]
    decisions: Decisions = field(default_factory=Decisions)
    pictures: tuple[int, int] | None = None

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return calibrated probabilities (n, attributes) of logits (n, attributes).

        Raises `DataError` when the network gave what is no number.
        """
        if np.isnan(logits).any():
            raise DataError("the network's answers are no numbers; its weights cannot be right.")
        probabilities: NDArray[np.float64] = expit(logits.astype(np.float64) / self.temperatures)
        return probabilities


def model_metadata(model: AttributeModel) -> dict[str, Any]:
    """Return what `load_model` needs besides the weights, as JSON values."""
    return {
        "kind": "attributes",
        "architecture": model.network.architecture,
        **model.network.metadata(),
        "attributes": dict(zip(model.schema.names, model.schema.regions, strict=True)),
        "box": model.box,
        "canvas": model.canvas,
        "input_size": model.input_size,
        "flip_average": model.flip_average,
        "pictures": model.pictures,
        "normalisation": Normalisation().model_dump(),
        "training_rates": [float(r) for r in model.training_rates],
        "temperatures": [float(t) for t in model.temperatures],
        **model.decisions.model_dump(mode="json"),
    }


def save_model(folder: Path, model: AttributeModel) -> None:
    """Write `model.safetensors`, with the metadata inside, into the folder.

    Examples:
        >>> Path("copy").mkdir()
        >>> save_model(Path("copy"), load_model(model))
        >>> [path.name for path in Path("copy").iterdir()]
        ['model.safetensors']
    """
    save_tensors(folder / MODEL_FILE, model.network.state_dict(), model_metadata(model))


def save_decisions(folder: Path, model: AttributeModel, decisions: Decisions) -> None:
    """Give the model of a folder other decisions, in whichever file its metadata stand."""
    tensors, content = read_tensors(folder / MODEL_FILE)
    if content is not None:
        save_tensors(
            folder / MODEL_FILE, tensors, model_metadata(replace(model, decisions=decisions))
        )
        return
    config = folder / CONFIG_FILE
    write_json(
        config, _read_config(config, folder / MODEL_FILE) | decisions.model_dump(mode="json")
    )


def load_model(path: Path) -> AttributeModel:
    """Read a model from a run folder, a model folder or a file of either.

    Metadata inside the file of weights come first: they were written with them. A file without
    any takes those of `config.json` beside it.

    Raises `DataError` when there is no model, or a damaged one.

    Examples:
        >>> found = load_model(model)
        >>> found.schema.names, found.input_size
        (('Smiling',), 32)
    """
    file = path / MODEL_FILE if path.is_dir() else path
    tensors, content = read_tensors(file)
    where = file
    if content is None:
        where = file.parent / CONFIG_FILE
        content = _read_config(where, file)
    if not isinstance(content, dict) or content.get("kind") != "attributes":
        kind = content.get("kind") if isinstance(content, dict) else content
        raise DataError(f"{where}: holds no fine-tuned model but '{kind}'.")
    return _build(content, tensors, where, file)


def _build(
    content: Mapping[str, Any], tensors: Mapping[str, Tensor], where: Path, file: Path
) -> AttributeModel:
    try:
        metadata = build(ModelMetadata, dict(content))
        schema = AttributeSchema(tuple(metadata.attributes), tuple(metadata.attributes.values()))
    except (SettingsError, DataError) as error:
        raise DataError(f"{where}: {error}") from None
    described = metadata.model_dump()
    network = build_strictly(lambda: network_from_metadata(described, schema), tensors, str(file))
    return AttributeModel(
        network.eval(),
        schema,
        metadata.box,
        metadata.canvas,
        metadata.input_size,
        metadata.flip_average,
        np.asarray(metadata.training_rates, dtype=np.float64),
        np.asarray(metadata.temperatures, dtype=np.float64),
        metadata.decisions(),
        metadata.pictures,
    )


def _read_config(config: Path, weights: Path) -> Any:
    if not config.is_file():
        raise DataError(
            f"{weights}: not a model of this software; it carries no 'sspl' metadata, and there is "
            f"no {CONFIG_FILE} beside it."
        )
    content = read_json(config)
    return renamed_keys(content) if isinstance(content, dict) else content
