"""`sspl explain`: why a model says what it says."""

from pathlib import Path

import click

from sspl.cli.options import (
    detection,
    inputs_argument,
    json_option,
    looking_options,
    open_inputs,
    say,
)
from sspl.cli.values import at_least, device_value, folder_in, folder_out


@click.command()
@click.argument("model", type=folder_in)
@inputs_argument
@click.option("--out", type=folder_out, required=True, help="Folder for pictures and numbers.")
@click.option("--attributes", help="Names of those to explain, with commas between them.")
@click.option(
    "--top",
    type=at_least(1),
    default=6,
    show_default=True,
    help="Without --attributes: so many of the likeliest.",
)
@looking_options
@click.option("--device", type=device_value, default="auto", show_default=True)
@json_option
def explain(
    model: Path,
    inputs: tuple[str, ...],
    out: Path,
    attributes: str | None,
    top: int,
    detect: bool | None,
    detector: str,
    min_score: float | None,
    min_size: int,
    every_face: bool,
    every: int,
    frames: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Show which parts of the faces of INPUTS move the attributes of MODEL, and by how much.

    INPUTS are as in 'sspl predict'. Each face gets a folder with sheet.png, a heat map for each
    attribute, the segmentation that the model pools by, if it does, and explanation.json.
    """
    from sspl.inference.portable import stated_box
    from sspl.io.locks import claimed
    from sspl.io.progress import counted
    from sspl.settings import build

    given = detection(detect, detector, min_score, min_size, every_face) | {"top": top}
    names = [name.strip() for name in attributes.split(",")] if attributes else ()
    with claimed(out, folder=True, deep=True):
        box = stated_box(model)
        sources = open_inputs(inputs, every, frames, lambda data: data.require_box(box, str(model)))
        # Only now torch is loaded.
        from sspl.inference.explain import explain as run
        from sspl.inference.predict import PredictSettings
        from sspl.inference.scorers import load_scorer

        settings = build(PredictSettings, given)
        count = run(load_scorer(model, device), sources, out, settings, names)
    say(f"{counted(count, 'face')} explained in {out}", {"faces": count, "out": str(out)}, as_json)
