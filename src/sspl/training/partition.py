"""Which faces stage 2 learns from, and which it is selected on."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from sspl.data.records import FaceSet
from sspl.data.subsets import label_subset
from sspl.errors import SettingsError
from sspl.training.stage_settings import LabelledSettings

NO_FACES: Final = "data: no faces given; add --data FORMAT:FOLDER."


@dataclass(frozen=True)
class Partition:
    """The labelled faces that are learnt from, those that the model is selected on, the rest.

    Of the rest, training faces that were not chosen, no label is ever looked at.
    """

    train: FaceSet
    val: FaceSet
    rest: FaceSet


def partition(settings: LabelledSettings) -> Partition:
    """Choose the labelled training faces and the validation faces.

    The validation split is used where the set has one; else a share of the chosen labelled
    faces is held out, so that no label beyond the budget is looked at. Where that share is 0 there
    are no validation faces; raises `SettingsError` when the settings need some.
    """
    if settings.data is None:
        raise SettingsError(NO_FACES)
    faces = settings.data.open()
    if not len(faces.schema):
        raise SettingsError(f"data: {faces.source} carries no attribute labels to learn from.")
    has_splits = any(split is not None for split in faces.splits)
    pool = faces.split("train") if has_splits else faces
    labels = settings.labels
    fraction = 1.0 if labels.count is None and labels.fraction is None else labels.fraction
    chosen = label_subset(
        pool.labels, labels.count, fraction=fraction, rule=labels.rule, seed=labels.subset_seed
    )
    count = len(chosen)
    subset = pool.select(chosen)
    rest = pool.select(np.setdiff1d(np.arange(len(pool)), chosen))
    if "val" in faces.splits:
        return Partition(subset, faces.split("val"), rest)
    if not labels.val_fraction:
        _require_none_needed(settings)
        return Partition(subset, pool.select([]), rest)
    held_out = max(1, round(labels.val_fraction * count))
    if held_out >= count:
        raise SettingsError("labels: too few to hold some out for validation; give at least 2.")
    order = np.random.default_rng([labels.subset_seed, 1]).permutation(count)
    return Partition(
        subset.select(np.sort(order[held_out:])), subset.select(np.sort(order[:held_out])), rest
    )


def _require_none_needed(settings: LabelledSettings) -> None:
    """Raise `SettingsError` naming a setting that validation faces are needed for."""
    needed = {
        "select_by=last": settings.select_by == "last",
        "patience=null": getattr(settings, "patience", None) is None,
        "thresholds=half": settings.thresholds == "half",
        "sure_accuracy=null": settings.sure_accuracy is None,
    }
    for setting, given in needed.items():
        if not given:
            raise SettingsError(
                "labels.val_fraction: at 0 no labelled face is held out, and this set has no val "
                f"split to choose by; set {setting}, or hold some out."
            )
