"""Heads that weights of stage 1 bring along: attributes of faces whose labels cost nothing.

Of drawn faces every attribute is known. Linear heads on what the network sees of them say something
of photographs already, and stage 2 starts from them where a user has attributes of the same name
(docs/method.md#beyond-the-paper).
"""

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sspl.data.data_settings import DataSettings
from sspl.data.images import Box
from sspl.data.records import FaceSet, Labels
from sspl.data.synthetic import write_synthetic
from sspl.errors import DataError, SsplError
from sspl.io.locks import claimed
from sspl.io.run_files import PRETRAINED_FILE
from sspl.io.weight_headers import checked_metadata, stated_metadata
from sspl.io.weights import load_tensors, save_tensors
from sspl.models.attributes import AttributeNetwork, RegionPooling
from sspl.models.extractors import RunExtractor
from sspl.models.feature_cache import compute_features, extractor_features
from sspl.training.feature_settings import LinearSettings
from sspl.training.feature_source import FeatureSource, load_source
from sspl.training.linear_heads import Features, LabelledFeatures, fit_linear, standardisation
from sspl.training.starts import READY_WEIGHT, PretrainedMetadata, ReadyHeads, weights_file

STRENGTH: Final = 4.0
"""Weight of half the squared norm of the heads, so strong that they fit photographs too."""

DRAWN: Final = 3000
DRAWN_SIZE: Final = 112
DRAWN_SEED: Final = 2021
"""Faces that are drawn for whoever has none whose attributes are known, and their side in px."""

MOST_FACES: Final = 50_000
"""Faces that are looked at, spread over the set: more would fill the memory and say no more."""


def add_ready_heads(
    run: Path, faces: FaceSet, box: Box, device: torch.device, strength: float = STRENGTH
) -> ReadyHeads:
    """Fit a head for each attribute of labelled faces, and keep them with a run's weights.

    Backbone and segmentation head stay as they are; heads of before are replaced. Attributes of
    which the faces show one kind alone are left out. Raises `DataError` when there are no others,
    or `run` is not of stage 1, `SsplError` when it was without PST, whose regions the heads read.
    """
    with claimed(run, folder=True):
        return _with_heads(run, faces, box, device, strength)


def _with_heads(
    run: Path, faces: FaceSet, box: Box, device: torch.device, strength: float
) -> ReadyHeads:
    source, network = _read_by_regions(run)
    learnt = tuple(n for n, kinds in faces.label_counts().items() if kinds["yes"] and kinds["no"])
    if not learnt:
        raise DataError(
            f"{faces.source}: no attribute has faces with a yes and faces with a no "
            "to learn a head from; give labelled faces."
        )
    faces, canvas = spread(faces), source.canvas
    extractor = RunExtractor.of(network, run.name, canvas, source.input_size).to(device)

    def extract(canvases: NDArray[np.uint8]) -> Features:
        return extractor_features(extractor, canvases, False, device)

    features = compute_features(extract, faces, box, canvas, "features")
    ready = ReadyHeads(names=learnt, region_map=network.head_settings.region_map)
    tensors, metadata = load_tensors(run / PRETRAINED_FILE)
    metadata["heads"] = ready.model_dump(mode="json")
    labels = faces.labels[:, [faces.schema.index(name) for name in learnt]]
    tensors[READY_WEIGHT] = ready_weight(features, labels, strength)
    save_tensors(run / PRETRAINED_FILE, tensors, metadata)
    return ready


def add_drawn_heads(run: Path, device: torch.device, strength: float = STRENGTH) -> ReadyHeads:
    """Do so from `DRAWN` faces that are drawn for it and thrown away afterwards."""
    _read_by_regions(run)
    with TemporaryDirectory() as folder:
        root = Path(folder) / "drawn"
        write_synthetic(root, DRAWN, DRAWN_SEED, DRAWN_SIZE, "photo")
        known = DataSettings(format="celeba", root=root)
        return add_ready_heads(run, known.open(), known.box(), device, strength)


def _read_by_regions(run: Path) -> tuple[FeatureSource, AttributeNetwork]:
    source = load_source(run)
    if source.model is not None:
        raise DataError(f"{run}: is a fine-tuned model, which has heads; give a run of stage 1.")
    network = source.network
    if not (isinstance(network, AttributeNetwork) and isinstance(network.pooling, RegionPooling)):
        raise SsplError(
            f"{run}: was pre-trained without PST, so there are no regions for heads to read; "
            "pre-train with pst among the tasks."
        )
    return source, network


def spread(faces: FaceSet) -> FaceSet:
    """Return the faces that are looked at: at most `MOST_FACES`, over all of the set."""
    return faces.select(range(0, len(faces), math.ceil(len(faces) / MOST_FACES)))


def ready_heads_of(run: Path) -> ReadyHeads | None:
    """Return what heads the weights of stage 1 bring along, if any; no weights are read."""
    file = weights_file(run)
    return checked_metadata(PretrainedMetadata, stated_metadata(file), file).heads


def ready_weight(features: Features, labels: Labels, strength: float) -> Tensor:
    """Return float32 (attributes, d): heads on features as `RegionPooling` scales them.

    `features` (n, d) are not standardised yet; `labels` int8 (n, attributes).
    """
    mean, inverse = standardisation(features)
    known = LabelledFeatures(((features - mean) * inverse).astype(np.float32), labels)
    fitted = fit_linear(LinearSettings(strengths=(strength,)), known, known, "accuracy")
    # That pooling divides by the root of how many features there are.
    return torch.from_numpy(fitted.weight.T * features.shape[1] ** 0.5).float()
