"""Heads on frozen features, fitted to labelled faces, and what their features cost."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sspl.data.images import Box
from sspl.data.records import FaceSet
from sspl.data.streams import stream_canvases
from sspl.device import pick_device
from sspl.errors import SettingsError
from sspl.io.cores import usable_cores
from sspl.metrics.attributes import positive_rates
from sspl.models.extractors import Extractor, canvas_for
from sspl.models.feature_cache import extractor_features, face_features
from sspl.models.frozen import FrozenNetwork, JoinedNetwork
from sspl.models.splnet import AnyAttributeNetwork
from sspl.training.feature_settings import LinearSettings, OnnxSettings, RunSettings, TorchSettings
from sspl.training.feature_source import open_extractor
from sspl.training.linear_heads import LabelledFeatures, LinearHeads, figure, fit_linear
from sspl.training.partition import Partition
from sspl.training.selection import LAST
from sspl.training.stage_settings import FinetuneSettings, LabelledSettings

KEPT_FOLDER: Final = "features"
TIMED_FACES: Final = 8
TIMES: Final = 3
SHARES: Final = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9, 0.0, 1.0)


class FrozenFeatures:
    """Features of frozen networks, one after the other, of faces cut in one way.

    Args:
        settings: the networks.
        box: part of each picture.
        mirrored: whether features are averaged over the mirror image.
        device: where the networks run.
        kept: folder in which computed features are kept, None: nowhere.
        least: side in px that the canvas must have at least.
    """

    def __init__(
        self,
        settings: Sequence[OnnxSettings | TorchSettings | RunSettings],
        box: Box,
        mirrored: bool,
        device: str,
        kept: Path | None,
        least: int = 1,
    ) -> None:
        if not settings:
            raise SettingsError("features: no network given; add --features net.onnx.")
        self.extractors: list[Extractor] = [open_extractor(each) for each in settings]
        self.canvas = canvas_for(self.extractors, least)
        self.box, self.mirrored, self.kept = box, mirrored, kept
        self.device = pick_device(device)

    def of(self, faces: FaceSet) -> NDArray[np.float32]:
        """Return the features of faces, float32 (n, features)."""
        found = [
            face_features(each, faces, self.box, self.canvas, self.mirrored, self.device, self.kept)
            for each in self.extractors
        ]
        return np.concatenate(found, axis=1)

    def fitted(
        self, linear: LinearSettings, parts: Partition, select_by: str
    ) -> tuple[LinearHeads, NDArray[np.float32]]:
        """Fit heads; return them and the logits of the validation faces, (n, attributes)."""
        train = LabelledFeatures(self.of(parts.train), parts.train.labels)
        val = LabelledFeatures(self.of(parts.val), parts.val.labels)
        heads = fit_linear(linear, train, val, select_by)
        return heads, heads(val.features).astype(np.float32)

    def network(self, heads: LinearHeads) -> FrozenNetwork:
        """Return the extractors with fitted heads, in evaluation mode."""
        network = FrozenNetwork(self.extractors, heads.weight.shape[1])
        network.set_heads(heads.weight, heads.bias)
        return network.eval()

    def costs(self, faces: FaceSet) -> list[dict[str, Any]]:
        """Return of each extractor what it is, its bytes, and the milliseconds of one face."""
        some = faces.select(range(min(len(faces), TIMED_FACES)))
        canvases = next(stream_canvases(some, self.box, self.canvas, len(some)))
        return [
            {
                "name": each.about.name,
                "kind": each.about.kind,
                "sha256": getattr(each.about, "sha256", each.digest()),
                "bytes": each.size,
                "side": each.about.side,
                "features": each.about.features,
                "milliseconds": round(_milliseconds(each, canvases, self.mirrored, self.device), 1),
                "cores": usable_cores(),
                "device": self.device.type,
            }
            for each in self.extractors
        ]


class HeadsBeside:
    """Heads on frozen features beside a network that is being fine-tuned.

    Args:
        settings: of the fine-tuning.
        parts: faces to fit the heads to, and to choose on.
        select_by: figure to choose by.
        out: run folder.

    Raises `SettingsError` where there are no validation faces.
    """

    def __init__(
        self, settings: FinetuneSettings, parts: Partition, select_by: str, out: Path
    ) -> None:
        assert settings.data is not None
        if not len(parts.val):
            raise SettingsError(
                "features: heads on them are chosen on validation faces, and there are none; set "
                "labels.val_fraction above 0."
            )
        self.select_by = "accuracy" if select_by == LAST else select_by
        self.share, self.own_canvas, self.parts = settings.frozen_share, settings.canvas, parts
        features = frozen_features(settings, parts, out, settings.canvas)
        heads, self.logits = features.fitted(settings.linear, parts, self.select_by)
        self.network, self.canvas = features.network(heads), features.canvas
        self.costs = features.costs(parts.train)

    def joined(self, own: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
        """Return the weight of the frozen heads, and validation logits (n, attributes) with it.

        `own` are the fine-tuned network's. Of weights that are equally good the one nearest to a
        half is taken.
        """
        shares = SHARES if self.share == "validation" else (self.share,)
        rates, labels = positive_rates(self.parts.train.labels), self.parts.val.labels
        mixed = {share: (1 - share) * own + share * self.logits for share in shares}
        best = max(mixed, key=lambda s: figure(mixed[s], labels, rates, self.select_by))
        return best, mixed[best].astype(np.float32)

    def beside(self, own: AnyAttributeNetwork, share: float) -> JoinedNetwork:
        """Return a network whose logits are the mean of its own and those of the heads."""
        return JoinedNetwork(own, self.network, share, self.own_canvas).eval()


def frozen_features(
    settings: LabelledSettings, parts: Partition, out: Path, least: int = 1
) -> FrozenFeatures:
    """Return the frozen features that settings of a run in `out` name."""
    assert settings.data is not None
    return FrozenFeatures(
        settings.features,
        settings.data.box_of(parts.train),
        settings.flip_average,
        settings.runtime.device,
        kept_folder(settings, out),
        least,
    )


def kept_folder(settings: LabelledSettings, out: Path) -> Path:
    """Return where computed features are kept that a run in `out` needs."""
    return settings.kept_features or out.parent / KEPT_FOLDER


def _milliseconds(
    extractor: Extractor, canvases: NDArray[np.uint8], mirrored: bool, device: torch.device
) -> float:
    """Return the time of one face among several, the best of some runs."""
    times = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        extractor_features(extractor, canvases, mirrored, device)
        times.append(time.perf_counter() - begun)
    return 1000 * min(times) / len(canvases)
