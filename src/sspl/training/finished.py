"""The model that learning ends with: a network and all that is chosen on validation faces."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sspl.data.framing import usual_size
from sspl.metrics.attributes import positive_rates
from sspl.models.bundle import AttributeModel
from sspl.models.frozen import AnyNetwork
from sspl.training.calibration import fit_temperatures
from sspl.training.deciding import choose_decisions
from sspl.training.partition import Partition
from sspl.training.stage_settings import LabelledSettings


def finished_model(
    settings: LabelledSettings,
    parts: Partition,
    network: AnyNetwork,
    canvas: int,
    input_size: int,
    logits: NDArray[np.floating],
) -> AttributeModel:
    """Return a network with the metadata that a prediction needs.

    Args:
        settings: what to choose, and by which rule.
        parts: the faces that were learnt from, and those to choose on.
        network: what was learnt.
        canvas, input_size: sides in px.
        logits: of the validation faces, float (n, attributes).
    """
    assert settings.data is not None
    temperatures = np.ones(logits.shape[1])
    if settings.calibrate:
        temperatures = fit_temperatures(logits.astype(np.float64), parts.val.labels)
    box = settings.data.box_of(parts.train)
    return AttributeModel(
        network,
        parts.train.schema,
        box,
        canvas,
        input_size,
        settings.flip_average,
        positive_rates(parts.train.labels),
        temperatures,
        choose_decisions(
            parts.val.schema.names,
            expit(logits / temperatures),
            parts.val.labels,
            settings.thresholds,
            settings.sure_accuracy,
        ),
        usual_size(parts.train, box),
    )
