"""`sspl model`: a model folder that travels."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sspl.cli.completion import threshold_names
from sspl.cli.options import data_of_model, json_option, say
from sspl.cli.values import Finite, device_value, folder_in, folder_out, only_folder_in

if TYPE_CHECKING:
    from sspl.training.deciding import ThresholdRule


@click.group()
def model() -> None:
    """Choose what a fine-tuned model decides by; pack it to hand it on."""


@model.command()
@click.argument("run", type=folder_in)
@click.option("--out", type=folder_out, required=True, help="Folder to make.")
@click.option("--name", help="Name of the model; default: the run folder's.")
@click.option("--licence", help="Under which the weights may be used.")
@click.option("--data-description", "description", help="What it was trained on, in words.")
@json_option
def pack(
    run: Path,
    out: Path,
    name: str | None,
    licence: str | None,
    description: str | None,
    as_json: bool,
) -> None:
    """Write the model of RUN as weights, config.json and MODEL_CARD.md.

    The folder holds no path and no picture's name. 'sspl predict' and sspl.load read it; look
    through the card before you hand it on.
    """
    from sspl.inference.pack import CARD_FILE, pack_model

    pack_model(run, out, name, licence, description)
    text = f"{out}: the model, and {out / CARD_FILE} to read and complete"
    say(text, {"out": str(out), "card": str(out / CARD_FILE)}, as_json)


@model.command()
@click.argument("run", type=only_folder_in)
@click.argument(
    "given", nargs=-1, metavar="[ATTRIBUTE=THRESHOLD]...", shell_complete=threshold_names
)
@click.option(
    "--thresholds",
    "rule",
    type=click.Choice(["half", "balanced", "f1"]),
    help="For attributes that are not given: 0.5, or the best balanced accuracy or F1. Default: as "
    "they are where something else is asked for, else balanced.",
)
@click.option(
    "--sure-accuracy",
    type=Finite(0.5, 1, min_open=True),
    help="Accuracy to reach outside a band of 'not sure'; without it there is no band.",
)
@click.option("--data", "spec", help="Labelled faces; default: the validation faces of RUN.")
@click.option("--split", help="Of --data: train, val or all.  [default: val]")
@click.option("--device", type=device_value, default="auto", show_default=True)
@json_option
def decide(
    run: Path,
    given: tuple[str, ...],
    rule: "ThresholdRule | None",
    sure_accuracy: float | None,
    spec: str | None,
    split: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Choose from which probability on RUN says yes, attribute by attribute.

    The choice is made on the faces that RUN was selected on, and takes the place of the one
    before in the model; weights and probabilities stay. A --sure-accuracy by which every answer
    would be 'not sure' changes nothing. RUN is a run folder, or with --data a
    packed model. Thresholds of your own follow as ATTRIBUTE=THRESHOLD, such as Smiling=0.7.
    """
    from sspl.errors import SettingsError
    from sspl.evaluation.decide_run import decide as run_decide
    from sspl.evaluation.decide_run import other_faces, validation_faces
    from sspl.training.stage_settings import RuntimeSettings

    if split is not None and spec is None:
        raise SettingsError("--split: it is for --data; the run itself names its faces.")
    if spec is None:
        faces = validation_faces(run)
    else:
        faces = other_faces(run, data_of_model(spec, run), split or "val")
    if rule is None and sure_accuracy is None and not given:
        rule = "balanced"
    found = run_decide(
        run,
        faces,
        spec is None,
        rule,
        sure_accuracy,
        _thresholds(given),
        RuntimeSettings(device=device),
    )
    say(found.text(), found.summary, as_json)


def _thresholds(given: tuple[str, ...]) -> dict[str, float]:
    from sspl.errors import SettingsError

    found: dict[str, float] = {}
    for text in given:
        name, equals, value = text.rpartition("=")
        try:
            threshold = float(value)
        except ValueError:
            threshold = -1.0
        if not (equals and name and 0 <= threshold <= 1) or name in found:
            raise SettingsError(f"'{text}': give ATTRIBUTE=THRESHOLD once, from 0 to 1.")
        found[name] = threshold
    return found
