"""What is worth doing after training: mirror averaging and temperatures, on validation faces.

    python benchmarks/after_training.py --data celeba:FOLDER,crop=celeba RUN [RUN ...]

RUN are finished runs of stage 2 on that data, one for each label subset. Temperatures are fitted
on one half of the validation faces and judged on the other, both ways round; the test split is
never opened. The runs had chosen their epoch with what their own settings say of mirror averaging.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sspl.data.canvases import Canvases, FaceSource
from sspl.data.records import Labels
from sspl.data.settings import parse_data_spec
from sspl.device import pick_device
from sspl.evaluation.comparison import spread
from sspl.metrics.attributes import all_figures, means
from sspl.models.bundle import AttributeModel, load_model
from sspl.models.scoring import face_logits
from sspl.training.calibration import fit_temperatures

FIGURES = ("accuracy", "balanced_accuracy", "average_precision", "calibration_error")

Logits = NDArray[np.float64]
Calibration = Callable[[Logits, Labels], NDArray[np.float64]]


def cross_fitted(logits: Logits, labels: Labels) -> NDArray[np.float64]:
    """Return probabilities (n, a), each half's by temperatures fitted on the other half."""
    probabilities = np.empty_like(logits)
    even = np.arange(len(logits)) % 2 == 0
    for fitted, judged in ((even, ~even), (~even, even)):
        temperatures = fit_temperatures(logits[fitted], labels[fitted])
        probabilities[judged] = expit(logits[judged] / temperatures)
    return probabilities


def as_they_are(logits: Logits, labels: Labels) -> NDArray[np.float64]:
    """Return the probabilities (n, a) that training made."""
    probabilities: NDArray[np.float64] = expit(logits)
    return probabilities


# Whether the mirror image is averaged in, and what is made of the logits.
WAYS: dict[str, tuple[bool, Calibration]] = {
    "one look": (False, as_they_are),
    "one look, temperatures": (False, cross_fitted),
    "mirror averaged": (True, as_they_are),
    "mirror averaged, temperatures": (True, cross_fitted),
}


def judged(model: AttributeModel, canvases: Canvases, labels: Labels) -> dict[str, list[float]]:
    """Return the figures of each way, in the order of `FIGURES`."""
    device = pick_device("auto")
    logits = {
        flip: face_logits(
            model.network.to(device), canvases, range(len(canvases)), model.input_size, flip,
            device, "auto",
        ).astype(np.float64)
        for flip in (False, True)
    }  # fmt: skip
    found = {}
    for way, (flip, calibration) in WAYS.items():
        probabilities = calibration(logits[flip], labels)
        figures = all_figures(model.schema.names, labels, probabilities, model.training_rates)
        mean = means(figures)
        found[way] = [value for f in FIGURES if (value := mean[f]) is not None]
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
