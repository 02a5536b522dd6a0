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
