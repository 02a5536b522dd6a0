"""Learning curves of stage 2 with and without pre-training, on the validation faces.

    python benchmarks/curves.py OUT [OUT ...] --picture curves.png

OUT are folders that `with_and_without.py` wrote, one for each number of labels. Prints each arm's
accuracy epoch by epoch, mean and standard deviation over the label subsets, and draws all figures.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from sspl.evaluation.comparison import PRETRAINED, SCRATCH, spread
from sspl.io.files import atomic_path
from sspl.io.tensorboard import read_rows

ARMS = {PRETRAINED: "pre-trained", SCRATCH: "from-scratch"}
FIGURES = ("val/accuracy", "val/balanced_accuracy", "val/average_precision")
SHOWN = 8
"""Epochs that are printed, at most."""

Curve = list[dict[str, str]]
"""The epochs of one run that were validated, as `metrics.csv` has them."""


def curve(run: Path) -> Curve:
    """Return the validated epochs of a run of stage 2."""
    return [row for row in read_rows(run) if row[FIGURES[0]]]


def draw(rows: Sequence[Mapping[str, Sequence[Curve]]], titles: Sequence[str], path: Path) -> None:
    """Draw one row of charts for each title; every mapping holds the runs of each way."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2 * len(rows) + 0.2), layout="constrained")
    grid = figure.subplots(len(rows), len(FIGURES), squeeze=False)
    for line, ways, title in zip(grid, rows, titles, strict=True):
        for axes, name in zip(line, FIGURES, strict=True):
            for number, (way, runs) in enumerate(ways.items()):
                for again, run in enumerate(runs):
                    axes.plot(
                        [int(row["epoch"]) for row in run],
                        [100 * float(row[name]) for row in run],
                        f"C{number}",
                        alpha=0.7,
                        label=None if again else way,
                    )
            axes.set_title(f"{title}{name.removeprefix('val/').replace('_', ' ')}, %", fontsize=10)
            axes.set_xlabel("epoch (validation faces)")
        line[-1].legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def table(ways: Mapping[str, Sequence[Curve]], title: str) -> str:
    """Return accuracy in percent at up to `SHOWN` epochs, evenly spread and the last of them."""
    some = next(iter(ways.values()))[0]
    step = -(-len(some) // SHOWN)
    places = range((len(some) - 1) % step, len(some), step)
    lines = [f"{title:<20}" + "".join(f"{'epoch ' + some[p]['epoch']:>16}" for p in places)]
    for way, runs in ways.items():
        cells = [spread([float(run[p][FIGURES[0]]) for run in runs]) for p in places]
        lines.append(f"{way:<20}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


@click.command()
@click.argument("folders", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option("--picture", type=click.Path(path_type=Path), help="PNG to draw.")
def main(folders: tuple[Path, ...], picture: Path | None) -> None:
    found = [
        {
            arm: [curve(run) for run in sorted((folder / name).glob("subset-*"))]
            for arm, name in ARMS.items()
        }
        for folder in folders
    ]
    for folder, ways in zip(folders, found, strict=True):
        click.echo(table(ways, folder.name))
    if picture:
        titles = [f"{folder.name}: " if len(folders) > 1 else "" for folder in folders]
        draw(found, titles, picture)


if __name__ == "__main__":
    main()
