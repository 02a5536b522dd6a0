"""`sspl evaluate` and `sspl predict`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sspl.cli.options import (
    DataCommand,
    data_of_model,
    detection,
    inputs_argument,
    json_option,
    looking_options,
    on_error_option,
    open_inputs,
    say,
    workers_option,
)
from sspl.cli.values import FileOut, at_least, device_value, folder_in, folder_out

if TYPE_CHECKING:
    from sspl.data.data_settings import DataSettings
    from sspl.data.skipping import OnError


@click.command(cls=DataCommand)
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
    type=click.IntRange(0, 1_000_000),
    default=1000,
    show_default=True,
    help="Bootstrap resamples for the intervals; 0: neither intervals nor subgroups.",
)
@click.option("--device", type=device_value, default="auto", show_default=True)
@json_option
def evaluate(
    run: Path,
    split: str,
    spec: str | None,
    by: tuple[str, ...],
    resamples: int,
    device: str,
    as_json: bool,
) -> None:
    """Judge RUN attribute by attribute on a split and write the figures into it.

    The mean figures come with 95 % intervals from resamples of the test faces, the pictures of
    one person kept together where the data says who is in them.
    """
    from sspl.errors import SettingsError
    from sspl.models.model_metadata import read_metadata
    from sspl.training.stage_settings import RuntimeSettings, data_of

    read_metadata(run)
    data: DataSettings | None = data_of_model(spec, run) if spec else data_of(run)
    if data is None:
        raise SettingsError("data: give the labelled faces with --data FORMAT:PATH.")
    faces = data.open()
    faces = faces.split(split) if split != "all" else faces
    # Only now torch is loaded.
    from sspl.evaluation import evaluate as evaluation

    found = evaluation.evaluate(run, faces, RuntimeSettings(device=device), by, resamples)
    evaluation.write_evaluation(run, split, found)
    say(evaluation.table(found), found.summary, as_json)


@click.command()
@click.argument("model", type=folder_in)
@inputs_argument
@click.option(
    "--out",
    type=FileOut(".csv", ".jsonl", ".parquet"),
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
    type=at_least(1),
    default=5,
    show_default=True,
    help="Attributes to write on a drawing.",
)
@looking_options
@click.option(
    "--batch-size",
    type=at_least(1),
    default=128,
    show_default=True,
    help="Faces that pass through the network together.",
)
@workers_option
@click.option("--device", type=device_value, default="auto", show_default=True)
@on_error_option
@json_option
def predict(
    model: Path,
    inputs: tuple[str, ...],
    out: Path,
    annotate: Path | None,
    top: int,
    detect: bool | None,
    detector: str,
    min_score: float | None,
    min_size: int,
    every_face: bool,
    every: int,
    frames: int | None,
    batch_size: int,
    workers: int,
    device: str,
    on_error: "OnError",
    as_json: bool,
) -> None:
    """Write probabilities and decisions of MODEL for the faces of INPUTS.

    MODEL is a run folder, a packed model, or a .onnx file made by 'sspl export'. Each of INPUTS is
    a picture, a folder or set of faces, a pattern in quotes ('photos/**/*.jpg'), a video, or a
    camera (camera:0; ends with Ctrl-C). An interrupted run goes on when it is repeated.
    """
    from sspl.data.skipping import Skipped
    from sspl.inference.portable import stated_box
    from sspl.io.locks import claimed
    from sspl.settings import build

    given = detection(detect, detector, min_score, min_size, every_face)
    given |= {"batch_size": batch_size, "threads": workers, "top": top}
    skipped = Skipped(on_error)
    with claimed(out):
        box = stated_box(model)
        sources = open_inputs(
            inputs, every, frames, lambda data: data.require_box(box, str(model)), skipped
        )
        # Only now torch is loaded.
        from sspl.inference.predict import PredictSettings, model_digest, skipped_list
        from sspl.inference.predict import predict as run
        from sspl.inference.scorers import load_scorer

        settings, digest = build(PredictSettings, given), model_digest(model)
        scorer = load_scorer(model, device)
        found = run(scorer, sources, out, settings, skipped, annotate, digest)
    text = f"{found.text()}\n{skipped.text(skipped_list(out))}" if skipped else found.text()
    say(text, asdict(found) | {"out": str(out)}, as_json)
