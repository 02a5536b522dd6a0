"""`sspl benchmark`: the label-efficiency study."""

import logging
from dataclasses import asdict
from pathlib import Path

import click

from sspl.cli.completion import study_names
from sspl.cli.options import json_option, overrides_of, say
from sspl.cli.values import at_least, devices_value, folder_in, folder_out, option_value


@click.command()
@overrides_of("benchmark")
@click.option(
    "--config",
    required=True,
    shell_complete=study_names,
    help="A study: a YAML file, or builtin, builtin-lfw, builtin-utkface, celeba10k, lfw, utkface, "
    "paper-celeba, paper-lfwa, paper-maad.",
)
@click.option("--out", type=folder_out, required=True, help="Folder of the study.")
@click.option("--data", "spec", help="Labelled faces, instead of those in the study.")
@click.option(
    "--unlabelled",
    multiple=True,
    help="Faces of stage 1 with masks, instead of those in the study; repeatable.",
)
@click.option(
    "--stage1", type=folder_in, help="Runs of stage 1 to use and add to, another study's say."
)
@click.option("--only", multiple=True, help="Only cells of this method; repeatable.")
@click.option(
    "--labels", multiple=True, type=at_least(2), help="Only this label count; repeatable."
)
@click.option(
    "--devices",
    type=devices_value,
    help="Work on several cells at once, a process a device: cuda:0,cuda:1 or cpu,cpu.",
)
@click.option(
    "--tasks",
    type=at_least(1),
    help="Hand in an array job of so many tasks to the cluster (Slurm).",
)
@click.option(
    "--slurm",
    type=option_value,
    multiple=True,
    help="What each task gets, as submitit names it: gpus_per_node=1, timeout_min=720; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="List the cells and how long they will take.")
@json_option
def benchmark(
    overrides: tuple[str, ...],
    config: str,
    out: Path,
    spec: str | None,
    unlabelled: tuple[str, ...],
    stage1: Path | None,
    only: tuple[str, ...],
    labels: tuple[int, ...],
    devices: tuple[str, ...] | None,
    tasks: int | None,
    slurm: tuple[tuple[str, str], ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Compare methods over label counts, label subsets and protocols.

    Repeat the command to go on: what is done is not done again, what failed is tried again. Several
    processes may work on one folder, on one machine (--devices) or many. Settings follow as
    key=value, such as seed=1.
    """
    from sspl.errors import SsplError
    from sspl.reporting.paper_tables import TABLES_FOLDER, write_tables
    from sspl.study.cells import list_cells
    from sspl.study.estimate import report, survey
    from sspl.study.results import RESULTS_FILE, results_table
    from sspl.study.runner import Study
    from sspl.study.study_settings import load_study

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = {} if spec is None else {"data": spec}
    settings = load_study(
        config, overrides, given | ({"unlabelled": unlabelled} if unlabelled else {})
    )
    cells = list_cells(settings, only, labels)
    study = Study(settings, out, stage1)
    if dry_run:
        pieces = survey(study, cells)
        say(report(pieces), {"pieces": [asdict(piece) for piece in pieces]}, as_json)
        return
    if tasks:
        from sspl.study.cluster import JOBS_FOLDER, submit

        number = submit(study, cells, tasks, dict(slurm))
        text = f"job {number}: {tasks} tasks for {len(cells)} cells; they write {out / JOBS_FOLDER}"
        say(f"{text}. Repeat the command without --tasks for the table.", {"job": number}, as_json)
        return
    failures = study.run_on(devices, cells) if devices else study.run(cells)
    done, table = len(cells) - len(failures), out / RESULTS_FILE
    write_tables(settings, out)
    say(
        f"{results_table(out)}\n\n{done} of {len(cells)} cells are in {table}, and as tables for a "
        f"paper in {out / TABLES_FOLDER}",
        {"cells": len(cells), "done": done, "failed": failures, "table": str(table)},
        as_json,
    )
    if failures:
        name, sentence = next(iter(failures.items()))
        raise SsplError(
            f"{len(failures)} of {len(cells)} cells failed, the first is {name} ({sentence}); "
            "repeat the command to try them again."
        )
