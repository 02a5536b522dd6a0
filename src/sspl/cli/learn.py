"""`sspl learn`."""

import logging
from pathlib import Path

import click

from sspl.cli.completion import attribute_names
from sspl.cli.label import names_in
from sspl.cli.options import json_option, overrides_of, say
from sspl.cli.values import Finite, file_in, folder_out, only_folder_in, seed_value


@click.command()
@click.argument("photos", type=only_folder_in)
@overrides_of("finetune")
@click.option(
    "--attributes", shell_complete=attribute_names, help="What to learn: A,B,C.  [default: all]"
)
@click.option(
    "--labels", type=file_in, help="CSV of labels by photograph; without it a page asks for them."
)
@click.option("--out", type=folder_out, required=True, help="Folder for everything that is made.")
@click.option(
    "--test",
    type=Finite(0, 0.9, min_open=True),
    default=0.2,
    show_default=True,
    help="Share of the labelled faces that is held out, where the labels name no test split.",
)
@click.option(
    "--minutes",
    type=Finite(0, min_open=True),
    default=15,
    show_default=True,
    help="What stage 1 on these faces may take.",
)
@click.option(
    "--features",
    multiple=True,
    help="A network of others that knows faces, as in 'sspl probe': it helps to teach the model, "
    "which does without it afterwards; repeatable.",
)
@click.option("--seed", type=seed_value, default=0, show_default=True)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and about how long.")
@json_option
def learn(
    photos: Path,
    overrides: tuple[str, ...],
    attributes: str | None,
    labels: Path | None,
    out: Path,
    test: float,
    minutes: float,
    features: tuple[str, ...],
    seed: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """From the photographs in PHOTOS to a model that is judged, reported and packed.

    Finds the faces, labels them (on a local page, or by --labels), learns from a part of the labels
    and judges on the rest. Each step is a command of its own; they are written to steps.txt.
    Interrupted, it goes on when it is repeated. Settings of stage 2 follow as key=value.
    """
    from dataclasses import asdict

    from sspl.data.adapters.folder import read_folder
    from sspl.learn.labels import read_labels
    from sspl.learn.learn_settings import LearnSettings
    from sspl.learn.plan import plan, plan_text
    from sspl.settings import build
    from sspl.training.feature_settings import feature_text, parse_features

    given = {
        "photographs": photos.absolute(),
        "attributes": names_in(attributes),
        "labels": labels.absolute() if labels else None,
        "test": test,
        "minutes": minutes,
        "features": [feature_text(parse_features(text)) for text in features],
        "seed": seed,
    }
    settings = build(LearnSettings, given)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if dry_run:
        pictures = len(read_folder(photos))
        labelled = len(read_labels(labels, photos)) if labels else pictures
        steps = plan(settings, out, pictures, labelled, overrides)
        say(plan_text(steps), {"steps": [asdict(step) for step in steps]}, as_json)
        return
    # Only now torch is loaded.
    from sspl.learn.steps import learn as run

    found = run(settings, out, overrides=overrides)
    say(found.text(), found.result(), as_json)
