"""Judge a fine-tuned run on a labelled split."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sspl.data.canvases import Canvases
from sspl.data.records import FaceSet, FaceSource, Labels
from sspl.device import keep_freed_memory, pick_device
from sspl.errors import DataError
from sspl.evaluation.decided import decided_lines, own_decisions
from sspl.evaluation.predictions import Predictions, predictions_file, save_predictions
from sspl.evaluation.statistics import (
    RESAMPLED,
    RESAMPLES,
    drawn_text,
    interval_summary,
    resampling_of,
)
from sspl.evaluation.subgroups import (
    ROW_TITLES,
    groupings,
    groups_of,
    subgroup_lines,
    subgroup_rows,
    subgroup_summary,
)
from sspl.io.files import write_csv, write_json, write_text
from sspl.metrics.attributes import (
    ATTRIBUTE_FIGURES,
    AttributeFigures,
    all_figures,
    lacking,
    means,
    reliability,
    remarks,
)
from sspl.models.bundle import AttributeModel, load_model
from sspl.models.frozen import frozen_part
from sspl.models.scoring import face_probabilities, kept_logits
from sspl.training.stage_settings import RuntimeSettings

EVALUATION_COLUMNS = ("positives", "negatives", *ATTRIBUTE_FIGURES, "majority_accuracy")

NONE_LEFT_OUT: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True)
class Evaluation:
    """What was found on a split.

    Args:
        predictions: of every face.
        figures: of each attribute.
        summary: means and per-attribute figures, JSON-able.
    """

    predictions: Predictions
    figures: list[AttributeFigures]
    summary: dict[str, Any]


def evaluate(
    run: Path,
    faces: FaceSet,
    runtime: RuntimeSettings,
    by: Sequence[str] = (),
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Judge a run on labelled faces.

    `faces` must carry the model's attributes by name, in any order; raises `DataError` naming
    one that is not there. `by` and `resamples` are those of `describe`.
    """
    keep_freed_memory()
    model = load_model(run)
    predictions = predict_labelled(model, faces, runtime, by)
    figures = judge(predictions, model.training_rates)
    summary = {"source": faces.source, "flip_average": model.flip_average}
    reasons = left_out(predictions, model.training_rates)
    summary |= describe(predictions, figures, by, resamples, reasons)
    summary |= own_decisions(predictions, model.decisions)
    return Evaluation(predictions, figures, summary)


def predict_labelled(
    model: AttributeModel,
    faces: FaceSet,
    runtime: RuntimeSettings,
    by: Sequence[str] = (),
    kept: Path | None = None,
) -> Predictions:
    """Return a model's predictions of faces whose labels are known, in the model's order.

    `by` names labels outside the model to report by, beside `Male` and `Young`; `kept` is as in
    `labelled_probabilities`.
    """
    groups = groups_of(faces, model.schema.names, by)
    labels, found = labelled_probabilities(model, faces, runtime, kept)
    return Predictions(faces.names, model.schema.names, labels, found.astype(np.float32), groups)


def labelled_probabilities(
    model: AttributeModel, faces: FaceSet, runtime: RuntimeSettings, kept: Path | None = None
) -> tuple[Labels, NDArray[np.float64]]:
    """Return the labels int8 and calibrated probabilities (faces, attributes) of labelled faces.

    Both are in the model's order; raises `DataError` naming an attribute without labels. Features
    of frozen networks are read from the folder `kept`, and kept there, where one is given.
    """
    columns = [_column(faces, name) for name in model.schema.names]
    canvases = Canvases(
        [FaceSource(faces, model.box)], model.canvas, None, runtime.cache_gb, runtime.workers
    )
    device = pick_device(runtime.device)
    if kept is not None and frozen_part(model.network) is not None:
        logits = kept_logits(model, faces, model.box, canvases, device, runtime.precision, kept)
        return faces.labels[:, columns], model.probabilities(logits)
    found = face_probabilities(model, canvases, device, runtime.precision, title="evaluate")
    return faces.labels[:, columns], found


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


def left_out(predictions: Predictions, training_rates: NDArray[np.float64]) -> dict[str, str]:
    """Return the attributes that no mean should hold, each with the reason.

    Such are those of which the faces, or those that the model learnt from, show one kind alone.
    """
    missing = {0.0: "no positive", 1.0: "no negative"}
    found = {
        name: f"{missing[rate]} among the labelled faces"
        for name, rate in zip(predictions.attributes, training_rates.tolist(), strict=True)
        if rate in missing
    }
    here = lacking(predictions.attributes, predictions.labels)
    return found | {name: f"no {kind} among the faces judged" for name, kind in here.items()}


def describe(
    predictions: Predictions,
    figures: list[AttributeFigures],
    by: Sequence[str] = (),
    resamples: int = RESAMPLES,
    reasons: Mapping[str, str] = NONE_LEFT_OUT,
) -> dict[str, Any]:
    """Return all that is known of some predictions as a JSON-able summary.

    Means and per-attribute figures, their bootstrap intervals, calibration, and figures by
    subgroup (`by` as in `sspl.evaluation.subgroups.groupings`). Without `resamples` there are
    neither intervals nor subgroups. Means are without the attributes that have `reasons`.
    """
    summary: dict[str, Any] = {
        "faces": len(predictions),
        "mean": means(figures, reasons),
        "left_out": dict(reasons),
        "attributes": {f.name: {c: getattr(f, c) for c in EVALUATION_COLUMNS} for f in figures},
        "calibration": reliability(predictions.labels, predictions.probabilities),
    }
    if resamples:
        resampling = resampling_of(predictions, resamples)
        ways = groupings(predictions, by)
        summary["intervals"] = interval_summary(predictions, resampling, reasons)
        summary["subgroups"] = [subgroup_summary(predictions, way, resampling) for way in ways]
    return summary


def write_evaluation(folder: Path, split: str, found: Evaluation) -> None:
    """Write what was found into a folder.

    `evaluation-SPLIT.json`, `.csv` and `.txt`, `predictions-SPLIT.npz`, and where there are
    subgroups `subgroups-SPLIT.csv`; one of an earlier evaluation is removed.
    """
    save_predictions(predictions_file(folder, split), found.predictions)
    write_json(folder / f"evaluation-{split}.json", found.summary)
    header, rows = _csv(found)
    write_csv(folder / f"evaluation-{split}.csv", header, rows)
    groups = folder / f"subgroups-{split}.csv"
    if found.summary.get("subgroups"):
        write_csv(groups, ROW_TITLES, subgroup_rows(found.summary["subgroups"]))
    else:
        groups.unlink(missing_ok=True)
    write_text(folder / f"evaluation-{split}.txt", table(found) + "\n")


def _csv(found: Evaluation) -> tuple[list[str], list[tuple[Any, ...]]]:
    header = list(asdict(found.figures[0]))
    rows = [tuple(asdict(f).values()) for f in found.figures]
    if "intervals" in found.summary:
        header += [f"{name}_{end}" for name in RESAMPLED for end in ("low", "high")]
        bounds = found.summary["intervals"]["attributes"]
        rows = [
            (*row, *(end for name in RESAMPLED for end in bounds[row[0]][name] or (None, None)))
            for row in rows
        ]
    return header, rows


def table(found: Evaluation) -> str:
    """Return a plain table: one attribute a line, then the means and how sure they are.

    Figures are in percent. With subgroups, a short summary of them follows, and with thresholds
    or bands of the model's own a table of what its decisions are worth.
    """
    titles = ("attribute", "pos", "neg", "acc", "bal", "F1", "AP", "AUC", "ECE", "majority")
    lines = [_line(titles)]
    for f in found.figures:
        cells = [_percent(getattr(f, c)) for c in (*ATTRIBUTE_FIGURES, "majority_accuracy")]
        lines.append(_line((f.name, str(f.positives), str(f.negatives), *cells)))
    lines.append(_line(("mean", "", "", *(_percent(v) for v in found.summary["mean"].values()))))
    if "intervals" in found.summary:
        intervals = found.summary["intervals"]
        for end, title in enumerate(("  from", "  to")):
            bounds = (intervals["mean"][name] or (None, None) for name in RESAMPLED)
            lines.append(_line((title, "", "", *(_percent(b[end]) for b in bounds))))
        lines += ["", f"from, to: {drawn_text(intervals)}"]
    if said := remarks(found.summary, len(found.figures), "faces judged"):
        lines += ["", *said]
    if found.summary.get("subgroups"):
        lines += ["", *subgroup_lines(found.summary["subgroups"])]
    if "decisions" in found.summary:
        lines += ["", *decided_lines(found.summary["decisions"])]
    return "\n".join(lines)


def _line(cells: tuple[str, ...]) -> str:
    name, *rest = cells
    return f"{name:<20}" + "".join(f"{c:>9}" for c in rest)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
