"""A fine-tuned model: weights and everything that a prediction needs.

In a run folder both are one file, `model.safetensors` with the metadata in its metadata. A model
folder that travels has the metadata beside the weights, in `config.json`.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sspl.data.images import Box
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError
from sspl.io.files import write_json
from sspl.io.weights import build_strictly, read_tensors, save_tensors
from sspl.models.decisions import Decisions
from sspl.models.frozen import AnyNetwork, any_network
from sspl.models.model_metadata import (
    CONFIG_FILE,
    MODEL_FILE,
    Normalisation,
    checked_model,
    model_file,
    read_config,
    stated,
)


@dataclass(frozen=True)
class AttributeModel:
    """A stage-2 network and the metadata around it.

    Args:
        network: in evaluation mode after `load_model`; that of stage 2, heads on frozen features,
            or both.
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

    network: AnyNetwork
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
    write_json(config, read_config(config, folder / MODEL_FILE) | decisions.model_dump(mode="json"))


def load_model(path: Path) -> AttributeModel:
    """Read a model from a run folder, a model folder or a file of either.

    Raises `DataError` when there is no model, or a damaged one.

    Examples:
        >>> found = load_model(model)
        >>> found.schema.names, found.input_size
        (('Smiling',), 32)
    """
    file = model_file(path)
    tensors, content = read_tensors(file)
    content, where = stated(file, content)
    metadata = checked_model(content, where)
    try:
        schema = AttributeSchema(tuple(metadata.attributes), tuple(metadata.attributes.values()))
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    described = metadata.model_dump()
    network = build_strictly(lambda: any_network(described, schema), tensors, str(file))
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
