"""`sspl results`: the results section of a README."""

from pathlib import Path

import click

from sspl.cli.options import json_option, say
from sspl.cli.values import file_in, file_out


@click.command()
@click.argument("readme", type=file_in)
@click.option(
    "--from",
    "tables",
    required=True,
    multiple=True,
    type=file_in,
    help="results.csv of a study; NAME-differences.csv beside NAME.csv is used too. Repeatable.",
)
@click.option("--brief", is_flag=True, help="One table of fine-tuning.")
@click.option("--method", "methods", multiple=True, help="Show this method; all unless given.")
@click.option(
    "--picture",
    type=file_out,
    help="Also draw the curves of the first table, as PNG (pip install '.[plots]').",
)
@json_option
def results(
    readme: Path,
    tables: tuple[Path, ...],
    brief: bool,
    methods: tuple[str, ...],
    picture: Path | None,
    as_json: bool,
) -> None:
    """Write the results of studies into README, between its two marker lines.

    The lines are '<!-- results: begin -->' and '<!-- results: end -->'.
    """
    from sspl.reporting.picture import draw_curves, require_matplotlib
    from sspl.reporting.readme import write_section

    if picture is not None:
        require_matplotlib()
    changed = write_section(readme, tables, brief, methods)
    if picture is not None:
        draw_curves(tables[0], picture)
    text = f"{readme}: {'written' if changed else 'nothing to change'}"
    result = {"readme": str(readme), "changed": changed}
    say(text, result | ({"picture": str(picture)} if picture else {}), as_json)
