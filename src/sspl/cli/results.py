"""`sspl results`: the results section of a README."""

from pathlib import Path

import click

from sspl.cli.options import json_option, say


@click.command()
@click.argument("readme", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--from", "table", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="results.csv of a study; NAME-differences.csv beside NAME.csv is used too.",
)  # fmt: skip
@json_option
def results(readme: Path, table: Path, as_json: bool) -> None:
    """Write the results of a study into README, between its two marker lines.

    The lines are '<!-- results: begin -->' and '<!-- results: end -->'.
    """
    from sspl.reporting.readme import write_section

    changed = write_section(readme, table)
    text = f"{readme}: {'written' if changed else 'nothing to change'}"
    say(text, {"readme": str(readme), "changed": changed}, as_json)
