"""Faces as the features of a network that was pre-trained or fine-tuned."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sspl.data.images import WHOLE_FRAME, Box
from sspl.data.records import FaceSet
from sspl.data.streams import stream_canvases
from sspl.data.transforms import plain_view
from sspl.device import autocast, keep_freed_memory, pick_device
from sspl.models.splnet import AnyAttributeNetwork, BranchAttributeNetwork
from sspl.settings import Precision
from sspl.training.feature_source import FeatureSource

BLOCK: Final = 4096
"""Faces looked at together where all of them would need as much memory again."""


@dataclass(frozen=True)
class FaceFeatures:
    """Faces as vectors.

    Args:
        values: float32 (n, d), each feature standardised, rows of length about 1.
        opinions: float64 (n, a), probability of each attribute of the source; a is 0 without.
        scaling: how the features were standardised.
    """

    values: NDArray[np.float32]
    opinions: NDArray[np.float64]
    scaling: "Scaling"


@dataclass(frozen=True)
class Scaling:
    """What brings features to mean 0 and the same variance.

    Args:
        mean, factor: float64 (d,); values become (value - mean) * factor.
    """

    mean: NDArray[np.float64]
    factor: NDArray[np.float64]

    def apply(self, values: NDArray[np.float32]) -> None:
        """Scale (n, d) in place."""
        for block in _blocks(values):
            block[:] = (block - self.mean) * self.factor


def pooled_and_logits(
    network: AnyAttributeNetwork, view: Tensor, precision: Precision
) -> tuple[Tensor, Tensor]:
    """Map float (n, 3, h, w) in [-1, 1] to features (n, d) and logits (n, a), both float32."""
    with autocast(view.device, precision):
        found = network.pooling(network.backbone(view))
    if isinstance(network, BranchAttributeNetwork):
        branches = {name: feature.float() for name, feature in found.items()}
        return torch.cat(list(branches.values()), dim=1), network.head(branches)
    assert isinstance(network.head, nn.Linear)
    return found.float(), network.head(found.float())


def extract(
    source: FeatureSource,
    faces: FaceSet,
    box: Box | None = None,
    scaling: Scaling | None = None,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int = 64,
    seen: Callable[[int], object] = lambda count: None,
) -> FaceFeatures:
    """Return the features of faces, in their order; pictures are held a few batches at a time.

    Args:
        source: the network.
        faces: any faces.
        box: part of each picture to use; the source's own unless given.
        scaling: of the features; that of these very faces unless given.
        device, precision, batch_size: how the network runs.
        seen: told after each batch how many faces it had.

    Raises `DataError` naming a picture that cannot be used.
    """
    keep_freed_memory()
    where = pick_device(device)
    network = source.network.to(where)
    values = logits = None
    done = 0
    used = box or source.box or WHOLE_FRAME
    for images in stream_canvases(faces, used, source.canvas, batch_size):
        with torch.inference_mode():
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(where)
            view = plain_view(pixels, source.input_size)
            features, opinion = pooled_and_logits(network, view, precision)
        if values is None or logits is None:
            values = np.empty((len(faces), features.shape[1]), dtype=np.float32)
            logits = np.empty((len(faces), opinion.shape[1]), dtype=np.float32)
        values[done : done + len(images)] = features.cpu().numpy()
        logits[done : done + len(images)] = opinion.cpu().numpy()
        done += len(images)
        seen(len(images))
    assert values is not None
    assert logits is not None
    opinions = source.model.probabilities(logits) if source.model else np.empty((len(faces), 0))
    scaling = scaling or scaling_of(values)
    scaling.apply(values)
    return FaceFeatures(values, opinions, scaling)


def scaling_of(values: NDArray[np.float32]) -> Scaling:
    """Return what brings features (n, d) to mean 0 and variance 1 / d, rows to length about 1.

    A feature that is the same on every face becomes 0. Needs memory for `BLOCK` rows only.
    """
    mean = sum(b.sum(0, dtype=np.float64) for b in _blocks(values)) / len(values)
    variance = sum(np.square(b - mean).sum(0) for b in _blocks(values)) / len(values)
    constant = variance <= 1e-12 * (1 + np.square(mean))
    deviation = np.sqrt(np.where(constant, 1, variance) * values.shape[1])
    return Scaling(np.asarray(mean), np.where(constant, 0, 1 / deviation))


def _blocks(values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [values[i : i + BLOCK] for i in range(0, len(values), BLOCK)]
