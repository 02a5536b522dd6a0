"""Options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sspl.data.settings import DataSettings

folder_in = click.Path(exists=True, path_type=Path)
folder_out = click.Path(file_okay=False, path_type=Path)

overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
settings_file = click.option(
    "--settings", "settings_file", type=Path, help="YAML file of settings; key=value wins over it."
)
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
    type=click.FloatRange(0),
    help="Least score of a face: yunet 0 to 1 (default 0.6), haar a number of hits (default 3).",
)
min_size_option = click.option(
    "--min-size",
    type=click.IntRange(1),
    default=40,
    show_default=True,
    help="Px that the shorter side of a face must have in the photograph.",
)


def data_without(spec: str, why: str, *options: str) -> "DataSettings":
    """Parse a data spec for a command that would have to ignore some of its options.

    Raises `SettingsError` naming the first of `options` that the spec sets.
    """
    from sspl.data.settings import parse_data_spec
    from sspl.errors import SettingsError

    data = parse_data_spec(spec)
    for option in options:
        if option in data.model_fields_set:
            raise SettingsError(f"data '{spec}': leave {option} out here; {why}.")
    return data
