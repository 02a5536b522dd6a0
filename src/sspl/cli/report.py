"""`sspl report`: a run or a study as one HTML page."""

from pathlib import Path

import click

from sspl.cli.options import json_option, say
from sspl.cli.values import FileOut, folder_in


@click.command()
@click.argument("run", type=folder_in)
@click.option("--out", type=FileOut(".html", ".htm"), required=True, help="HTML file.")
@click.option("--split", default="test", show_default=True, help="Which evaluation of a run.")
@click.option(
    "--faces",
    "show",
    is_flag=True,
    help="Put small pictures of real faces into the page: confident mistakes, or the tasks of "
    "stage 1. They are personal data.",
)
@click.option(
    "--data", "spec", help="Where those faces are; default: the data of the run or study."
)
@click.option(
    "--pair",
    nargs=2,
    metavar="A B",
    help="Of a study: the method to look at and the one to compare it with, attribute by "
    "attribute; default: sspl scratch.",
)
@click.option(
    "--resamples",
    type=click.IntRange(100, 1_000_000),
    default=1000,
    show_default=True,
    help="Of a study: bootstrap resamples.",
)
@json_option
def report(
    run: Path,
    out: Path,
    split: str,
    show: bool,
    spec: str | None,
    pair: tuple[str, str] | None,
    resamples: int,
    as_json: bool,
) -> None:
    """Write a report of RUN as one HTML file that needs nothing else.

    RUN is a run folder, or the folder of a study ('sspl benchmark'). Judge a fine-tuned run first
    ('sspl evaluate'). The page opens without a network and prints.
    """
    from sspl.errors import SettingsError
    from sspl.io.files import write_text
    from sspl.io.locks import claimed
    from sspl.reporting.differences import DIFFERENCES_FILE, write_differences
    from sspl.reporting.faces import faces_of_run, faces_of_study
    from sspl.reporting.run_report import run_report
    from sspl.reporting.study_report import study_report
    from sspl.study.results import RESULTS_FILE

    if (run / RESULTS_FILE).is_file():
        found = run / DIFFERENCES_FILE
        with claimed(out), claimed(found):
            faces, box = faces_of_study(run, spec) if show else (None, None)
            page, differences = study_report(run, pair, resamples, faces, box)
            write_text(out, page)
            write_differences(found, differences)
        result = {"out": str(out), "differences": str(found)}
        say(f"report in {out}, its differences in {found}", result, as_json)
        return
    if pair is not None:
        raise SettingsError(f"--pair: {run} is no study; leave it out.")
    with claimed(out):
        faces, box = faces_of_run(run, spec) if show else (None, None)
        write_text(out, run_report(run, split, faces, box))
    say(f"report in {out}", {"out": str(out)}, as_json)
