"""Make one cell of a study again, and compare it with the figures that are committed.

    make reproduce CELL=celeba10k/pst+pct/finetune/labels-55/subset-0
    python -m tools.reproduce STUDY/METHOD/PROTOCOL/labels-N/subset-S [--from TABLE.csv]
        [--out FOLDER] [--stage1 FOLDER] [--tolerance 0.5]

STUDY is one of the package, and the table that of the same name in benchmarks/results. The cell is
run as `sspl benchmark` runs it, and goes on where it was stopped; its stage 1 is looked for in, or
learnt into, FOLDER/pretrained. It is done when no figure is further from the committed one than
`--tolerance`, in points: figures are the same to the last digit only on the same machine, with
the same versions and the same code, and what of these differs is said.
"""

import csv
import sys
from pathlib import Path
from typing import Final

import click

from sspl.errors import SsplError
from sspl.study.cells import Cell, list_cells
from sspl.study.results import FIGURE_COLUMNS, RESULTS_FILE
from sspl.study.runner import Study
from sspl.study.study_settings import StudySettings, load_study

TABLES: Final = Path(__file__).parents[1] / "benchmarks" / "results"
OUT: Final = Path("build") / "reproduce"

Row = dict[str, str]


def cell_named(study: StudySettings, name: str) -> Cell:
    """Return the cell of that folder name; raise `SsplError` when the study has none."""
    cells = {cell.name: cell for cell in list_cells(study)}
    if name not in cells:
        some = ", ".join(list(cells)[:3])
        raise SsplError(f"{study.name} has no cell '{name}'; its first are {some}.")
    return cells[name]


def committed(table: Path, cell: Cell, seed: int) -> Row:
    """Return the row of a cell's test figures; raise `SsplError` when the table has none."""
    wanted = (cell.method, cell.protocol, str(cell.labels), cell.subset_text, str(seed))
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found = tuple(row[c] for c in ("method", "protocol", "labels", "subset", "seed"))
            if found == wanted and row["split"] == "test":
                return row
    raise SsplError(f"{table}: has no test figures of {cell.name} with seed {seed}.")


def apart(before: Row, now: Row) -> dict[str, tuple[float, float]]:
    """Return both values of each figure in points, committed ones first."""
    return {
        name: (100 * float(before[name]), 100 * float(now[name]))
        for name in FIGURE_COLUMNS
        if before[name] and now[name]
    }


def other_facts(before: Row, now: Row) -> list[str]:
    """Return what differs, beside the figures, between two rows of one cell."""
    lines = []
    for fact in ("settings_hash", "code_hash", "machine"):
        there = before.get(fact) or "not recorded"
        if there != now[fact]:
            lines.append(f"{fact}: {now[fact]}; committed: {there}")
    return lines


@click.command()
@click.argument("cell")
@click.option("--from", "table", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path), default=OUT, show_default=True)
@click.option("--stage1", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--tolerance", type=click.FloatRange(0), default=0.5, show_default=True)
def main(cell: str, table: Path | None, out: Path, stage1: Path | None, tolerance: float) -> None:
    """Make CELL, as STUDY/METHOD/PROTOCOL/labels-N/subset-S, again."""
    name, _, rest = cell.partition("/")
    settings = load_study(name)
    one = cell_named(settings, rest)
    before = committed(table or TABLES / f"{settings.name}.csv", one, settings.seed + one.repeat)
    failed = Study(settings, out / settings.name, stage1).run([one])
    if failed:
        raise SsplError(f"{one.name} failed: {failed[one.name]}.")
    now = committed(out / settings.name / RESULTS_FILE, one, settings.seed + one.repeat)
    furthest = 0.0
    for title, (there, here) in apart(before, now).items():
        furthest = max(furthest, abs(here - there))
        click.echo(f"{title:<20}{here:>9.3f}  committed {there:>9.3f}  {here - there:>+8.3f}")
    for line in other_facts(before, now):
        click.echo(line)
    if furthest > tolerance:
        click.echo(f"not the same: {furthest:.3f} points apart, more than {tolerance:g}")
        sys.exit(1)
    click.echo("the same to the last digit" if furthest < 1e-3 else f"within {tolerance:g} points")


if __name__ == "__main__":
    try:
        main()
    except SsplError as error:
        sys.exit(f"Error: {error}")
