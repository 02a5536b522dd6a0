"""Judge a fine-tuned run on a labelled split."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sspl.data.canvases import Canvases, FaceSource
from sspl.data.records import FaceSet
from sspl.device import keep_freed_memory, pick_device
from sspl.errors import DataError
from sspl.evaluation.predictions import Predictions, predictions_file, save_predictions
from sspl.files import write_csv, write_json, write_text
from sspl.metrics.attributes import FIGURES, AttributeFigures, all_figures, means
from sspl.models.bundle import AttributeModel, load_model
from sspl.models.scoring import face_probabilities
from sspl.training.settings import RuntimeSettings

COLUMNS = ("positives", "negatives", *FIGURES, "majority_accuracy")


@dataclass(frozen=True)
class Evaluation:
    """What was found on a split.

    Args:
        predictions: of every face.
        figures: of each attribute.
        facts: means and per-attribute figures, JSON-able.
    """

    predictions: Predictions
    figures: list[AttributeFigures]
    facts: dict[str, Any]


def evaluate(run: Path, faces: FaceSet, runtime: RuntimeSettings) -> Evaluation:
    """Judge a run on labelled faces.

    `faces` must carry the model's attributes by name, in any order; raises `DataError` naming
    one that is not there.
    """
    keep_freed_memory()
    model = load_model(run)
    predictions = predict_labelled(model, faces, runtime)
    figures = judge(predictions, model.training_rates)
    facts = summary(faces.source, predictions, figures) | {"flip_average": model.flip_average}
    return Evaluation(predictions, figures, facts)


def predict_labelled(
    model: AttributeModel, faces: FaceSet, runtime: RuntimeSettings
) -> Predictions:
    """Return a model's predictions of faces whose labels are known, in the model's order."""
    columns = [_column(faces, name) for name in model.schema.names]
    canvases = Canvases(
        [FaceSource(faces, model.box)], model.canvas, None, runtime.cache_gb, runtime.workers
    )
    device = pick_device(runtime.device)
    found = face_probabilities(model, canvases, device, runtime.precision, title="evaluate")
    return Predictions(
        faces.names, model.schema.names, faces.labels[:, columns], found.astype(np.float32),
        faces.groups,
    )  # fmt: skip


def _column(faces: FaceSet, name: str) -> int:
    if name not in faces.schema.names:
        raise DataError(f"{faces.source} has no labels for the model's attribute '{name}'.")
    return faces.schema.index(name)


def judge(predictions: Predictions, training_rates: NDArray[np.float64]) -> list[AttributeFigures]:
    """Return the figures of each attribute of some predictions.

    `training_rates` are the shares of positives among the labelled training faces (attributes,).
    """
    return all_figures(
        predictions.attributes, predictions.labels, predictions.probabilities, training_rates
    )


def summary(
    source: str, predictions: Predictions, figures: list[AttributeFigures]
) -> dict[str, Any]:
    """Return means and per-attribute figures as JSON-able facts."""
    return {
        "faces": len(predictions),
        "source": source,
        "mean": means(figures),
        "attributes": {f.name: {c: getattr(f, c) for c in COLUMNS} for f in figures},
    }


def write_evaluation(folder: Path, split: str, found: Evaluation) -> None:
    """Write `evaluation-SPLIT.json`, `.csv`, `.txt` and `predictions-SPLIT.npz` into a folder."""
    save_predictions(predictions_file(folder, split), found.predictions)
    write_json(folder / f"evaluation-{split}.json", found.facts)
    rows = [tuple(asdict(f).values()) for f in found.figures]
    write_csv(folder / f"evaluation-{split}.csv", tuple(asdict(found.figures[0])), rows)
    write_text(folder / f"evaluation-{split}.txt", table(found.figures) + "\n")


def table(figures: list[AttributeFigures]) -> str:
    """Return a plain table: one attribute a line, then the means; figures in percent."""
    titles = ("attribute", "pos", "neg", "acc", "bal", "F1", "AP", "AUC", "ECE", "majority")
    lines = [_line(titles)]
    for f in figures:
        cells = [_percent(getattr(f, c)) for c in (*FIGURES, "majority_accuracy")]
        lines.append(_line((f.name, str(f.positives), str(f.negatives), *cells)))
    mean = means(figures)
    lines.append(_line(("mean", "", "", *(_percent(v) for v in mean.values()))))
    return "\n".join(lines)


def _line(cells: tuple[str, ...]) -> str:
    name, *rest = cells
    return f"{name:<20}" + "".join(f"{c:>9}" for c in rest)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
