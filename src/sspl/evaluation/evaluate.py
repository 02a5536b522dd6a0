"""Judge a fine-tuned run on a labelled split."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sspl.data.canvases import Canvases, FaceSource
from sspl.data.records import FaceSet
from sspl.device import keep_freed_memory, pick_device
from sspl.errors import DataError
from sspl.files import write_csv, write_json, write_text
from sspl.metrics.attributes import FIGURES, AttributeFigures, all_figures, means
from sspl.models.bundle import AttributeModel, load_model
from sspl.models.scoring import face_probabilities
from sspl.training.settings import RuntimeSettings

COLUMNS = ("positives", "negatives", *FIGURES, "majority_accuracy")


def evaluate(
    run: Path, faces: FaceSet, runtime: RuntimeSettings
) -> tuple[list[AttributeFigures], dict[str, Any]]:
    """Return the figures of each attribute and their means.

    `faces` must carry the model's attributes by name, in any order; raises `DataError` naming
    one that is not there.
    """
    keep_freed_memory()
    model = load_model(run)
    columns = [_column(faces, name) for name in model.schema.names]
    canvases = Canvases(
        [FaceSource(faces, model.box)], model.canvas, None, runtime.cache_gb, runtime.workers
    )
    device = pick_device(runtime.device)
    probabilities = face_probabilities(model, canvases, device, runtime.precision, title="evaluate")
    figures = all_figures(
        model.schema.names, faces.labels[:, columns], probabilities, model.training_rates
    )
    return figures, summary(model, faces, figures)


def _column(faces: FaceSet, name: str) -> int:
    if name not in faces.schema.names:
        raise DataError(f"{faces.source} has no labels for the model's attribute '{name}'.")
    return faces.schema.index(name)


def summary(
    model: AttributeModel, faces: FaceSet, figures: list[AttributeFigures]
) -> dict[str, Any]:
    """Return means and per-attribute figures as JSON-able facts."""
    return {
        "faces": len(faces),
        "source": faces.source,
        "flip_average": model.flip_average,
        "mean": means(figures),
        "attributes": {f.name: {c: getattr(f, c) for c in COLUMNS} for f in figures},
    }


def write_evaluation(
    folder: Path, split: str, figures: list[AttributeFigures], facts: dict[str, Any]
) -> None:
    """Write `evaluation-SPLIT.json`, `.csv` and `.txt` into the run folder."""
    write_json(folder / f"evaluation-{split}.json", facts)
    rows = [tuple(asdict(f).values()) for f in figures]
    write_csv(folder / f"evaluation-{split}.csv", tuple(asdict(figures[0])), rows)
    write_text(folder / f"evaluation-{split}.txt", table(figures) + "\n")


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
