"""`sspl compare`: two runs on the same faces."""

from pathlib import Path
from typing import Final

import click

from sspl.cli.options import json_option, say
from sspl.cli.values import file_out, folder_in

PAIRED_FIGURES: Final = ("accuracy", "balanced_accuracy", "f1", "average_precision", "auc")


@click.command()
@click.argument("run_a", type=folder_in)
@click.argument("run_b", type=folder_in)
@click.option("--split", default="test", show_default=True)
@click.option(
    "--figure",
    type=click.Choice(PAIRED_FIGURES),
    default="balanced_accuracy",
    show_default=True,
    help="What to list for each attribute.",
)
@click.option("--resamples", type=click.IntRange(100, 1_000_000), default=1000, show_default=True)
@click.option("--out", type=file_out, help="Write all figures as JSON.")
@json_option
def compare(
    run_a: Path,
    run_b: Path,
    split: str,
    figure: str,
    resamples: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Say where RUN_A is better than RUN_B, and where that cannot be said.

    Both were judged on the same faces by 'sspl evaluate'; a RUN is a run folder or a file of
    predictions. One is called better only where the bootstrap interval of the difference
    excludes zero.
    """
    from sspl.evaluation.paired import paired_summary, paired_table
    from sspl.evaluation.predictions import load_predictions, predictions_file
    from sspl.io.files import write_json
    from sspl.io.progress import counted

    files = [run if run.is_file() else predictions_file(run, split) for run in (run_a, run_b)]
    a, b = (load_predictions(file) for file in files)
    summary = paired_summary([a], [b], f"{run_a} and {run_b}", resamples)
    named = {"a": str(files[0]), "b": str(files[1]), **summary}
    if out is not None:
        write_json(out, named)
    title = f"A: {run_a}\nB: {run_b}\n{counted(summary['faces'], 'face')}\n"
    say(f"{title}\n{paired_table(summary, figure)}", named, as_json)
