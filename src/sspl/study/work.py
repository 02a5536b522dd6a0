"""What is computed in one cell: fine-tuning or a probe, chosen on validation, judged on test."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sspl.data.records import FaceSet
from sspl.device import pick_device
from sspl.errors import SettingsError
from sspl.evaluation.evaluate import predict_labelled
from sspl.evaluation.predictions import Predictions
from sspl.io.run_files import SETTINGS_FILE, finished
from sspl.metrics.attributes import positive_rates
from sspl.models.bundle import load_model
from sspl.models.feature_cache import compute_features
from sspl.models.model_metadata import MODEL_FILE
from sspl.study.features import hog_extractor, network_extractor, some_canvases
from sspl.study.probe_settings import FeatureSettings, HogSettings, KNNSettings
from sspl.study.probes import fit_probe
from sspl.training.feature_settings import LinearSettings
from sspl.training.finetune import Finetuning, finetune
from sspl.training.frozen_heads import FrozenFeatures
from sspl.training.linear_heads import LabelledFeatures
from sspl.training.partition import Partition, partition
from sspl.training.selection import LAST, selection
from sspl.training.stage_settings import FinetuneSettings


@dataclass(frozen=True)
class Judged:
    """What a cell's model says of both splits, and how it came about.

    Args:
        predictions: by split, `test` and, where there are validation faces, `val`.
        rates: float64 (attributes,), share of positives among the labelled faces.
        seconds: that training took, None when the cell was interrupted in between.
        details: what else is worth keeping, JSON-able.
    """

    predictions: dict[str, Predictions]
    rates: NDArray[np.float64]
    seconds: float | None
    details: dict[str, Any]


def finetuned(settings: FinetuneSettings, run: Path, keep_model: bool) -> Judged:
    """Fine-tune into the run folder `run`, going on where it was interrupted."""
    seconds = learn(settings, run)
    parts, model = partition(settings), load_model(run)
    judged = {"val": parts.val} if len(parts.val) else {}
    predictions = {
        split: predict_labelled(model, faces, settings.runtime, kept=settings.kept_features)
        for split, faces in (judged | {"test": _test(settings)}).items()
    }
    clear(run, keep_model)
    details = {"labelled": len(parts.train), "validation": len(parts.val)}
    return Judged(predictions, model.training_rates, seconds, details)


def learn(settings: FinetuneSettings, run: Path) -> float | None:
    """Fine-tune as `finetuned`; return the seconds, None when it was interrupted in between."""
    resumed, begun = (run / SETTINGS_FILE).exists(), time.monotonic()
    if not finished(run):
        finetune(settings, run, resume=resumed)
    return None if resumed else time.monotonic() - begun


def taught_by(settings: FinetuneSettings, teacher: Path) -> FinetuneSettings:
    """Return settings of stage 2 with a model to ask about faces without labels."""
    asked = settings.distillation.model_copy(update={"teachers": (teacher.absolute(),)})
    return settings.model_copy(update={"distillation": asked})


def clear(run: Path, keep_model: bool) -> None:
    """Remove of a run that is done with what nobody will read again."""
    remove_state(run)
    if not keep_model:
        (run / MODEL_FILE).unlink(missing_ok=True)


def remove_state(run: Path) -> None:
    """Remove what a finished run would need to go on; of many cells it is a lot."""
    for file in run.glob("*state*.safetensors"):
        file.unlink()


def probed(
    settings: FinetuneSettings,
    outside: Sequence[FeatureSettings],
    probe: LinearSettings | KNNSettings,
) -> Judged:
    """Fit a probe on frozen features: those of the backbone, or of networks from outside.

    Features of networks from outside are kept where the settings say, to be computed once.
    """
    assert settings.data is not None
    begun = time.monotonic()
    parts = partition(settings)
    figure = selection(settings, parts).figure
    if figure == LAST:
        raise SettingsError("select_by=last: a probe has no epochs; name the figure to choose by.")
    features = _features(settings, outside, parts)
    train = LabelledFeatures(features(parts.train), parts.train.labels)
    val = LabelledFeatures(features(parts.val), parts.val.labels)
    fitted = fit_probe(probe, train, val, figure, settings.calibrate)
    seconds, test = time.monotonic() - begun, _test(settings)
    predictions = {
        "val": _predictions(parts.val, fitted.predict(val.features)),
        "test": _predictions(test, fitted.predict(features(test))),
    }
    details = {
        "labelled": len(parts.train),
        "validation": len(parts.val),
        "features": train.features.shape[1],
        "chosen": fitted.chosen,
    }
    return Judged(predictions, positive_rates(parts.train.labels), seconds, details)


def _features(
    settings: FinetuneSettings, outside: Sequence[FeatureSettings], parts: Partition
) -> Callable[[FaceSet], NDArray[np.float32]]:
    """Return what gives features of faces, float32 (n, features)."""
    assert settings.data is not None
    box, canvas = settings.data.box_of(parts.train), settings.canvas
    device, precision = pick_device(settings.runtime.device), settings.runtime.precision
    hog = [each for each in outside if isinstance(each, HogSettings)]
    networks = [each for each in outside if not isinstance(each, HogSettings)]
    if networks:
        flip, kept = settings.flip_average, settings.kept_features
        return FrozenFeatures(networks, box, flip, settings.runtime.device, kept).of
    # Statistics that need no labels come from training faces that were not drawn, where there are.
    faces = parts.rest if len(parts.rest) else parts.train
    plain = some_canvases(faces, settings.data.box_of(faces), canvas)
    if hog:
        extract = hog_extractor(hog[0], plain, settings.input_size)
    else:
        network, mirrored = Finetuning(settings).network, settings.flip_average
        size = settings.input_size
        extract = network_extractor(network, plain, size, mirrored, device, precision)
    return lambda faces: compute_features(extract, faces, box, canvas, "features")


def _test(settings: FinetuneSettings) -> FaceSet:
    """Return the test faces; asked for once in a cell, when everything has been chosen."""
    assert settings.data is not None
    return settings.data.open().split("test")


def _predictions(faces: FaceSet, logits: NDArray[np.float64]) -> Predictions:
    probabilities = expit(logits).astype(np.float32)
    return Predictions(faces.names, faces.schema.names, faces.labels, probabilities, faces.groups)
