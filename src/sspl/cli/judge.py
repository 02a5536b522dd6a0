"""`sspl evaluate` and `sspl predict`."""

from pathlib import Path

import click

from sspl.cli.options import folder_in, refuse_options


@click.command()
@click.argument("run", type=folder_in)
@click.option("--split", default="test", show_default=True)
@click.option("--data", "spec", help="Labelled faces; default: those the run was trained from.")
@click.option("--device", default="auto", show_default=True)
def evaluate(run: Path, split: str, spec: str | None, device: str) -> None:
    """Judge RUN attribute by attribute on a split and write the figures into it."""
    from sspl.data.settings import parse_data_spec
    from sspl.errors import SettingsError
    from sspl.evaluation import evaluate as evaluation
    from sspl.runs import SETTINGS_FILE
    from sspl.settings import build, read_yaml
    from sspl.training.settings import FinetuneSettings, RuntimeSettings

    data = (
        parse_data_spec(spec)
        if spec
        else build(FinetuneSettings, read_yaml(run / SETTINGS_FILE)).data
    )
    if data is None:
        raise SettingsError("data: give the labelled faces with --data FORMAT:PATH.")
    faces = data.open()
    faces = faces.split(split) if split != "all" else faces
    refuse_options(spec, "the crop of the model is used, and no masks", "crop", "masks")
    figures, facts = evaluation.evaluate(run, faces, RuntimeSettings(device=device))
    evaluation.write_evaluation(run, split, figures, facts)
    click.echo(evaluation.table(figures))


@click.command()
@click.argument("run", type=folder_in)
@click.argument("images")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--batch-size", type=click.IntRange(1), default=128, show_default=True)
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True)
def predict(run: Path, images: str, out: Path, batch_size: int, workers: int, device: str) -> None:
    """Write probabilities and decisions of RUN for every picture of IMAGES as CSV."""
    from sspl.data.settings import parse_data_spec
    from sspl.inference import predict as prediction
    from sspl.training.settings import RuntimeSettings

    refuse_options(images, "the crop of the model is used, and no masks", "crop", "masks")
    faces = parse_data_spec(images).open()
    runtime = RuntimeSettings(device=device, workers=workers)
    count = prediction.predict(run, faces, out, runtime, batch_size)
    click.echo(f"{count} faces in {out}")
