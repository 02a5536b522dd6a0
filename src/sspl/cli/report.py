"""`sspl report`: a run or a study as one HTML page."""

from pathlib import Path

import click

from sspl.cli.options import folder_in


@click.command()
@click.argument("run", type=folder_in)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="HTML file."
)
@click.option("--split", default="test", show_default=True, help="Which evaluation of a run.")
@click.option(
    "--faces",
    "show",
    is_flag=True,
    help="Put small pictures of real faces into the page: confident mistakes, or the tasks of "
    "stage 1. They are personal data.",
)
@click.option("--data", "spec", help="Where those faces are; default: the run's own data.")
def report(run: Path, out: Path, split: str, show: bool, spec: str | None) -> None:
    """Write a report of RUN as one HTML file that needs nothing else.

    Judge a fine-tuned run first ('sspl evaluate'). The page opens without a network and prints.
    """
    from sspl.files import write_text
    from sspl.reporting.faces import faces_of_run
    from sspl.reporting.run import run_report

    faces, box = faces_of_run(run, spec) if show else (None, None)
    write_text(out, run_report(run, split, faces, box))
    click.echo(f"report in {out}")
