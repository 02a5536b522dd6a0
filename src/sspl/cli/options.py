"""Options that several commands share."""

from pathlib import Path

import click

folder_in = click.Path(exists=True, path_type=Path)
folder_out = click.Path(file_okay=False, path_type=Path)

overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
settings_file = click.option(
    "--settings", "settings_file", type=Path, help="YAML file of settings; key=value wins over it."
)
