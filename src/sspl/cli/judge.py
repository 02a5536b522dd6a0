"""`sspl evaluate` and `sspl predict`."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sspl.cli.options import (
    data_without,
    detector_option,
    folder_in,
    folder_out,
    min_score_option,
    min_size_option,
    on_error_option,
)

if TYPE_CHECKING:
    from sspl.data.records import FaceSet
    from sspl.data.skipping import OnError

MODEL_DECIDES: Final = "the crop of the model is used, and no masks"


@click.command()
@click.argument("run", type=folder_in)
@click.option("--split", default="test", show_default=True)
@click.option("--data", "spec", help="Labelled faces; default: those the run was trained from.")
@click.option(
    "--by",
    multiple=True,
    metavar="COLUMN",
    help="Report by this label or group column; default: Male, Young and all group columns.",
)
@click.option(
    "--resamples",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="Bootstrap resamples for the intervals; 0: neither intervals nor subgroups.",
)
@click.option("--device", default="auto", show_default=True)
def evaluate(
    run: Path, split: str, spec: str | None, by: tuple[str, ...], resamples: int, device: str
) -> None:
    """Judge RUN attribute by attribute on a split and write the figures into it.

    The mean figures come with 95 % intervals from resamples of the test faces, the pictures of
    one person kept together where the data says who is in them.
    """
    from sspl.errors import SettingsError
    from sspl.evaluation import evaluate as evaluation
    from sspl.runs import SETTINGS_FILE
    from sspl.settings import build, read_settings
    from sspl.training.settings import FinetuneSettings, RuntimeSettings

    data = (
        data_without(spec, MODEL_DECIDES, "crop", "masks")
        if spec
        else build(FinetuneSettings, read_settings(run / SETTINGS_FILE)).data
    )
    if data is None:
        raise SettingsError("data: give the labelled faces with --data FORMAT:PATH.")
    faces = data.open()
    faces = faces.split(split) if split != "all" else faces
    found = evaluation.evaluate(run, faces, RuntimeSettings(device=device), by, resamples)
    evaluation.write_evaluation(run, split, found)
    click.echo(evaluation.table(found))


@click.command()
@click.argument("model", type=folder_in)
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Table to write: .csv, .jsonl (JSON lines) or .parquet.",
)
@click.option(
    "--annotate",
    type=folder_out,
    help="Folder for drawings: the pictures with boxes and what was found.",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Attributes to write on a drawing.",
)
@click.option(
    "--detect/--no-detect",
    default=None,
    help="Find the faces of each picture, or take it as one aligned face. "
    "Default: find them in videos and before cameras only.",
)
@detector_option
@min_score_option
@min_size_option
@click.option("--all/--largest", "every_face", default=True, help="Faces of a picture to report.")
@click.option(
    "--every",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Take each so many-th frame of a video or camera.",
)
@click.option("--frames", type=click.IntRange(1), help="Stop after so many frames of each.")
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="Faces that pass through the network together.",
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Threads that read pictures and find faces; 0: one a core.",
)
@click.option("--device", default="auto", show_default=True)
@on_error_option
def predict(
    model: Path, inputs: tuple[str, ...], out: Path, annotate: Path | None, top: int,
    detect: bool | None, detector: str, min_score: float | None, min_size: int, every_face: bool,
    every: int, frames: int | None, batch_size: int, workers: int, device: str,
    on_error: "OnError",
) -> None:  # fmt: skip
    """Write probabilities and decisions of MODEL for the faces of INPUTS.

    MODEL is a run folder, a packed model, or a .onnx file made by 'sspl export'. Each of INPUTS is
    a picture, a folder or set of faces, a pattern in quotes ('photos/**/*.jpg'), a video, or a
    camera (camera:0; ends with Ctrl-C). An interrupted run goes on when it is repeated.
    """
    from sspl.data.skipping import Skipped
    from sspl.inference.predict import PredictSettings, model_digest, skipped_list
    from sspl.inference.predict import predict as run
    from sspl.inference.scorers import load_scorer
    from sspl.inference.sources import open_source, with_full_names
    from sspl.settings import build

    given = {
        "batch_size": batch_size,
        "threads": workers,
        "detect": {None: "auto", True: "yes", False: "no"}[detect],
        "detection": {
            "detector": detector, "min_score": min_score, "min_size": min_size,
            "largest": not every_face,
        },
        "top": top,
    }  # fmt: skip
    settings = build(PredictSettings, given)

    def open_faces(spec: str) -> "FaceSet":
        return data_without(spec, MODEL_DECIDES, "crop", "masks").open()

    sources = with_full_names([open_source(text, open_faces, every, frames) for text in inputs])
    skipped = Skipped(on_error)
    found = run(
        load_scorer(model, device), sources, out, settings, skipped, annotate, model_digest(model)
    )
    click.echo(found.text())
    if skipped:
        click.echo(skipped.text(skipped_list(out)))
