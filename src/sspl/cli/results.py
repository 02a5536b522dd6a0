"""`sspl results`: the results section of a README."""

from pathlib import Path

import click


@click.command()
@click.argument("readme", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--from", "table", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="results.csv of a study; NAME-differences.csv beside NAME.csv is used too.",
)  # fmt: skip
def results(readme: Path, table: Path) -> None:
    """Write the results of a study into README, between its two marker lines.

    The lines are '<!-- results: begin -->' and '<!-- results: end -->'.
    """
    from sspl.reporting.readme import write_section

    changed = write_section(readme, table)
    click.echo(f"{readme}: {'written' if changed else 'nothing to change'}")
