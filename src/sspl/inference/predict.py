"""Attributes of pictures without labels."""

from pathlib import Path

from sspl.data.canvases import Canvases, FaceSource
from sspl.data.records import FaceSet
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
    header = ["image"]
    for name in model.schema.names:
        header += [name, f"{name}_probability"]
    rows = []
    for name, row in zip(faces.names, probabilities, strict=True):
        cells: list[object] = [name]
        for probability in row:
            cells += [int(probability >= THRESHOLD), f"{probability:.4f}"]
        rows.append(cells)
    write_csv(out, header, rows)
    return len(rows)
