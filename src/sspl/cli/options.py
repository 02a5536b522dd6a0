"""Options that several commands share."""

from pathlib import Path

import click

folder_in = click.Path(exists=True, path_type=Path)
folder_out = click.Path(file_okay=False, path_type=Path)

overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
settings_file = click.option(
    "--settings", "settings_file", type=Path, help="YAML file of settings; key=value wins over it."
)


def refuse_options(spec: str | None, why: str, *options: str) -> None:
    """Refuse data options that a command would have to ignore.

    Raises `SettingsError` naming the first of `options` that the spec sets.
    """
    from sspl.data.settings import parse_data_spec
    from sspl.errors import SettingsError

    if spec is None:
        return
    given = parse_data_spec(spec).model_fields_set
    for option in options:
        if option in given:
            raise SettingsError(f"data '{spec}': leave {option} out here; {why}.")
