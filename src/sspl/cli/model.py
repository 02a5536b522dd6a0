"""`sspl model`: a model folder that travels."""

from pathlib import Path

import click

from sspl.cli.options import folder_in, folder_out


@click.group()
def model() -> None:
    """Pack a fine-tuned model to hand it on."""


@model.command()
@click.argument("run", type=folder_in)
@click.option("--out", type=folder_out, required=True, help="Folder to make.")
@click.option("--name", help="Name of the model; default: the run folder's.")
@click.option("--licence", help="Under which the weights may be used.")
@click.option("--data-description", "description", help="What it was trained on, in words.")
def pack(
    run: Path, out: Path, name: str | None, licence: str | None, description: str | None
) -> None:
    """Write the model of RUN as weights, config.json and MODEL_CARD.md.

    The folder holds no path and no picture's name. 'sspl predict' and sspl.load read it; look
    through the card before you hand it on.
    """
    from sspl.inference.pack import CARD_FILE, pack_model

    pack_model(run, out, name, licence, description)
    click.echo(f"{out}: the model, and {out / CARD_FILE} to read and complete")
