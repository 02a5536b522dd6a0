"""Attributes of pictures without labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sspl.data.canvases import Canvases, FaceSource
from sspl.data.records import FaceSet
from sspl.data.streams import stream_canvases
from sspl.device import keep_freed_memory, pick_device
from sspl.files import write_csv
from sspl.metrics.attributes import THRESHOLD
from sspl.models.bundle import load_model
from sspl.models.scoring import face_probabilities
from sspl.training.settings import RuntimeSettings


def predict(run: Path, faces: FaceSet, out: Path, runtime: RuntimeSettings, batch_size: int) -> int:
    """Write a CSV with the probability and decision of each attribute; return the face count.

    Columns: `image`, then `NAME` (1 or 0) and `NAME_probability` for each attribute.
    """
    keep_freed_memory()
    model = load_model(run)
    device = pick_device(runtime.device)
    canvases = Canvases([FaceSource(faces, model.box)], model.canvas, None, 0.0, runtime.workers)
    probabilities = face_probabilities(model, canvases, device, runtime.precision, batch_size)
    names = model.schema.names
    return write_predictions(out, names, [THRESHOLD] * len(names), faces.names, probabilities)


def predict_portable(file: Path, faces: FaceSet, out: Path, threads: int, batch_size: int) -> int:
    """Write the CSV of `predict` with an exported model; return the face count.

    `threads` threads (0: one a core) read the next pictures while the graph runs.
    """
    from sspl.inference.portable import load_portable

    model = load_portable(file)
    facts = model.facts
    rows = []
    with tqdm(total=len(faces), desc="predict", unit="face", leave=False) as bar:
        for images in stream_canvases(faces, facts.box, facts.canvas, batch_size, threads):
            rows.append(model.probabilities(images))
            bar.update(len(images))
    names = tuple(facts.attributes)
    return write_predictions(out, names, facts.thresholds, faces.names, np.concatenate(rows))


def write_predictions(
    out: Path, attributes: Sequence[str], thresholds: Sequence[float], images: Sequence[str],
    probabilities: NDArray[Any],
) -> int:  # fmt: skip
    """Write probabilities (images, attributes) and the decisions by threshold; return the rows."""
    header = ["image"]
    for name in attributes:
        header += [name, f"{name}_probability"]
    rows = []
    for image, row in zip(images, probabilities, strict=True):
        cells: list[object] = [image]
        for probability, threshold in zip(row, thresholds, strict=True):
            cells += [int(probability >= threshold), f"{probability:.4f}"]
        rows.append(cells)
    write_csv(out, header, rows)
    return len(rows)
