"""`sspl suggest` and `sspl label`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sspl.cli.completion import attribute_names
from sspl.cli.options import (
    NO_MASKS,
    DataCommand,
    data_without,
    json_option,
    on_error_option,
    overrides,
    say,
)
from sspl.cli.values import (
    FileOut,
    Finite,
    at_least,
    device_value,
    file_in,
    host_value,
    path_in,
    port_value,
    seed_value,
    start_in,
)
from sspl.weights import BUILT_IN

if TYPE_CHECKING:
    from sspl.data.skipping import OnError


@click.command(cls=DataCommand)
@click.argument("faces")
@click.option(
    "--from",
    "source",
    type=start_in,
    default=BUILT_IN,
    show_default=True,
    help="Run folder of stage 1, or of a fine-tuned model; builtin: the package's own weights.",
)
@click.option("--labelled", help="Labels so far: a CSV file, or FORMAT:PATH as in --data.")
@click.option(
    "--attributes",
    shell_complete=attribute_names,
    help="Those to look at: A,B,C. Default: those of the labels.",
)
@click.option("--count", type=at_least(1), default=50, show_default=True)
@click.option("--seed", type=seed_value, default=0, show_default=True)
@click.option("--out", type=FileOut(".csv"), required=True)
@click.option("--device", type=device_value, default="auto", show_default=True)
@on_error_option
@json_option
def suggest(
    faces: str,
    source: Path,
    labelled: str | None,
    attributes: str | None,
    count: int,
    seed: int,
    out: Path,
    device: str,
    on_error: "OnError",
    as_json: bool,
) -> None:
    """Write a list of those of FACES that are most worth labelling next.

    FACES is a folder, or FORMAT:PATH[,crop=celeba] as in --data. Without labels and with stage 1
    alone the list is of faces unlike each other; with either of them it is of faces that a model
    is unsure of, and unlike each other.
    """
    from sspl.apps.labelling.suggest import suggest as run
    from sspl.io.locks import claimed
    from sspl.io.progress import counted
    from sspl.training.feature_source import load_source

    data = data_without(faces, NO_MASKS, "masks")
    known = None
    if labelled is not None:
        known = data_without(labelled, "the faces say how they are cut", "crop", "masks")
    with claimed(out):
        found = run(
            load_source(source),
            data,
            known,
            count,
            out,
            attributes=names_in(attributes),
            seed=seed,
            device=device,
            on_error=on_error,
        )
    say(f"{counted(found, 'face')} in {out}", {"faces": found, "out": str(out)}, as_json)


@click.command(cls=DataCommand)
@click.argument("faces")
@overrides
@click.option(
    "--attributes", required=True, shell_complete=attribute_names, help="What to ask for: A,B,C."
)
@click.option(
    "--out",
    type=FileOut(".csv"),
    required=True,
    help="CSV file of the answers; goes on where it stands.",
)
@click.option(
    "--from",
    "source",
    type=start_in,
    help="Run folder of stage 1, of a fine-tuned model, or builtin: suggests the next faces.",
)
@click.option("--order", type=path_in, help="CSV file with the faces to begin with.")
@click.option("--without", type=path_in, help="CSV file with faces not to show.")
@click.option(
    "--test",
    type=Finite(0, 0.9),
    default=0,
    show_default=True,
    help="Share of the faces to hold out for the test: random ones among those shown.",
)
@click.option(
    "--definitions",
    type=file_in,
    help="YAML or CSV file of what the attributes mean, which the page shows and changes. "
    "Default: one beside --out.",
)
@click.option("--seed", type=seed_value, default=0, show_default=True)
@click.option(
    "--host", type=host_value, default="127.0.0.1", show_default=True, help="Address to listen on."
)
@click.option("--port", type=port_value, default=8001, show_default=True)
@click.option("--device", type=device_value, default="auto", show_default=True)
@on_error_option
def label(
    faces: str,
    overrides: tuple[str, ...],
    attributes: str,
    out: Path,
    source: Path | None,
    order: Path | None,
    without: Path | None,
    test: float,
    definitions: Path | None,
    seed: int,
    host: str,
    port: int,
    device: str,
    on_error: "OnError",
) -> None:
    """Label FACES by keyboard on a local page; every answer is saved at once.

    FACES is a folder, or FORMAT:PATH[,crop=celeba] as in --data. Without --from and --order the
    faces come by chance, which is right for faces to judge a model by; --test 0.2 marks a fifth of
    those shown as such, whatever is suggested. Limits follow as key=value, such as every=50.
    """
    from sspl.apps.labelling.labelling_settings import LabellingSettings
    from sspl.apps.labelling.start import run_labelling
    from sspl.settings import build

    run_labelling(
        data_without(faces, NO_MASKS, "masks"),
        names_in(attributes),
        out,
        build(LabellingSettings, {}, overrides),
        source=source,
        order=order,
        without=without,
        test=test,
        definitions=definitions,
        seed=seed,
        host=host,
        port=port,
        device=device,
        on_error=on_error,
    )


def names_in(text: str | None) -> tuple[str, ...]:
    """Return the names of a comma-separated list; raise `SettingsError` for one twice or empty."""
    from sspl.domain.attributes import plain_name
    from sspl.errors import SettingsError

    names = tuple(map(plain_name, text.split(","))) if text else ()
    if "" in names or len(set(names)) < len(names):
        raise SettingsError(f"attributes '{text}': give each name once, as in Eyeglasses,Smiling.")
    return names
