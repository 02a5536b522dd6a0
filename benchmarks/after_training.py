"""What is worth doing after training: mirror averaging, temperatures, thresholds.

    python benchmarks/after_training.py --data celeba:FOLDER,crop=celeba RUN [RUN ...]

RUN are finished runs of stage 2 on that data, one for each label subset. What is fitted is fitted
on one half of the validation faces and judged on the other, both ways round; the test split is
never opened. The runs had chosen their epoch with what their own settings say of mirror averaging.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from sspl.data.canvases import Canvases
from sspl.data.data_settings import parse_data_spec
from sspl.data.records import FaceSource, Labels
from sspl.device import pick_device
from sspl.evaluation.comparison import spread
from sspl.metrics.attributes import all_figures, means
from sspl.models.bundle import AttributeModel, load_model
from sspl.models.decisions import THRESHOLD
from sspl.models.scoring import face_logits
from sspl.training.calibration import fit_temperatures
from sspl.training.deciding import choose_decisions

FIGURES = ("accuracy", "balanced_accuracy", "average_precision", "calibration_error")
DECIDED = FIGURES[:2]
"""Figures of decisions; the others are of probabilities."""

Array = NDArray[np.float64]
Fit = Callable[[Array, Labels], tuple[Array, Array]]
"""From logits and labels to temperatures and thresholds on probabilities, each (attributes,)."""


def nothing(logits: Array, labels: Labels) -> tuple[Array, Array]:
    return np.ones(logits.shape[1]), np.full(logits.shape[1], THRESHOLD)


def temperatures(logits: Array, labels: Labels) -> tuple[Array, Array]:
    return fit_temperatures(logits, labels), nothing(logits, labels)[1]


def thresholds(logits: Array, labels: Labels) -> tuple[Array, Array]:
    """Fit both, the thresholds for the best balanced accuracy."""
    fitted = fit_temperatures(logits, labels)
    names = tuple(str(i) for i in range(logits.shape[1]))
    chosen = choose_decisions(names, expit(logits / fitted), labels, "balanced", None)
    return fitted, chosen.threshold_array(names)


# Whether the mirror image is averaged in, and what is fitted.
WAYS: dict[str, tuple[bool, Fit]] = {
    "one look": (False, nothing),
    "mirror averaged": (True, nothing),
    "and temperatures": (True, temperatures),
    "and balancing thresholds": (True, thresholds),
}


def cross_fitted(logits: Array, labels: Labels, fit: Fit) -> tuple[Array, Array]:
    """Return probabilities (n, a) and decided ones, whose thresholds are moved to 0.5.

    What is fitted on one half of the faces serves the other half.
    """
    probabilities, decided = np.empty_like(logits), np.empty_like(logits)
    even = np.arange(len(logits)) % 2 == 0
    for fitted, judged in ((even, ~even), (~even, even)):
        temperature, threshold = fit(logits[fitted], labels[fitted])
        probabilities[judged] = expit(logits[judged] / temperature)
        decided[judged] = expit(logits[judged] / temperature - logit(threshold))
    return probabilities, decided


def judged(model: AttributeModel, canvases: Canvases, labels: Labels) -> dict[str, list[float]]:
    """Return the figures of each way, in the order of `FIGURES`."""
    device = pick_device("auto")
    logits = {
        flip: face_logits(
            model.network.to(device),
            canvases,
            range(len(canvases)),
            model.input_size,
            flip,
            device,
            "auto",
        ).astype(np.float64)
        for flip in (False, True)
    }
    found = {}
    for way, (flip, fit) in WAYS.items():
        probabilities, decided = (
            means(all_figures(model.schema.names, labels, p, model.training_rates))
            for p in cross_fitted(logits[flip], labels, fit)
        )
        values = ((decided if f in DECIDED else probabilities)[f] for f in FIGURES)
        found[way] = [np.nan if v is None else v for v in values]
    return found


def table(rows: Sequence[dict[str, list[float]]]) -> str:
    """Return mean and standard deviation over the runs, in percent."""
    title = f"{len(rows)} runs, validation"
    lines = [f"{title:<32}" + "".join(f"{f:>20}" for f in FIGURES)]
    for way in WAYS:
        columns = [spread([row[way][i] for row in rows]) for i in range(len(FIGURES))]
        lines.append(f"{way:<32}" + "".join(f"{c:>20}" for c in columns))
    return "\n".join(lines)


@click.command()
@click.argument("runs", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option("--data", "spec", required=True)
def main(runs: tuple[Path, ...], spec: str) -> None:
    data = parse_data_spec(spec)
    faces = data.open().split("val")
    rows = []
    for run in runs:
        model = load_model(run)
        columns = [faces.schema.index(name) for name in model.schema.names]
        canvases = Canvases([FaceSource(faces, model.box)], model.canvas, None)
        rows.append(judged(model, canvases, faces.labels[:, columns]))
    click.echo(table(rows))


if __name__ == "__main__":
    main()
