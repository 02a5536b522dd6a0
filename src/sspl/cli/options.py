"""Options that several commands share."""

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from sspl.cli.completion import keys_for
from sspl.cli.values import Finite, at_least, given_value, own_code, path_in, text_value

if TYPE_CHECKING:
    from sspl.data.data_settings import DataSettings
    from sspl.data.records import FaceSet
    from sspl.data.skipping import Skipped
    from sspl.inference.sources import Source

F = TypeVar("F", bound=Callable[..., Any])

overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")


def overrides_of(command: str) -> Callable[[F], F]:
    """Return the argument of a command whose settings 'sspl settings' lists."""
    return click.argument(
        "overrides", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=keys_for(command)
    )


settings_file = click.option(
    "--settings",
    "settings_file",
    type=path_in,
    help="YAML file of settings; key=value wins over it.",
)
backbone_option = click.option(
    "--backbone",
    type=own_code,
    help="A backbone of your own to learn with; its code runs, and no model carries it along.",
)
resume_option = click.option("--resume", is_flag=True, help="Go on with the run in --out.")
on_error_option = click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="What to do with a picture that cannot be read; skip leaves it out and lists it.",
)
detector_option = click.option(
    "--detector", type=click.Choice(["yunet", "haar"]), default="yunet", show_default=True
)
min_score_option = click.option(
    "--min-score",
    type=Finite(0),
    help="Least score of a face: yunet 0 to 1 (default 0.6), haar a number of hits (default 3).",
)
min_size_option = click.option(
    "--min-size",
    type=at_least(1),
    default=40,
    show_default=True,
    help="Px that the shorter side of a face must have in the photograph.",
)
inputs_argument = click.argument("inputs", nargs=-1, required=True, type=given_value)
largest_option = click.option(
    "--all/--largest", "every_face", default=True, help="Faces of a picture to report."
)
every_option = click.option(
    "--every",
    type=at_least(1),
    default=1,
    show_default=True,
    help="Take each so many-th frame of a video or camera.",
)
frames_option = click.option(
    "--frames", type=at_least(1), help="Stop after so many frames of each."
)
detect_option = click.option(
    "--detect/--no-detect",
    default=None,
    help="Find the faces of each picture, or take it as one aligned face. "
    "Default: find them in videos and before cameras only.",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(0, 1024),
    default=0,
    show_default=True,
    help="Threads that read pictures and find faces; 0: one a core.",
)

LOOKING: Final = (
    detect_option,
    detector_option,
    min_score_option,
    min_size_option,
    largest_option,
    every_option,
    frames_option,
)


def looking_options(command: Callable[..., object]) -> Callable[..., object]:
    """Give a command the options about faces in pictures, videos and cameras."""
    for option in reversed(LOOKING):
        command = option(command)
    return command


NO_MASKS: Final = "no mask is looked at here"


class DataCommand(click.Command):
    """A command that takes sets of faces; its help names their formats."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write which formats there are."""
        from sspl.data.adapters import FORMATS

        formatter.write_paragraph()
        formatter.write_text(
            f"FORMAT is {', '.join(FORMATS)}, or FILE.py:NAME for a data set of your own."
        )


def open_inputs(
    inputs: tuple[str, ...],
    every: int,
    frames: int | None,
    check: "Callable[[DataSettings], None]",
    skipped: "Skipped | None" = None,
) -> "list[Source]":
    """Return what the arguments of a command that looks at pictures stand for.

    `check` refuses a set of faces; `skipped` takes those whose names are not UTF-8.
    """
    from sspl.data.skipping import Skipped
    from sspl.inference.sources import open_sources

    left_out = (Skipped("fail") if skipped is None else skipped).note

    def open_faces(spec: str) -> "FaceSet":
        data = data_without(spec, NO_MASKS, "masks")
        check(data)
        return data.open()

    return open_sources(inputs, open_faces, every, frames, left_out)


def detection(
    detect: bool | None, detector: str, min_score: float | None, min_size: int, every_face: bool
) -> dict[str, object]:
    """Return the settings of prediction that the options about faces stand for."""
    return {
        "detect": "auto" if detect is None else "yes" if detect else "no",
        "detection": {
            "detector": detector,
            "min_score": min_score,
            "min_size": min_size,
            "largest": not every_face,
        },
    }


opset_option = click.option(
    "--opset", type=at_least(18), default=18, show_default=True, help="ONNX operator set."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else."
)


def say(text: str, result: object, as_json: bool) -> None:
    """Print a result: in words, or as one line of JSON."""
    click.echo(json.dumps(result, ensure_ascii=False) if as_json else text)


def closing(where: str, seconds: float, following: str) -> str:
    """Return the end of what a long command says: where things lie, how long, what comes next."""
    from sspl.io.progress import spoken

    return f"{where}; it took {spoken(seconds)}.\nNext: {following}"


def ending(figures: Mapping[str, Any], out: Path, seconds: float, following: str) -> str:
    """Return the figures of a run that is over, rounded, how long it took, and what comes next."""
    rounded = {n: f"{v:.4g}" if isinstance(v, float) else v for n, v in figures.items()}
    lines = [f"{name:<28} {value}" for name, value in rounded.items()]
    return "\n".join([*lines, closing(f"The run is in {out}", seconds, following)])


def _silence(context: click.Context, parameter: click.Parameter, quiet: bool) -> None:
    if quiet:
        # tqdm reads this when it is imported, which commands do only when they run.
        os.environ["TQDM_DISABLE"] = "1"
        logging.basicConfig(level=logging.WARNING, format="%(message)s")


def lets_models_run_code(command: click.Command) -> None:
    """Give a command that opens models the option that names the code of their backbone."""
    command.params.append(
        click.Option(
            ["--backbone"],
            type=own_code,
            expose_value=False,
            help="The code of a model's backbone, which runs only where you name it here.",
        )
    )


def complete(command: click.Command) -> None:
    """Give a command, and all below it, the switch --quiet; let its words be text."""
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        complete(below)
    for parameter in command.params:
        if parameter.type is click.STRING:
            parameter.type = text_value
    command.params.append(
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_silence,
            help="No progress bars and remarks: the result and errors alone.",
        )
    )


def data_of_model(spec: str, model: Path) -> "DataSettings":
    """Parse a data spec for a command that looks at faces as a fine-tuned model does.

    Raises `SettingsError` for masks, which it does not use, and for a crop that is not its own.
    """
    from sspl.models.model_metadata import read_metadata

    data = data_without(spec, NO_MASKS, "masks")
    data.require_box(read_metadata(model).box, str(model))
    return data


def data_without(spec: str, why: str, *options: str) -> "DataSettings":
    """Parse a data spec for a command that would have to ignore some of its options.

    Raises `SettingsError` naming the first of `options` that the spec sets.
    """
    from sspl.data.data_settings import parse_data_spec
    from sspl.errors import SettingsError

    data = parse_data_spec(spec)
    for option in options:
        if option in data.model_fields_set:
            raise SettingsError(f"data '{spec}': leave {option} out here; {why}.")
    return data
