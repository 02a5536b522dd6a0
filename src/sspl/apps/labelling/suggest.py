"""`sspl suggest`: the list of faces to label next."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sspl.apps.labelling.faces import images_root, readable, unlabelled
from sspl.apps.labelling.features import FaceFeatures, extract
from sspl.apps.labelling.probe import opinions
from sspl.apps.labelling.selection import choose, uncertainty
from sspl.data.data_settings import DataSettings
from sspl.data.images import Box
from sspl.data.records import MISSING, FaceSet, Labels
from sspl.data.skipping import OnError
from sspl.errors import DataError
from sspl.io.files import write_csv
from sspl.io.progress import watched
from sspl.training.feature_source import FeatureSource

SUGGESTION_COLUMNS = ("image", "place", "uncertainty")


@dataclass(frozen=True)
class Answers:
    """What is known of faces, face by face in their order.

    Args:
        attributes: names of the columns.
        labels: int8 (n, a), `MISSING` where nobody has answered.
        taken: (n,), faces that a file of labels names, whatever it says of them.
    """

    attributes: tuple[str, ...]
    labels: Labels
    taken: NDArray[np.bool_]


def join_answers(
    faces: FaceSet, labelled: FaceSet | None, attributes: tuple[str, ...] = ()
) -> Answers:
    """Join a file of labels to faces by name.

    Faces of its validation and test splits are taken, but what is said of them is not looked at.

    Args:
        faces: all faces.
        labelled: those of the file; None without one.
        attributes: those to look at; the file's own unless given.

    Raises:
        DataError: when the file names a face that is not there or has not the attribute.
    """
    if labelled is None:
        labels = np.full((len(faces), len(attributes)), MISSING, dtype=np.int8)
        return Answers(attributes, labels, np.zeros(len(faces), dtype=bool))
    attributes = attributes or labelled.schema.names
    columns = [_column(labelled, name) for name in attributes]
    place = {name: i for i, name in enumerate(faces.names)}
    labels = np.full((len(faces), len(attributes)), MISSING, dtype=np.int8)
    taken = np.zeros(len(faces), dtype=bool)
    for face in labelled:
        if face.name not in place:
            raise DataError(
                f"{labelled.source}: '{face.name}' is not a face of {faces.source}; "
                "give the folder that the labels are for."
            )
        taken[place[face.name]] = True
        if face.split in (None, "train"):
            labels[place[face.name]] = face.labels[columns]
    return Answers(attributes, labels, taken)


def _column(labelled: FaceSet, name: str) -> int:
    if name not in labelled.schema.names:
        raise DataError(f"{labelled.source} has no attribute '{name}'.")
    return labelled.schema.index(name)


def box_of(data: DataSettings, source: FeatureSource) -> Box | None:
    """Return the crop that the user gave; None leaves it to the source.

    Raises `SettingsError` for one that is not that of a fine-tuned model.
    """
    if "crop" not in data.model_fields_set:
        return None
    if source.model is not None:
        data.require_box(source.model.box, "the model")
    return data.box()


def judged(source: FeatureSource, features: FaceFeatures, answers: Answers) -> NDArray[np.float64]:
    """Return the probability of each attribute of each face.

    A fine-tuned model's own for the attributes that it has; else a linear probe's on the answers.
    """
    prior = np.full(answers.labels.shape, np.nan)
    for column, name in enumerate(answers.attributes):
        if name in source.attributes:
            prior[:, column] = features.opinions[:, source.attributes.index(name)]
    asked = np.isnan(prior).any(axis=0)
    prior[:, asked] = opinions(features.values, answers.labels[:, asked])
    return prior


def suggest(
    source: FeatureSource,
    data: DataSettings,
    labelled: DataSettings | None,
    count: int,
    out: Path,
    *,
    attributes: tuple[str, ...] = (),
    seed: int = 0,
    device: str = "auto",
    on_error: OnError = "fail",
) -> int:
    """Write the faces to label next as CSV, the first one first; return how many.

    Args:
        source: the network whose features and opinions are used.
        data: all faces; where they have splits, the training split counts.
        labelled: labels so far, by the names of `data`.
        count: how many faces.
        out: CSV file with the columns of `SUGGESTION_COLUMNS`.
        attributes: those to look at; those of the labels, or else of the model, unless given.
        seed: the same seed gives the same faces.
        device: where the network runs.
        on_error: what to do with pictures that cannot be read.

    Raises:
        DataError: for labels that do not fit the faces, or when no face is left.
    """
    faces = readable(unlabelled(data.open()), on_error, out)
    known = None
    if labelled is not None:
        if labelled.format == "csv" and labelled.images is None:
            labelled = labelled.model_copy(update={"images": images_root(faces)})
        known = labelled.open()
    if labelled is None or not (attributes or len(known.schema if known else ())):
        attributes = attributes or source.attributes
    answers = join_answers(faces, known, attributes)
    if answers.taken.all():
        raise DataError(f"{faces.source}: every face is labelled already; nothing is left.")
    box = box_of(data, source)
    with watched(total=len(faces), desc="look at faces", unit="face", leave=False) as bar:
        features = extract(source, faces, box, device=device, seen=bar.update)
    views = judged(source, features, answers)
    rng = np.random.default_rng(seed)
    picked = choose(features.values, views, answers.taken, count, rng)
    doubt = uncertainty(views)
    rows = (
        (faces.names[i], place, repr(float(doubt[i])) if views.shape[1] else None)
        for place, i in enumerate(picked, 1)
    )
    write_csv(out, SUGGESTION_COLUMNS, rows)
    return len(picked)
