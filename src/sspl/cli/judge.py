"""`sspl evaluate` and `sspl predict`."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sspl.cli.options import data_without, folder_in, on_error_option

if TYPE_CHECKING:
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
@click.argument("run", type=folder_in)
@click.argument("images")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--batch-size", type=click.IntRange(1), default=128, show_default=True)
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Processes that read pictures; for an ONNX file threads, 0 being one a core.",
)
@click.option("--device", default="auto", show_default=True)
@on_error_option
def predict(
    run: Path, images: str, out: Path, batch_size: int, workers: int, device: str,
    on_error: "OnError",
) -> None:  # fmt: skip
    """Write probabilities and decisions of RUN for every picture of IMAGES as CSV.

    RUN is a run folder, or a .onnx file made by 'sspl export'.
    """
    from sspl.data.skipping import SKIPPED_FILE, Skipped, usable
    from sspl.errors import SettingsError
    from sspl.inference import predict as prediction
    from sspl.training.settings import RuntimeSettings

    faces = data_without(images, MODEL_DECIDES, "crop", "masks").open()
    skipped = Skipped(on_error)
    faces = usable(faces, None, skipped) if on_error == "skip" else faces
    if run.suffix == ".onnx":
        if device not in ("auto", "cpu"):
            raise SettingsError(f"device: an ONNX file runs on the CPU here, not on '{device}'.")
        count = prediction.predict_portable(run, faces, out, workers, batch_size)
    else:
        runtime = RuntimeSettings(device=device, workers=workers)
        count = prediction.predict(run, faces, out, runtime, batch_size)
    click.echo(f"{count} faces in {out}")
    listed = out.with_suffix(f".{SKIPPED_FILE}")
    skipped.write(listed)
    if skipped:
        click.echo(skipped.text(listed))
