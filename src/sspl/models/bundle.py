"""A fine-tuned model as one file: weights and everything that a prediction needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sspl.data.images import Box
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError
from sspl.models.splnet import AnyAttributeNetwork, network_from_facts
from sspl.weights import load_strictly, load_tensors, save_tensors

MODEL_FILE: Final = "model.safetensors"


@dataclass(frozen=True)
class AttributeModel:
    """A stage-2 network and the facts around it.

    Args:
        network: in evaluation mode after `load_model`.
        schema: attributes in output order.
        box: part of each picture that is used, as fractions.
        canvas, input_size: sides in px.
        flip_average: whether predictions average the face and its mirror image.
        training_rates: float64 (attributes,), share of positives among the labelled faces.
        temperatures: float64 (attributes,), divisors of the logits that calibrate them.
    """

    network: AnyAttributeNetwork
    schema: AttributeSchema
    box: Box
    canvas: int
    input_size: int
    flip_average: bool
    training_rates: NDArray[np.float64]
    temperatures: NDArray[np.float64]

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return calibrated probabilities (n, attributes) of logits (n, attributes)."""
        probabilities: NDArray[np.float64] = expit(logits.astype(np.float64) / self.temperatures)
        return probabilities


def save_model(folder: Path, model: AttributeModel) -> None:
    """Write `model.safetensors` into the folder."""
    facts = {
        "kind": "attributes",
        "architecture": model.network.architecture,
        **model.network.facts(),
        "attributes": dict(zip(model.schema.names, model.schema.regions, strict=True)),
        "box": model.box,
        "canvas": model.canvas,
        "input_size": model.input_size,
        "flip_average": model.flip_average,
        "training_rates": [float(r) for r in model.training_rates],
        "temperatures": [float(t) for t in model.temperatures],
    }
    save_tensors(folder / MODEL_FILE, model.network.state_dict(), facts)


def load_model(path: Path) -> AttributeModel:
    """Read a model from a run folder or file; raise `DataError` when it is none or damaged."""
    file = path / MODEL_FILE if path.is_dir() else path
    tensors, facts = load_tensors(file)
    if facts.get("kind") != "attributes":
        raise DataError(f"{file}: holds no fine-tuned model but '{facts.get('kind')}'.")
    attributes = facts["attributes"]
    schema = AttributeSchema(tuple(attributes), tuple(attributes.values()))
    network = network_from_facts(facts, schema)
    load_strictly(network, tensors, str(file))
    left, top, right, bottom = facts["box"]
    return AttributeModel(
        network.eval(),
        schema,
        (left, top, right, bottom),
        int(facts["canvas"]),
        int(facts["input_size"]),
        bool(facts["flip_average"]),
        np.asarray(facts["training_rates"], dtype=np.float64),
        np.asarray(facts["temperatures"], dtype=np.float64),
    )
