"""Confident answers that are wrong by their label: how many, and some of the faces."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sspl.data.canvases import Canvases
from sspl.data.images import WHOLE_FRAME, Box
from sspl.data.records import MISSING, FaceSet, FaceSource
from sspl.domain.wording import in_words
from sspl.errors import DataError
from sspl.evaluation.predictions import Predictions
from sspl.metrics.attributes import THRESHOLD
from sspl.reporting.page import picture

SURE: Final = 0.9
THUMBNAIL: Final = 128
MOST_FACES: Final = 24
MOST_FACES_PER_ATTRIBUTE: Final = 2


def confident_mistakes(
    predictions: Predictions, faces: FaceSet | None, box: Box | None
) -> dict[str, Any]:
    """Return counts of confident answers and of wrong ones among them, by attribute.

    With `faces` some of the most confident mistakes come as thumbnails, of `box` of each picture.
    """
    known = predictions.labels != MISSING
    said = predictions.probabilities
    confident = known & ((said >= SURE) | (said <= 1 - SURE))
    wrong = confident & ((said >= THRESHOLD) != (predictions.labels == 1))
    counts = zip(predictions.attributes, confident.sum(0), wrong.sum(0), strict=True)
    rows = [
        {
            "attribute": name,
            "confident": int(n),
            "wrong": int(w),
            "share": float(w / n) if n else None,
        }
        for name, n, w in counts
    ]
    return {
        "sure": SURE,
        "answers": int(known.sum()),
        "confident": int(confident.sum()),
        "wrong": int(wrong.sum()),
        "rows": sorted(rows, key=lambda row: -row["wrong"]),
        "faces": [] if faces is None else _mistaken_faces(predictions, wrong, faces, box),
    }


def _mistaken_faces(
    predictions: Predictions, wrong: NDArray[np.bool_], faces: FaceSet, box: Box | None
) -> list[dict[str, Any]]:
    places = {name: i for i, name in enumerate(faces.names)}
    chosen = _most_mistaken(predictions, wrong)
    for face, _ in chosen:
        if predictions.names[face] not in places:
            raise DataError(
                f"{faces.source} has no face '{predictions.names[face]}', which was "
                "judged; give the data of that evaluation with --data."
            )
    if not chosen:
        return []
    some = faces.select([places[predictions.names[face]] for face, _ in chosen])
    side = THUMBNAIL if faces.cut is None else min(THUMBNAIL, faces.cut.canvas)
    canvases = Canvases([FaceSource(some, box or WHOLE_FRAME)], side, None)
    batch = next(iter(canvases.batches(range(len(some)), len(some))))
    pictures = batch.images.permute(0, 2, 3, 1).contiguous().numpy()
    shown = []
    for i, (face, attribute) in enumerate(chosen):
        title = predictions.attributes[attribute]
        label = "yes" if predictions.labels[face, attribute] == 1 else "no"
        alt = f"Face with label {label} for {in_words(title)}, taken for the other."
        probability = float(predictions.probabilities[face, attribute])
        shown.append(
            {
                "image": picture(pictures[i], alt),
                "attribute": title,
                "probability": probability,
                "label": label,
            }
        )
    return shown


def _most_mistaken(predictions: Predictions, wrong: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return places (face, attribute) of the worst mistakes, each face once."""
    distance = np.abs(predictions.probabilities - (predictions.labels == 1))
    where = np.argwhere(wrong)[np.argsort(-distance[wrong], kind="stable")]
    chosen: list[tuple[int, int]] = []
    for face, attribute in where.tolist():
        of_attribute = sum(other == attribute for _, other in chosen)
        if of_attribute < MOST_FACES_PER_ATTRIBUTE and face not in {f for f, _ in chosen}:
            chosen.append((face, attribute))
        if len(chosen) == MOST_FACES:
            break
    return chosen
