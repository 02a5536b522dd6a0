"""Logits and probabilities of a stage-2 network for faces, in true batches."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sspl.data.canvases import Canvases, ahead
from sspl.data.images import Box
from sspl.data.records import FaceSet
from sspl.data.transforms import plain_view
from sspl.device import autocast
from sspl.io.progress import watched
from sspl.models.bundle import AttributeModel
from sspl.models.extractors import shrunk
from sspl.models.feature_cache import face_features
from sspl.models.frozen import AnyNetwork, FrozenNetwork, JoinedNetwork, frozen_part
from sspl.settings import Precision


@torch.inference_mode()
def logits_of(
    network: AnyNetwork,
    canvas: Tensor,
    input_size: int,
    flip_average: bool,
    precision: Precision,
) -> Tensor:
    """Map uint8 (n, 3, c, c) to logits float32 (n, attributes).

    With `flip_average` the logits of the face and of its mirror image are averaged.
    """
    if isinstance(network, FrozenNetwork):
        found: Tensor = network(canvas)
        return (found + network(canvas.flip(3))) / 2 if flip_average else found
    if isinstance(network, JoinedNetwork):
        small = shrunk(canvas, network.own_canvas)
        own = logits_of(network.own, small, input_size, flip_average, precision)
        frozen = logits_of(network.frozen, canvas, input_size, flip_average, precision)
        return (1 - network.share) * own + network.share * frozen
    view = plain_view(canvas, input_size)
    with autocast(canvas.device, precision):
        logits: Tensor = network(view)
        if flip_average:
            logits = (logits + network(view.flip(3))) / 2
    return logits.float()


def face_logits(
    network: AnyNetwork,
    canvases: Canvases,
    order: Sequence[int],
    input_size: int,
    flip_average: bool,
    device: torch.device,
    precision: Precision,
    batch_size: int = 128,
    title: str = "predict",
    shrink: int | None = None,
) -> NDArray[np.float32]:
    """Return float32 (len(order), attributes) logits; the network is left in eval mode.

    With `shrink`, canvases are first brought to that side, as within a `JoinedNetwork`.
    """
    network.eval()
    rows = []
    bar = watched(total=len(order), desc=title, unit="face", leave=False)
    for batch in ahead(canvases.batches(order, batch_size), device):
        images = batch.images
        images = images if shrink is None else shrunk(images, shrink)
        rows.append(logits_of(network, images, input_size, flip_average, precision))
        bar.update(len(images))
    bar.close()
    result: NDArray[np.float32] = torch.cat(rows).cpu().numpy()
    return result


def face_probabilities(
    model: AttributeModel,
    canvases: Canvases,
    device: torch.device,
    precision: Precision,
    batch_size: int = 128,
    title: str = "predict",
) -> NDArray[np.float64]:
    """Return a model's calibrated probabilities, float64 (len(canvases), attributes)."""
    logits = face_logits(
        model.network.to(device),
        canvases,
        range(len(canvases)),
        model.input_size,
        model.flip_average,
        device,
        precision,
        batch_size,
        title,
    )
    return model.probabilities(logits)


@torch.inference_mode()
def kept_logits(
    model: AttributeModel,
    faces: FaceSet,
    box: Box,
    canvases: Canvases,
    device: torch.device,
    precision: Precision,
    kept: Path,
) -> NDArray[np.float32]:
    """Return `face_logits` of a model with frozen networks, whose features the folder `kept` keeps.

    `canvases` are those of the `faces`, which `box` was cut out of.
    """
    network = model.network.to(device)
    frozen = frozen_part(network)
    assert frozen is not None
    features = [
        face_features(e, faces, box, model.canvas, model.flip_average, device, kept)
        for e in frozen.parts()
    ]
    # Heads are linear: the mean of two logits is the logit of the mean feature.
    logits = frozen.head(torch.from_numpy(np.concatenate(features, axis=1)).to(device))
    found: NDArray[np.float32] = logits.cpu().numpy()
    if isinstance(network, JoinedNetwork):
        order, size, flip = range(len(canvases)), model.input_size, model.flip_average
        own = face_logits(
            network.own, canvases, order, size, flip, device, precision, shrink=network.own_canvas
        )
        found = (1 - network.share) * own + network.share * found
    return found
